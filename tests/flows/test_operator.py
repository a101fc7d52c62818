"""An operator's decision about undelivered messages takes effect at once, on the running host."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from nanohost.channel_api import Capabilities
from nanohost.commands.registry import find_command
from nanohost.errors import UsageError
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.flows.host_fixture import HostTestEnv
from tests.flows.test_delivery import attempts, statuses
from tests.support.fast_clock import AcceleratedClock

ASK: dict[str, object] = {"ambiguous": "ask"}


@pytest.mark.behaviour("DL-03", "OP-01")
async def test_a_refused_delivery_is_listed_in_status_and_sent_on_resend(
    host_env_with_events: HostTestEnv,
) -> None:
    host_env_with_events.fake.should_refuse = True
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("one")
        await statuses(flow, ["dead"])
        status = await flow.run_command("status")
        [dead] = status["deliveries_dead"]
        assert "nanohost deliveries resend" in find_command("status").render(status)
        host_env_with_events.fake.should_refuse = False
        done = await flow.run_command("deliveries resend", dead["session"], dead["seq"])
        assert (done["status"], done["next"]) == ("pending", "it is sent now")
        await statuses(flow, ["sent"])
        shown = await flow.run_command("deliveries get", dead["session"][:5], dead["seq"])
        assert [(one["number"], one["outcome"]) for one in shown["tries"]] == [(1, "refused"), (2, "sent")]
        assert shown["text"] == "echo: one"
        with pytest.raises(UsageError, match="was sent; it cannot be sent again"):
            await flow.run_command("deliveries resend", dead["session"], dead["seq"])
    assert flow.texts() == ["echo: one"]


@pytest.mark.behaviour("DL-03", "DL-07")
async def test_a_resent_delivery_does_not_wait_for_one_that_waits_longer(
    host_env_with_events: HostTestEnv,
) -> None:
    host_env_with_events.fake.should_refuse = True
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("one")
        await statuses(flow, ["dead"])
        host_env_with_events.fake.should_refuse = False
        host_env_with_events.fake.rate_limited_after_s = 600
        await host_env_with_events.fake.person_writes("two")
        await host_env_with_events.fake.wait_for_attempts(2)
        assert await attempts(flow) == ["refused", "rate_limited"]
        host_env_with_events.fake.rate_limited_after_s = None
        session = await flow.session()
        first, second = (
            await flow.run_command("deliveries list", status="dead"),
            await flow.run_command("deliveries list", status="pending", session=session.id),
        )
        await flow.run_command("deliveries resend", session.id, first[0]["seq"])
        await statuses(flow, ["sent", "pending"])
        await flow.run_command("deliveries drop", session.id, second[0]["seq"], reason="too late")
        await statuses(flow, ["sent", "dropped"])
        await host_env_with_events.fake.person_writes("three")
        await statuses(flow, ["sent", "dropped", "sent"])
        [dropped] = await flow.run_command("deliveries list", status="dropped")
        assert dropped["reason"] == "dropped by the operator: too late"
    assert flow.texts() == ["echo: one", "echo: three"]


@pytest.mark.behaviour("DL-03")
async def test_dropping_a_delivery_sends_the_next_one_at_once(host_env_with_events: HostTestEnv) -> None:
    host_env_with_events.fake.rate_limited_after_s = 600
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("one")
        await host_env_with_events.fake.wait_for_attempts(1)
        assert await attempts(flow) == ["rate_limited"]
        await host_env_with_events.fake.person_writes("two")
        await statuses(flow, ["pending", "pending"])
        host_env_with_events.fake.rate_limited_after_s = None
        last, first = await flow.run_command("deliveries list")
        assert (last["attempts"], first["attempts"]) in {(0, 1), (1, 0)}
        waiting = first if first["attempts"] else last
        await flow.run_command("deliveries drop", waiting["session"], waiting["seq"])
        await statuses(flow, ["dropped", "sent"])
    assert flow.texts() == ["echo: two"]


@pytest.mark.behaviour("DL-05")
async def test_an_ambiguous_send_is_held_for_the_operator_and_delays_nothing(
    host_env_with_events: HostTestEnv,
) -> None:
    host_env_with_events.fake.ambiguous_after_effect = 1
    async with host_env_with_events.run_host(ASK) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("one")
        await statuses(flow, ["unknown"])
        await host_env_with_events.fake.person_writes("two")
        await statuses(flow, ["unknown", "sent"])
        status = await flow.run_command("status")
        [held] = status["deliveries_unknown"]
        assert "deliveries resend" in find_command("status").render(status)
        await flow.run_command("deliveries drop", held["session"], held["seq"], reason="they have it")
        await statuses(flow, ["dropped", "sent"])
        await flow.run_command("deliveries resend", held["session"], held["seq"])
        await statuses(flow, ["sent", "sent"])
    assert flow.texts() == ["echo: one", "echo: two", "echo: one"]


@pytest.mark.behaviour("DL-05")
@pytest.mark.parametrize(("settings", "idempotent"), [({}, False), (ASK, True)], ids=["resend", "ask, idempotent"])
async def test_an_ambiguous_send_is_repeated_where_the_operator_is_not_to_be_asked(
    host_env_with_events: HostTestEnv, settings: dict[str, object], idempotent: bool
) -> None:
    host_env_with_events.fake = FakeChannel(capabilities=Capabilities(idempotent_send=idempotent))
    host_env_with_events.fake.ambiguous_after_effect = 1
    async with host_env_with_events.run_host(settings, clock=AcceleratedClock(200)) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("one")
        await statuses(flow, ["sent"])
    assert flow.texts() == ["echo: one"] * (1 if idempotent else 2)


@pytest.mark.behaviour("DL-05")
@pytest.mark.parametrize(
    ("idempotent", "status", "sends"), [(False, "unknown", 1), (True, "sent", 2)], ids=["asks", "idempotent"]
)
async def test_a_send_interrupted_by_a_kill_is_held_where_repeating_it_could_duplicate(
    host_env_with_events: HostTestEnv, idempotent: bool, status: str, sends: int
) -> None:
    host_env_with_events.fake = FakeChannel(capabilities=Capabilities(idempotent_send=idempotent))
    async with host_env_with_events.run_host(ASK) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(1)
    with closing(sqlite3.connect(flow.home.database)) as database, database:
        database.execute("UPDATE deliveries SET status = 'sending', receipt = '[]'")
        database.execute("UPDATE delivery_attempts SET ended_at = NULL, outcome = NULL")
    async with host_env_with_events.run_host(ASK) as flow:
        await statuses(flow, [status])
        assert (await attempts(flow))[0] == "ambiguous"
    assert host_env_with_events.fake.attempts.total() == sends
    assert flow.texts() == ["echo: hi"]


@pytest.mark.behaviour("DL-03")
async def test_a_revoked_key_pauses_the_channel_and_no_message_is_given_up(host_env_with_events: HostTestEnv) -> None:
    host_env_with_events.fake.credentials_revoked = True
    async with host_env_with_events.run_host(should_verify_clean=False) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_attempts(1)
    async with host_env_with_events.run_host(clock=AcceleratedClock(2000)) as flow:
        await host_env_with_events.fake.wait_for_attempts(8)
        status = await flow.run_command("status")
        assert status["deliveries_waiting"][0]["reason"].startswith("auth: ")
        assert "auth: nanohost channels update fake" in find_command("status").render(status)
        host_env_with_events.fake.credentials_revoked = False
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            await host_env_with_events.fake.wait_for_sent(1)
    assert flow.texts() == ["echo: hi"]

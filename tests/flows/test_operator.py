"""An operator's word on messages that did not arrive takes effect at once, on the running host."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from nanohost.channel_api import Capabilities
from nanohost.commands.registry import find
from nanohost.errors import UsageError
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.limits import HANG_S, seconds
from tests.flows.stage import Stage
from tests.flows.test_delivery import attempts, statuses
from tests.support.hasty_clock import HastyClock

ASK: dict[str, object] = {"ambiguous": "ask"}


@pytest.mark.behaviour("DL-03", "OP-01")
async def test_a_refused_message_is_shown_in_status_and_is_sent_when_the_operator_says_so(watched: Stage) -> None:
    watched.fake.refuses = True
    async with watched.host() as flow:
        await flow.wire()
        await watched.fake.person_writes("one")
        await statuses(flow, ["dead"])
        status = await flow.types("status")
        [dead] = status["deliveries_dead"]
        assert "nanohost deliveries resend" in find("status").render(status)
        watched.fake.refuses = False
        done = await flow.types("deliveries resend", dead["session"], dead["seq"])
        assert (done["status"], done["next"]) == ("pending", "it is sent now")
        await statuses(flow, ["sent"])
        shown = await flow.types("deliveries show", dead["session"][:5], dead["seq"])
        assert [(one["number"], one["outcome"]) for one in shown["tries"]] == [(1, "refused"), (2, "sent")]
        assert shown["text"] == "echo: one"
        with pytest.raises(UsageError, match="was sent; it cannot be sent again"):
            await flow.types("deliveries resend", dead["session"], dead["seq"])
    assert flow.texts() == ["echo: one"]


@pytest.mark.behaviour("DL-03", "DL-07")
async def test_a_message_that_is_sent_again_does_not_wait_for_one_that_waits_longer(watched: Stage) -> None:
    watched.fake.refuses = True
    async with watched.host() as flow:
        await flow.wire()
        await watched.fake.person_writes("one")
        await statuses(flow, ["dead"])
        watched.fake.refuses = False
        watched.fake.rate_limited_after_s = 600
        await watched.fake.person_writes("two")
        await watched.fake.wait_for_attempts(2)
        assert await attempts(flow) == ["refused", "rate_limited"]
        watched.fake.rate_limited_after_s = None
        session = await flow.session()
        first, second = (
            await flow.types("deliveries list", status="dead"),
            await flow.types("deliveries list", status="pending", session=session.id),
        )
        await flow.types("deliveries resend", session.id, first[0]["seq"])
        await statuses(flow, ["sent", "pending"])
        await flow.types("deliveries drop", session.id, second[0]["seq"], reason="too late")
        await statuses(flow, ["sent", "dropped"])
        await watched.fake.person_writes("three")
        await statuses(flow, ["sent", "dropped", "sent"])
        [dropped] = await flow.types("deliveries list", status="dropped")
        assert dropped["reason"] == "dropped by the operator: too late"
    assert flow.texts() == ["echo: one", "echo: three"]


@pytest.mark.behaviour("DL-03")
async def test_a_message_that_is_dropped_makes_way_for_the_next_one_at_once(watched: Stage) -> None:
    watched.fake.rate_limited_after_s = 600
    async with watched.host() as flow:
        await flow.wire()
        await watched.fake.person_writes("one")
        await watched.fake.wait_for_attempts(1)
        assert await attempts(flow) == ["rate_limited"]
        await watched.fake.person_writes("two")
        await statuses(flow, ["pending", "pending"])
        watched.fake.rate_limited_after_s = None
        last, first = await flow.types("deliveries list")
        assert (last["attempts"], first["attempts"]) in {(0, 1), (1, 0)}
        waiting = first if first["attempts"] else last
        await flow.types("deliveries drop", waiting["session"], waiting["seq"])
        await statuses(flow, ["dropped", "sent"])
    assert flow.texts() == ["echo: two"]


@pytest.mark.behaviour("DL-05")
async def test_what_may_have_been_sent_is_held_for_the_operator_and_holds_up_nothing(watched: Stage) -> None:
    watched.fake.ambiguous_after_effect = 1
    async with watched.host(ASK) as flow:
        await flow.wire()
        await watched.fake.person_writes("one")
        await statuses(flow, ["unknown"])
        await watched.fake.person_writes("two")
        await statuses(flow, ["unknown", "sent"])
        status = await flow.types("status")
        [held] = status["deliveries_unknown"]
        assert "deliveries resend" in find("status").render(status)
        await flow.types("deliveries drop", held["session"], held["seq"], reason="they have it")
        await statuses(flow, ["dropped", "sent"])
        await flow.types("deliveries resend", held["session"], held["seq"])
        await statuses(flow, ["sent", "sent"])
    assert flow.texts() == ["echo: one", "echo: two", "echo: one"]


@pytest.mark.behaviour("DL-05")
@pytest.mark.parametrize(("settings", "idempotent"), [({}, False), (ASK, True)], ids=["resend", "ask, idempotent"])
async def test_what_may_have_been_sent_is_sent_again_where_nobody_has_to_be_asked(
    watched: Stage, settings: dict[str, object], idempotent: bool
) -> None:
    watched.fake = FakeChannel(capabilities=Capabilities(idempotent_send=idempotent))
    watched.fake.ambiguous_after_effect = 1
    async with watched.host(settings, clock=HastyClock(200)) as flow:
        await flow.wire()
        await watched.fake.person_writes("one")
        await statuses(flow, ["sent"])
    assert flow.texts() == ["echo: one"] * (1 if idempotent else 2)


@pytest.mark.behaviour("DL-05")
@pytest.mark.parametrize(
    ("idempotent", "status", "sends"), [(False, "unknown", 1), (True, "sent", 2)], ids=["asks", "idempotent"]
)
async def test_what_was_being_sent_when_the_host_was_killed_is_asked_about_where_nobody_can_tell(
    watched: Stage, idempotent: bool, status: str, sends: int
) -> None:
    watched.fake = FakeChannel(capabilities=Capabilities(idempotent_send=idempotent))
    async with watched.host(ASK) as flow:
        await flow.wire()
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for(1)
    with closing(sqlite3.connect(flow.home.database)) as database, database:
        database.execute("UPDATE deliveries SET status = 'sending', receipt = '[]'")
        database.execute("UPDATE delivery_attempts SET ended_at = NULL, outcome = NULL")
    async with watched.host(ASK) as flow:
        await statuses(flow, [status])
        assert (await attempts(flow))[0] == "ambiguous"
    assert watched.fake.attempts.total() == sends
    assert flow.texts() == ["echo: hi"]


@pytest.mark.behaviour("DL-03")
async def test_a_revoked_key_pauses_the_channel_and_nothing_is_given_up(watched: Stage) -> None:
    watched.fake.credentials_revoked = True
    async with watched.host(clean=False) as flow:
        await flow.wire()
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for_attempts(1)
    async with watched.host(clock=HastyClock(2000)) as flow:
        await watched.fake.wait_for_attempts(8)
        status = await flow.types("status")
        assert status["deliveries_waiting"][0]["reason"].startswith("auth: ")
        assert "auth: nanohost channels update fake" in find("status").render(status)
        watched.fake.credentials_revoked = False
        async with asyncio.timeout(seconds(HANG_S)):
            await watched.fake.wait_for(1)
    assert flow.texts() == ["echo: hi"]

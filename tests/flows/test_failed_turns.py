"""A turn that fails after it has sent something, and an unavailable model, with everything real."""

from __future__ import annotations

import asyncio

import pytest

from nanohost.containers.overdue_monitor import PENDING_NOTICE
from nanohost.mailbox import queries
from nanohost.testing.time_limits import scaled_timeout
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import RunningHost, Script
from tests.support.invariants import wait_for_claims, wait_until

PATIENCE_S = 12.0
SAYS = {"tool": "send_message", "arguments": {"text": "I am looking into it"}}
SHOWN = [{"answer": "{prompt}"}]


def script_that_breaks(how: dict[str, object]) -> Script:
    """A script that sends something and fails at first; the second time it shows its prompt."""
    return [{"match": "please", "attempt": 1, "actions": [SAYS, how]}, {"match": "", "actions": SHOWN}]


@pytest.mark.behaviour("RU-08", "RU-09")
async def test_a_retried_turn_is_told_what_its_failed_attempt_already_said(
    host_env_with_events: HostTestEnv,
) -> None:
    """A failed turn and a killed container; their messages are delivered only after the retry began."""
    async with host_env_with_events.run_host() as flow:
        host_env_with_events.fake.is_down = True
        await flow.wire("failed", "failed", script=script_that_breaks({"error": "transient"}))
        await flow.wire("killed", "killed", script=script_that_breaks({"crash": True}))
        for chat in ("failed", "killed"):
            await host_env_with_events.fake.person_writes("please", chat=chat)
        await rows(flow, "SELECT seq FROM deliveries WHERE content LIKE '%already-sent%'", 2)
        assert flow.texts() == []
        host_env_with_events.fake.is_down = False
        for chat in ("failed", "killed"):
            await host_env_with_events.fake.person_writes("thanks", chat=chat)
        await host_env_with_events.fake.wait_for_sent(4, timeout_s=PATIENCE_S)
    for chat in ("failed", "killed"):
        said, prompt = flow.texts(chat)[:2]
        assert said == "I am looking into it"
        assert "<already-sent>" in prompt
        assert "I am looking into it</sent>" in prompt


async def rows(flow: RunningHost, query: str, count: int) -> None:
    """Wait until a query on the central database returns so many rows."""
    async with asyncio.timeout(scaled_timeout(PATIENCE_S)):
        while len(await flow.host.store.fetch_all(query)) != count:  # noqa: ASYNC110 - the database announces nothing
            await asyncio.sleep(0.02)


@pytest.mark.behaviour("RU-04")
async def test_during_a_rate_limit_a_sender_is_notified_once_and_all_messages_are_answered_later(
    host_env_with_events: HostTestEnv,
) -> None:
    limited: Script = [{"match": "one", "attempt": 1, "actions": [{"error": "rate_limited", "retry_in_s": 2}]}]
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=limited)
        await host_env_with_events.fake.person_writes("one")
        [told] = await host_env_with_events.fake.wait_for_sent(1)
        assert "I keep your message and try again" in told.text
        await host_env_with_events.fake.person_writes("two")
        await host_env_with_events.fake.person_writes("three")
        await host_env_with_events.fake.wait_for_sent(4, timeout_s=PATIENCE_S)
        turns = await flow.host.mailboxes.read_outbound(await flow.session(), queries.turns())
    assert sorted(flow.texts()[1:]) == ["echo: one", "echo: three", "echo: two"]
    assert turns is not None
    assert max(turn.attempt for turn in turns) == 2


@pytest.mark.behaviour("RU-04", "OP-01")
async def test_a_turn_that_fails_without_a_key_is_in_status_until_one_succeeds(
    host_env_with_events: HostTestEnv,
) -> None:
    keyless: Script = [{"match": "one", "actions": [{"error": "auth"}]}]
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=keyless)
        await host_env_with_events.fake.person_writes("one")
        [told] = await host_env_with_events.fake.wait_for_sent(1)
        assert "operator has to" in told.text
        assert "nanohost model check" in await flow.status()
        await host_env_with_events.fake.person_writes("two")
        await host_env_with_events.fake.wait_for_sent(2)
        await rows(flow, "SELECT session_id FROM turn_failures", 0)
        assert "nanohost model check" not in await flow.status()


@pytest.mark.behaviour("RU-04", "SE-04")
async def test_a_long_wait_for_a_container_is_notified_once_and_answered_afterwards(
    host_env_with_events: HostTestEnv,
) -> None:
    slow: Script = [{"match": "", "actions": [{"until_file": "go"}, {"answer": "done"}]}]
    async with host_env_with_events.run_host({"max_containers": 1, "answer_deadline_s": 0.5}) as flow:
        await flow.wire("busy", "busy", script=slow)
        await flow.wire("waits", "waits")
        await host_env_with_events.fake.person_writes("work", chat="busy")
        await wait_for_claims(flow, folder="busy")
        await host_env_with_events.fake.person_writes("hi", chat="waits")
        await host_env_with_events.fake.wait_for_sent(1)
        flow.resume_script("busy")
        await wait_until(lambda: "echo: hi" in flow.texts("waits"), timeout_s=PATIENCE_S)
        await rows(flow, "SELECT name FROM late_messages", 0)
    assert flow.texts("waits") == [PENDING_NOTICE, "echo: hi"]

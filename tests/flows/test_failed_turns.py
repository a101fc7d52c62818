"""A turn that fails when part of it has been said, and a model that cannot be asked, with everything real."""

from __future__ import annotations

import asyncio

import pytest

from nanohost.keeper.watchdog import NOT_YET
from nanohost.mailbox import queries
from nanohost.testing.limits import seconds
from tests.flows.stage import Stage
from tests.support.flow import Flow, Script
from tests.support.invariants import claimed, until

PATIENCE_S = 12.0
SAYS = {"tool": "send_message", "arguments": {"text": "I am looking into it"}}
SHOWN = [{"answer": "{prompt}"}]


def breaks(how: dict[str, object]) -> Script:
    """Says something and breaks when it is asked to do it; the second time it shows what it was told."""
    return [{"match": "please", "attempt": 1, "actions": [SAYS, how]}, {"match": "", "actions": SHOWN}]


@pytest.mark.behaviour("RU-08", "RU-09")
async def test_a_turn_that_broke_after_it_said_something_is_told_what_it_said_be_it_delivered_or_not(
    watched: Stage,
) -> None:
    """A failed turn and a killed container; their words are delivered only after the next try began."""
    async with watched.host() as flow:
        watched.fake.down = True
        await flow.wire("failed", "failed", script=breaks({"error": "transient"}))
        await flow.wire("killed", "killed", script=breaks({"crash": True}))
        for chat in ("failed", "killed"):
            await watched.fake.person_writes("please", chat=chat)
        await rows(flow, "SELECT seq FROM deliveries WHERE content LIKE '%already-sent%'", 2)
        assert flow.texts() == []
        watched.fake.down = False
        for chat in ("failed", "killed"):
            await watched.fake.person_writes("thanks", chat=chat)
        await watched.fake.wait_for(4, timeout_s=PATIENCE_S)
    for chat in ("failed", "killed"):
        said, prompt = flow.texts(chat)[:2]
        assert said == "I am looking into it"
        assert "<already-sent>" in prompt
        assert "I am looking into it</sent>" in prompt


async def rows(flow: Flow, query: str, count: int) -> None:
    """Wait until a question to the central database has so many rows for an answer."""
    async with asyncio.timeout(seconds(PATIENCE_S)):
        while len(await flow.host.store.all(query)) != count:  # noqa: ASYNC110 - the database announces nothing
            await asyncio.sleep(0.02)


@pytest.mark.behaviour("RU-04")
async def test_who_writes_again_while_the_model_is_limited_is_not_told_again_and_all_is_answered_in_the_end(
    watched: Stage,
) -> None:
    limited: Script = [{"match": "one", "attempt": 1, "actions": [{"error": "rate_limited", "retry_in_s": 2}]}]
    async with watched.host() as flow:
        await flow.wire(script=limited)
        await watched.fake.person_writes("one")
        [told] = await watched.fake.wait_for(1)
        assert "I keep your message and try again" in told.text
        await watched.fake.person_writes("two")
        await watched.fake.person_writes("three")
        await watched.fake.wait_for(4, timeout_s=PATIENCE_S)
        turns = await flow.host.mailboxes.outbound(await flow.session(), queries.turns())
    assert sorted(flow.texts()[1:]) == ["echo: one", "echo: three", "echo: two"]
    assert turns is not None
    assert max(turn.attempt for turn in turns) == 2


@pytest.mark.behaviour("RU-04", "OP-01")
async def test_a_turn_that_fails_for_want_of_a_key_is_on_the_status_screen_until_one_goes_well(watched: Stage) -> None:
    keyless: Script = [{"match": "one", "actions": [{"error": "auth"}]}]
    async with watched.host() as flow:
        await flow.wire(script=keyless)
        await watched.fake.person_writes("one")
        [told] = await watched.fake.wait_for(1)
        assert "operator has to" in told.text
        assert "nanohost model check" in await flow.status()
        await watched.fake.person_writes("two")
        await watched.fake.wait_for(2)
        await rows(flow, "SELECT session_id FROM turn_failures", 0)
        assert "nanohost model check" not in await flow.status()


@pytest.mark.behaviour("RU-04", "SE-04")
async def test_who_waits_too_long_for_a_container_is_told_once_and_answered_when_there_is_one(watched: Stage) -> None:
    slow: Script = [{"match": "", "actions": [{"until_file": "go"}, {"answer": "done"}]}]
    async with watched.host({"max_containers": 1, "answer_deadline_s": 0.5}) as flow:
        await flow.wire("busy", "busy", script=slow)
        await flow.wire("waits", "waits")
        await watched.fake.person_writes("work", chat="busy")
        await claimed(flow, folder="busy")
        await watched.fake.person_writes("hi", chat="waits")
        await watched.fake.wait_for(1)
        flow.goes_on("busy")
        await until(lambda: "echo: hi" in flow.texts("waits"), limit_s=PATIENCE_S)
        await rows(flow, "SELECT name FROM late_messages", 0)
    assert flow.texts("waits") == [NOT_YET, "echo: hi"]

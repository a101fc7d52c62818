"""Events during a pause are kept, and every sender is told of the pause."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nanohost.approvals.held_messages import APPROVAL_REQUESTED_TEXT
from nanohost.channel_api import Sender
from nanohost.chat_commands.pause import PAUSED_TEXT
from nanohost.db import audit, paused, roles
from nanohost.model import Role, UnknownSender
from nanohost.scheduler import task_operations
from nanohost.testing.fake_channel import PERSON
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.flows.test_held_requests import DM, OLGA, SCHEDULE, TOLD, hosted, press, wait_for_message
from tests.support.flow import RunningHost

EVE = Sender(handle="eve", name="Eve")
OFFICE = "office"
COLOURS = {"question": "Which colour?", "options": ["Red", "Blue"]}
ASKS = [{"match": "^ask", "actions": [{"tool": "ask_user_question", "arguments": COLOURS, "answer": "so: {result}"}]}]


async def owner(flow: RunningHost, text: str) -> str:
    """The answer to an owner's command."""
    before = len(flow.texts(OFFICE))
    await flow.fake.person_writes(text, chat=OFFICE, sender=OLGA)
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while len(flow.texts(OFFICE)) <= before:
            await flow.fake.wait_for_sent(len(flow.fake.sent) + 1)
    return flow.texts(OFFICE)[before]


@pytest.mark.behaviour("SE-12", "AP-03")
async def test_a_sender_approved_during_a_pause_is_told_of_it_and_answered_after_it(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (flow, fake):
        await flow.wire(unknown=UnknownSender.REQUEST_APPROVAL)
        assert (await owner(flow, "/pause")).startswith("Paused")
        await fake.person_writes("may I?", sender=EVE)
        card = await wait_for_message(fake, OFFICE, card=True)
        await press(fake, card, card.buttons[0].label)
        await wait_for_message(fake, "c1", PAUSED_TEXT)
        assert flow.texts("c1") == [APPROVAL_REQUESTED_TEXT, PAUSED_TEXT]
        assert (await owner(flow, "/resume")).startswith("Resumed")
        await wait_for_message(fake, "c1", "echo: may I?")
        assert flow.texts("c1") == [APPROVAL_REQUESTED_TEXT, PAUSED_TEXT, "echo: may I?"]


@pytest.mark.behaviour("SE-12", "AP-05")
async def test_a_request_approved_during_a_pause_is_carried_out_after_it(tmp_path: Path) -> None:
    async with hosted(tmp_path, guard={"tasks.create": "hold"}) as (flow, fake):
        await flow.wire(script=[TOLD, {"match": ".", "actions": [SCHEDULE]}])
        await fake.person_writes("plants, daily")
        card = await wait_for_message(fake, DM, card=True)
        await owner(flow, "/pause")
        await press(fake, card, "Allow once")
        session = await flow.session()
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while not await audit.latest(flow.host.store.reports, limit=1, action="approval.approved"):
                pass
        assert await task_operations.list_open(flow.host.store, session.id) == []
        await owner(flow, "/resume")
        await wait_for_message(fake, "c1", "told: ")
        assert len(await task_operations.list_open(flow.host.store, session.id)) == 1


@pytest.mark.behaviour("SE-12", "AP-09")
async def test_a_question_can_be_answered_during_a_pause_and_the_answer_counts_after_it(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (flow, fake):
        await flow.wire(script=ASKS)
        await fake.person_writes("ask me")
        card = await wait_for_message(fake, "c1", card=True)
        assert "1 container is being ended: main." in await owner(flow, "/pause")
        await fake.person_presses(card, card.buttons[1], sender=PERSON)
        await wait_for_message(fake, "c1", PAUSED_TEXT)
        await owner(flow, "/resume")
        await wait_for_message(fake, "c1", "Blue</answer>")
        await wait_for_message(fake, "c1", "Answered by Ann: Blue")
    assert flow.texts("c1").count('so: <answer from="Ann" id="4">Blue</answer>') == 1
    assert flow.texts("c1").count(PAUSED_TEXT) == 1


@pytest.mark.behaviour("SE-12")
async def test_simultaneous_pauses_and_resumes_each_report_the_actual_state(tmp_path: Path) -> None:
    async with hosted(tmp_path) as (flow, fake):
        await flow.wire()
        async with flow.host.store.transaction() as tx:
            for number in range(6):
                await roles.grant(
                    tx, user_id=f"fake:o{number}", role=Role.OWNER, agent_group=None, now=flow.host.clock.now()
                )
        for text, first, others in (
            ("/pause", "Paused: ", "Everything is paused since "),
            ("/resume", "Resumed", "Nothing is paused."),
        ):
            before = len(fake.sent)
            await asyncio.gather(
                *(
                    fake.person_writes(text, chat=f"o{number}", sender=Sender(handle=f"o{number}", name=f"O{number}"))
                    for number in range(6)
                )
            )
            async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
                while len([one for one in fake.sent[before:] if one.text.startswith((first, others))]) < 6:
                    await fake.wait_for_sent(len(fake.sent) + 1)
            said = [one.text for one in fake.sent[before:]]
            assert sum(one.startswith(first) for one in said) == 1
            assert sum(one.startswith(others) for one in said) == 5
        assert await paused.find(flow.host.store) is None
        await fake.person_writes("hello")
        await wait_for_message(fake, "c1", "echo: hello")

"""Questions of a session in a chat that it may no longer use."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.channel_api import EventKind
from nanohost.db import messaging_groups, questions
from nanohost.db.cards import button_value
from nanohost.db.questions import QuestionStatus
from nanohost.delivery.withdrawal import withdraw_deliveries
from nanohost.model import MessagingGroup
from nanohost.routing.answers import QUESTION_CLOSED_TEXT
from nanohost_protocol.payloads import QuestionOut
from tests.routing.test_answers import ask, asking
from tests.routing.test_commands import answers
from tests.routing.test_router import World

WHICH = QuestionOut(text="Which?", options=("Red", "Blue"))


async def _taken_away(world: World, chat: MessagingGroup) -> None:
    session = await world.session("a")
    async with world.store.transaction() as tx:
        await withdraw_deliveries(tx, session.agent_group_id, chat, reason="taken away", now=world.clock.now())


async def _statuses(world: World) -> list[QuestionStatus | None]:
    session = await world.session("a")
    found = [await questions.find(world.store, session.id, seq) for seq in (1, 3)]
    return [None if one is None else one.status for one in found]


@pytest.mark.behaviour("AP-09", "DL-01")
async def test_a_question_in_a_removed_chat_is_closed_and_others_stay_open(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        elsewhere = await world.chat("c2")
        await ask(world, WHICH, seq=3, receipt=("p3",), chat="c2")
        await _taken_away(world, elsewhere)
        assert await _statuses(world) == [QuestionStatus.OPEN, QuestionStatus.CLOSED]
        session = await world.session("a")
        await world.says("Red", chat="c2", kind=EventKind.CLICK, value=button_value(session.id, "q3", 1))
        await world.route()
        assert await answers(world) == [QUESTION_CLOSED_TEXT]


@pytest.mark.behaviour("AP-09", "DL-01")
async def test_a_question_in_a_chat_still_open_to_the_session_stays_open(tmp_path: Path) -> None:
    async with asking(tmp_path) as world:
        [chat] = await messaging_groups.list_all(world.store)
        await _taken_away(world, chat)
        assert await _statuses(world) == [QuestionStatus.OPEN, None]

"""A group that becomes a supergroup gets another id and continues. An answer to a deleted topic is still sent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost.config.home import Home
from nanohost.db import audit, messaging_groups, sessions
from nanohost.db.tasks import TaskKind
from nanohost.host import Host
from nanohost.model import Session, TaskId
from nanohost.scheduler import task_operations
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator import ADA, BOB
from nanohost.testing.simulators.telegram import TelegramSimulator
from nanohost.verify.checks import verify
from nanohost_protocol.payloads import ChatOut, encode
from nanohost_protocol.rows import Origin, OutKind
from tests.support.fast_clock import AcceleratedClock

from .bench import GROUP, run_bot, run_host
from .test_host import ledger, script

OLD, NEW = "-4711", "-1001234567890"


@pytest.mark.behaviour("RT-12")
@pytest.mark.parametrize("tells", [("to", "from"), ("from", "to"), ("to",), ("from",), ()], ids=str)
@pytest.mark.case("a group becomes a supergroup and goes on")
async def test_after_a_move_reminders_and_new_messages_are_answered_in_the_new_group(
    tells: Sequence[str], tmp_path: Path
) -> None:
    telegram = TelegramSimulator()
    async with telegram.running(), run_host(tmp_path, telegram, OLD, clock=AcceleratedClock()) as host:
        await telegram.write(OLD, "one", group=True)
        await telegram.wait_for_messages(1, OLD)
        session = await only_session(host)
        await remind(host, session)
        for side in tells or ("",):
            await telegram.become_supergroup(OLD, NEW, tells=[side])
        await telegram.wait_for_messages(1, NEW)
        await telegram.write(NEW, "two", group=True, person=BOB)
        await telegram.wait_for_messages(2, NEW)
        await ledger(host, lambda statuses: statuses == ["sent"] * 3)
        assert (await only_session(host)).id == session.id
        assert [chat.platform_id for chat in await messaging_groups.list_all(host.store)] == [NEW]
        [moved] = await audit.latest(host.store.reports, limit=9, action="chats.moved")
        assert await verify(host.store, Home(tmp_path), clock=host.clock, is_host_running=True) == []
    assert (moved.actor, moved.target, moved.details["from"]) == (
        "host",
        f"telegram:default:{NEW}",
        f"telegram:default:{OLD}",
    )
    assert telegram.texts(NEW) == ["drink water", "echo: two"]
    assert telegram.texts(OLD) == ["echo: one"]


@pytest.mark.behaviour("RT-12")
async def test_an_answer_made_while_the_group_moves_goes_to_the_new_group(tmp_path: Path) -> None:
    script(tmp_path, [{"match": "weather", "actions": [{"until_file": "go"}, {"answer": "rain"}]}])
    telegram = TelegramSimulator()
    async with telegram.running(), run_host(tmp_path, telegram, OLD, clock=AcceleratedClock()) as host:
        await telegram.write(OLD, "the weather?", group=True)
        await telegram.wait_until(lambda: OLD in telegram.typing)
        await telegram.become_supergroup(OLD, NEW)
        await telegram.wait_until(lambda: NEW in telegram.typing)
        await telegram.write(NEW, "still there?", group=True, person=BOB)
        (tmp_path / "groups" / "main" / "go").touch()
        await telegram.wait_for_messages(2, NEW)
        await ledger(host, lambda statuses: statuses == ["sent"] * 2)
    assert telegram.texts(NEW) == ["rain", "echo: still there?"]
    assert telegram.screen(NEW)[0].reply_to is None, "that message is in the old group"


@pytest.mark.content(ContentKind.ID_CHANGED)
async def test_a_move_is_reported_from_either_group_and_not_as_a_message() -> None:
    async with run_bot() as here:
        await here.telegram.become_supergroup(OLD, NEW)
        await here.telegram.write(NEW, "the end", group=True)
        await here.inbox.wait_for_accepted("the end")
        await here.inbox.wait_until(lambda: len(here.inbox.moved_chats) == 2)
    assert here.inbox.moved_chats == [(OLD, NEW)] * 2
    assert len(here.inbox.accepted) == 1


@pytest.mark.behaviour("DL-13")
@pytest.mark.parametrize("how", ["deleted_topics", "closed_topics"])
async def test_an_answer_to_a_deleted_topic_goes_outside_it_with_an_explanation(how: str, tmp_path: Path) -> None:
    telegram = TelegramSimulator()
    async with telegram.running(), run_host(tmp_path, telegram, GROUP, clock=AcceleratedClock()) as host:
        getattr(telegram, how).add((GROUP, "77"))
        await telegram.write(GROUP, "hello", group=True, thread="77", mention=True)
        [answer] = await telegram.wait_for_messages(1, GROUP)
        await ledger(host, lambda statuses: statuses == ["sent"])
    assert (answer.thread, answer.reply_to) == (None, None)
    assert answer.text == "The topic that this is for was deleted or closed, so it comes here:\n\necho: hello"


async def only_session(host: Host) -> Session:
    [session] = [one async for one in sessions.iter_all(host.store.reports)]
    return await sessions.get(host.store, session.id)


async def remind(host: Host, session: Session) -> None:
    """A message to the old group, in a second."""
    now = host.clock.now()
    async with host.store.transaction() as tx:
        await task_operations.create(
            tx,
            id=TaskId("t1"),
            session=session.id,
            kind=TaskKind.MESSAGE,
            content=encode(ChatOut(text="drink water")),
            out_kind=OutKind.CHAT,
            due=now + timedelta(seconds=1),
            cron=None,
            timezone="UTC",
            origin=Origin(channel_type="telegram", instance="default", platform_id=OLD),
            created_by=ADA.id,
            now=now,
        )

"""Slack through a whole host: the shipped channel file, its settings, an agent."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.app import running_host
from nanohost.channels.loader import discover
from nanohost.config.home import Home, lock_home
from nanohost.db import agent_groups, messaging_groups, wirings
from nanohost.db.database import Store
from nanohost.host import Overrides
from nanohost.model import EngageMode, SessionMode, UnknownSender
from nanohost.runtimes.process import ProcessRuntime
from nanohost.testing.simulator import Fault
from nanohost.testing.simulators.slack import SlackSimulator
from tests.support.fast_clock import AcceleratedClock
from tests.support.flow import install_id_for, scripted_settings

ROOT = Path(__file__).parents[3]


def test_the_channel_is_found_and_usable() -> None:
    assert "slack" in discover([ROOT / "channels"]).available


@asynccontextmanager
async def _host(root: Path, slack: SlackSimulator) -> AsyncIterator[None]:
    """A whole host whose agent echoes, in Ada's DM and in a channel."""
    home, plain = Home(root), scripted_settings()
    settings = replace(plain, channels={"slack": dict(slack.settings())})
    parts = Overrides(runtime=ProcessRuntime(install=install_id_for(root)), clock=AcceleratedClock())
    with lock_home(home):
        async with running_host(home, settings, keep_containers=False, overrides=parts) as host:
            if not await agent_groups.list_all(host.store):
                await _wire(host.store, "D1001", "C500")
            (home.groups / "main").mkdir(parents=True, exist_ok=True)
            yield


@pytest.mark.behaviour("RT-01", "DL-06", "IN-05")
async def test_a_person_writes_in_slack_and_the_agent_answers_there(tmp_path: Path, slack: SlackSimulator) -> None:
    async with _host(tmp_path, slack):
        ts = await slack.write("D1001", "hello there")
        await slack.wait_for_messages(1, "D1001")
        root = await slack.write("C500", "and <you> & *all*?", group=True, mention=True)
        await slack.wait_for_messages(1, "C500")
        await slack.wait_until(lambda: {ts, root} <= set(slack.acknowledged()))
    [answer], [in_room] = slack.screen("D1001"), slack.screen("C500")
    assert (answer.text, answer.thread) == ("echo: hello there", None)
    assert in_room.thread == root
    assert in_room.text.replace("\u200b", "") == "echo: and <you> & all?"


@pytest.mark.behaviour("DL-05")
@pytest.mark.parametrize("fault", [Fault.RESET_AFTER, Fault.RESET_BEFORE, Fault.SERVER_ERROR])
async def test_an_answer_whose_receipt_was_lost_is_sent_once(
    tmp_path: Path, slack: SlackSimulator, fault: Fault
) -> None:
    slack.faults.queue.append(fault)
    async with _host(tmp_path, slack):
        await slack.write("D1001", "first")
        await slack.wait_until(lambda: "echo: first" in slack.texts("D1001"))
        await slack.write("D1001", "second")
        await slack.wait_until(lambda: "echo: second" in slack.texts("D1001"))
    assert slack.texts("D1001") == ["echo: first", "echo: second"]
    assert "conversations.history" in slack.calls


@pytest.mark.behaviour("IN-01", "IN-02")
async def test_a_message_written_while_the_host_was_down_is_answered_once(
    tmp_path: Path, slack: SlackSimulator
) -> None:
    async with _host(tmp_path, slack):
        await slack.write("D1001", "first")
        await slack.wait_for_messages(1, "D1001")
    await slack.write("D1001", "into the void")
    slack.give_up()
    await slack.write("D1001", "the next day")
    async with _host(tmp_path, slack):
        await slack.wait_until(lambda: "echo: the next day" in slack.texts("D1001"))
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    assert slack.texts("D1001") == ["echo: first", "echo: into the void", "echo: the next day"]


@pytest.mark.case("a message that its author deleted while the host was down")
async def test_a_message_deleted_while_the_host_was_down_is_not_answered(tmp_path: Path, slack: SlackSimulator) -> None:
    async with _host(tmp_path, slack):
        await slack.write("D1001", "first")
        await slack.wait_for_messages(1, "D1001")
    written = await slack.write("D1001", "forget this", message_id=f"{time.time() - 60:.6f}")
    await slack.delete(written, chat="D1001")
    await slack.write("D1001", "the next day")
    async with _host(tmp_path, slack):
        await slack.wait_until(lambda: "echo: the next day" in slack.texts("D1001"))
        await slack.wait_until(lambda: slack.unacknowledged == 0)
    assert slack.texts("D1001")[:2] == ["echo: first", "echo: the next day"]
    assert not any("forget this" in text for text in slack.texts("D1001"))


@pytest.mark.behaviour("IN-06", "RT-11")
async def test_a_file_and_a_reaction_reach_the_agent(tmp_path: Path, slack: SlackSimulator) -> None:
    async with _host(tmp_path, slack):
        await slack.write("C500", "see this", group=True, mention=True, file=("notes.txt", b"content"))
        [answer] = await slack.wait_for_messages(1, "C500")
        await slack.react(answer.id, "👍", chat="C500")
        [_, again] = await slack.wait_for_messages(2, "C500")
    assert "echo: see this" in answer.text
    assert "[file: notes.txt, 7 bytes, at " in answer.text
    assert "👍" in again.text
    assert again.thread == answer.thread


async def _wire(store: Store, *chats: str) -> None:
    """Wire chats of Slack to one agent group."""
    now = datetime.now(UTC)
    async with store.transaction() as tx:
        group = await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=now)
    for chat in chats:
        async with store.transaction() as tx:
            wired = await messaging_groups.add(
                tx,
                channel_type="slack",
                instance="default",
                platform_id=chat,
                is_group=not chat.startswith("D"),
                name=chat,
                unknown_sender=UnknownSender.PUBLIC,
                now=now,
            )
            await wirings.add(
                tx,
                messaging_group=wired.id,
                agent_group=group.id,
                engage_mode=EngageMode.PATTERN,
                engage_pattern=".",
                session_mode=SessionMode.SHARED,
                priority=0,
                now=now,
            )

"""Discord through a whole host: the shipped channel file, its settings, an agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.app import running_host
from nanohost.chat_commands.registry import chat_commands, host_commands
from nanohost.config.home import Home, lock_home
from nanohost.db import agent_groups, messaging_groups, wirings
from nanohost.db.database import Store
from nanohost.host import Overrides
from nanohost.model import EngageMode, SessionMode, UnknownSender
from nanohost.runtimes.process import ProcessRuntime
from nanohost.testing.simulator import BOB, Fault
from nanohost.testing.simulators.discord import DM, GENERAL, MY_ROLE, THREAD, DiscordSimulator
from tests.support.fast_clock import AcceleratedClock
from tests.support.flow import install_id_for, scripted_settings

BOBS, NEWS = "70001002", "5003"
"""Bob's chat with the bot, and another channel."""


@asynccontextmanager
async def _host(root: Path, platform: DiscordSimulator) -> AsyncIterator[None]:
    """A whole host whose agent echoes, in Ada's DM and in a channel; entered again it is the same install."""
    home, plain = Home(root), scripted_settings()
    settings = replace(plain, channels={"discord": dict(platform.settings())})
    parts = Overrides(runtime=ProcessRuntime(install=install_id_for(root)), clock=AcceleratedClock())
    with lock_home(home):
        async with running_host(home, settings, keep_containers=False, overrides=parts) as host:
            if await agent_groups.find(host.store, "main") is None:
                await _wire(host.store, DM, GENERAL, BOBS, NEWS)
            (home.groups / "main").mkdir(parents=True, exist_ok=True)
            await platform.wait_until(lambda: platform.is_listened_to)
            yield


@pytest.mark.behaviour("RT-01", "DL-05", "DL-06", "IN-01")
async def test_a_person_writes_in_discord_and_the_agent_answers_there(
    tmp_path: Path, platform: DiscordSimulator
) -> None:
    async with _host(tmp_path, platform):
        platform.faults.queue.append(Fault.RESET_AFTER)
        await platform.write(DM, "hello there")
        await platform.wait_for_messages(1, DM)
        await platform.write(GENERAL, "and *you*?", group=True, mention=True, thread=THREAD)
        await platform.wait_for_messages(1, GENERAL)
        await platform.write(DM, "once more")
        await platform.wait_for_messages(2, DM)
    platform.forget_streams()
    await platform.write(DM, "while you were away")
    async with _host(tmp_path, platform):
        await platform.wait_for_messages(3, DM)
    assert platform.texts(DM) == ["echo: hello there", "echo: once more", "echo: while you were away"]
    [in_thread] = platform.screen(GENERAL)
    assert (in_thread.thread, in_thread.notified) == (THREAD, frozenset())
    assert "and you?" in in_thread.text


@pytest.mark.behaviour("IN-01")
@pytest.mark.case("the first direct message during a restart of ten seconds")
@pytest.mark.case("the first mention in a channel never heard, during a restart")
async def test_a_first_message_during_a_restart_is_answered_after_it(
    tmp_path: Path, platform: DiscordSimulator
) -> None:
    async with _host(tmp_path, platform):
        await platform.write(DM, "hello there")
        await platform.wait_for_messages(1, DM)
    await platform.write(BOBS, "my first words", person=BOB)
    await platform.write(NEWS, "and mine here", group=True, mention=True, person=BOB)
    async with _host(tmp_path, platform):
        await platform.wait_for_messages(1, BOBS)
        await platform.wait_for_messages(1, NEWS)
    assert (platform.texts(BOBS), platform.texts(NEWS)) == (["echo: my first words"], ["echo: and mine here"])
    assert platform.texts(DM) == ["echo: hello there"]


@pytest.mark.case("a command behind the bot's own role")
async def test_a_command_after_the_bots_role_mention_is_a_host_command(
    tmp_path: Path, platform: DiscordSimulator
) -> None:
    async with _host(tmp_path, platform):
        await platform.write(GENERAL, f"<@&{MY_ROLE}> /status", group=True)
        [answer] = await platform.wait_for_messages(1, GENERAL)
    assert answer.text == "I am not doing anything.\nNothing waits."


async def _wire(store: Store, *chats: str) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    async with store.transaction() as tx:
        group = await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=now)
        for chat in chats:
            place = await messaging_groups.add(
                tx,
                channel_type="discord",
                instance="default",
                platform_id=chat,
                is_group=chat in (GENERAL, NEWS),
                name=chat,
                unknown_sender=UnknownSender.PUBLIC,
                now=now,
            )
            await wirings.add(
                tx,
                messaging_group=place.id,
                agent_group=group.id,
                engage_mode=EngageMode.PATTERN,
                engage_pattern=".",
                session_mode=SessionMode.SHARED,
                priority=0,
                now=now,
            )


async def test_a_command_chosen_from_the_menu_works_as_if_typed(tmp_path: Path, platform: DiscordSimulator) -> None:
    async with _host(tmp_path, platform):
        await platform.wait_until(lambda: bool(platform.menu))
        in_dm = await platform.choose("status")
        await platform.wait_for_messages(1, DM)
        in_thread = await platform.choose("help", chat=GENERAL, thread=THREAD)
        [helped] = await platform.wait_for_messages(1, GENERAL)
        refused = await platform.choose("pause", chat=GENERAL, person=BOB)
        await platform.wait_for_messages(2, GENERAL)
        await platform.wait_until(lambda: all(press.is_answered for press in platform.presses))
    assert set(platform.menu) == {*chat_commands(), *(one.name for one in host_commands().values() if one.is_in_help)}
    assert "Write to me as you would" in helped.text
    assert helped.thread == THREAD
    assert "Only an owner may use /pause" in platform.texts(GENERAL)[-1]
    said = [press.answer["data"]["content"] for press in (in_dm, in_thread, refused)]
    assert said == ["/status", "/help", "/pause"]
    assert all(press.answer["data"]["flags"] == 1 << 6 for press in platform.presses), "nobody else sees it"


async def test_menu_commands_take_arguments_and_some_are_offered_in_direct_messages_only(
    tmp_path: Path, platform: DiscordSimulator
) -> None:
    async with _host(tmp_path, platform):
        await platform.wait_until(lambda: bool(platform.menu))
        with pytest.raises(LookupError, match="/pair is not offered there"):
            await platform.choose("pair", chat=GENERAL)
        chosen = await platform.choose("pair", "discord")
        [refused] = await platform.wait_for_messages(1, DM)
        await platform.wait_until(lambda: chosen.is_answered)
    assert chosen.answer["data"]["content"] == "/pair discord"
    assert refused.text == "Only an owner may use /pair."
    assert platform.menu["pair"]["options"][0]["description"] == "like: telegram"

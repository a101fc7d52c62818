"""A linked device through a whole host: the shipped channel file, its settings, an agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.app import running_host
from nanohost.config.home import Home, lock_home
from nanohost.db import agent_groups, messaging_groups, wirings
from nanohost.host import Host, Overrides
from nanohost.model import EngageMode, SessionMode, UnknownSender
from nanohost.runtimes.process import ProcessRuntime
from nanohost.testing.simulators.whatsapp_linked import WhatsAppLinkedSimulator
from tests.support.fast_clock import AcceleratedClock
from tests.support.flow import install_id_for, scripted_settings

ADAS = "1001@s.whatsapp.net"


@asynccontextmanager
async def _host(root: Path, phone: WhatsAppLinkedSimulator) -> AsyncIterator[Host]:
    """A whole host whose agent echoes, in Ada's chat."""
    home, plain = Home(root), scripted_settings()
    table = {key: value for key, value in phone.settings().items() if key != "allow"}
    settings = replace(plain, channels={"whatsapp": dict(table)})
    parts = Overrides(runtime=ProcessRuntime(install=install_id_for(root)), clock=AcceleratedClock())
    with lock_home(home):
        async with running_host(home, settings, keep_containers=False, overrides=parts) as host:
            (home.groups / "main").mkdir(parents=True, exist_ok=True)
            yield host


async def _wire(host: Host) -> None:
    now = datetime.now(UTC)
    async with host.store.transaction() as tx:
        group = await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=now)
        chat = await messaging_groups.add(
            tx,
            channel_type="whatsapp",
            instance="default",
            platform_id=ADAS,
            is_group=False,
            name="Ada",
            unknown_sender=UnknownSender.PUBLIC,
            now=now,
        )
        await wirings.add(
            tx,
            messaging_group=chat.id,
            agent_group=group.id,
            engage_mode=EngageMode.PATTERN,
            engage_pattern=".",
            session_mode=SessionMode.SHARED,
            priority=0,
            now=now,
        )


@pytest.mark.behaviour("IN-01", "IN-06", "DL-01", "DL-04")
async def test_a_message_is_answered_also_after_a_bridge_crash_and_a_restart_of_the_host(
    tmp_path: Path, phone: WhatsAppLinkedSimulator
) -> None:
    async with _host(tmp_path, phone) as host:
        await _wire(host)
        first = await phone.write(ADAS, "hello *there*")
        await phone.wait_for_messages(1, ADAS)
        await phone.wait_until(lambda: first in phone.acknowledged())
        phone.kill_bridge()
        await phone.write(ADAS, "see this", file=("notes.txt", b"content"))
        [_, with_file] = await phone.wait_for_messages(2, ADAS)
    assert "[file: notes.txt, 7 bytes, at " in with_file.text
    await phone.write(ADAS, "while you were away")
    async with _host(tmp_path, phone):
        [_, _, last] = await phone.wait_for_messages(3, ADAS)
    assert phone.texts(ADAS)[0].replace("\u200b", "") == "echo: hello there"
    assert last.text == "echo: while you were away"

"""WhatsApp through a whole host: the shipped channel file, its settings, an agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.app import running_host
from nanohost.config.home import Home, lock_home
from nanohost.db import agent_groups, messaging_groups, sessions, wirings
from nanohost.db.database import Store
from nanohost.host import Host, Overrides
from nanohost.model import EngageMode, SessionMode, UnknownSender
from nanohost.runtimes.process import ProcessRuntime
from nanohost.testing.simulator import ADA, Fault, Person
from nanohost.testing.simulators.whatsapp import WhatsAppSimulator
from tests.support.fast_clock import AcceleratedClock
from tests.support.flow import install_id_for, scripted_settings


@asynccontextmanager
async def hosted(root: Path, meta: WhatsAppSimulator) -> AsyncIterator[Host]:
    """A whole host whose agent echoes, in Ada's chat; entered again it is the same install."""
    home, plain = Home(root), scripted_settings()
    settings = replace(plain, channels={"whatsapp": dict(meta.settings())})
    parts = Overrides(runtime=ProcessRuntime(install=install_id_for(root)), clock=AcceleratedClock())
    with lock_home(home):
        async with running_host(home, settings, keep_containers=False, overrides=parts) as host:
            if await agent_groups.find(host.store, "main") is None:
                await _wire(host.store)
            (home.groups / "main").mkdir(parents=True, exist_ok=True)
            yield host


@pytest.mark.behaviour("DL-05", "IN-01")
async def test_a_person_writes_in_whatsapp_and_the_agent_answers_there(tmp_path: Path, meta: WhatsAppSimulator) -> None:
    async with hosted(tmp_path, meta):
        meta.faults.queue.append(Fault.RESET_AFTER)
        await meta.write(ADA.id, "hello there")
        await meta.wait_for_messages(1, ADA.id)
        await meta.write(ADA.id, "once more")
        await meta.wait_for_messages(2, ADA.id)
    await meta.write(ADA.id, "while you were away")
    async with hosted(tmp_path, meta):
        await meta.wait_for_messages(3, ADA.id)
    assert meta.texts(ADA.id) == ["echo: hello there", "echo: once more", "echo: while you were away"]


@pytest.mark.behaviour("RT-12", "RT-14")
async def test_a_changed_number_wakes_nobody_and_the_chat_continues_under_the_new_one(
    tmp_path: Path, meta: WhatsAppSimulator
) -> None:
    new = Person(id="1009", name="Ada")
    async with hosted(tmp_path, meta) as host:
        await meta.write(ADA.id, "hello there")
        await meta.wait_for_messages(1, ADA.id)
        await meta.send_named_example("first opening", ADA.id)
        [changed] = await meta.send_named_example("changed number", ADA.id)
        await meta.wait_until(lambda: changed in meta.acknowledged())
        await meta.write(new.id, "it is me", person=new)
        await meta.wait_for_messages(1, new.id)
        assert len([one async for one in sessions.iter_all(host.store.reports)]) == 1, "one conversation"
    assert meta.texts(ADA.id) == ["echo: hello there"]
    assert meta.texts(new.id) == ["echo: it is me"]


async def _wire(store: Store) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    async with store.transaction() as tx:
        group = await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=now)
        place = await messaging_groups.add(
            tx,
            channel_type="whatsapp",
            instance="default",
            platform_id=ADA.id,
            is_group=False,
            name=ADA.id,
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

"""Context: files, edits, reactions, commands and threads without engagement."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.channel_api import Attachment, EventKind, InboundEvent
from nanohost.db import events
from nanohost.model import EngageMode, IgnoredMessagePolicy, SessionMode
from nanohost.testing.fake_channel import PERSON
from nanohost.testing.full_channel import FULL_CAPABILITIES, FullFeatureChannel
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.rows import MessageIn
from tests.support.flow import RunningHost, run_host

FILE = Attachment(ref="f1", name="plan.txt", media_type="text/plain", size=8)


async def emit(
    fake: FullFeatureChannel,
    text: str,
    *,
    id: str,
    kind: EventKind = EventKind.MESSAGE,
    to: str | None = None,
    thread: str | None = None,
    files: Sequence[Attachment] = (),
    mentions: bool = False,
) -> None:
    await fake.emit_event(
        InboundEvent(
            platform_id="c1",
            platform_message_id=id,
            sender=PERSON,
            text=text,
            sent_at=datetime.now(UTC),
            kind=kind,
            refers_to=to,
            thread_id=thread,
            is_group=True,
            mentions_bot=mentions,
            attachments=tuple(files),
        )
    )


async def wired(flow: RunningHost, session: SessionMode = SessionMode.SHARED) -> None:
    await flow.wire(engage=EngageMode.MENTION, session=session)
    async with flow.host.store.transaction() as tx:
        await tx.execute("UPDATE wirings SET ignored = ?", (IgnoredMessagePolicy.ACCUMULATE,))
        await tx.execute("UPDATE messaging_groups SET is_group = 1")


async def routed(flow: RunningHost) -> None:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            if not await events.list_chats_with_new(flow.host.store):
                return
            await asyncio.sleep(0.01)  # the database tells nobody


async def waiting(flow: RunningHost, number: int = 0) -> list[MessageIn]:
    session = (await flow.sessions())[number]
    return await flow.host.mailboxes.read_inbound(session, lambda box: list(box.due(datetime.now(UTC))))


async def wait_for_waiting_rows(flow: RunningHost, *wanted: int) -> None:
    """Wait until so many rows wait in the sessions' mailboxes: claimed rows are closed after the answer."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            if tuple([len(await waiting(flow, number)) for number in range(len(wanted))]) == wanted:
                return
            await asyncio.sleep(0.02)  # another process's doing


@pytest.mark.behaviour("RT-05", "RT-06")
async def test_unaddressed_files_edits_reactions_and_commands_are_only_context(
    tmp_path: Path,
) -> None:
    fake = FullFeatureChannel()
    fake.files["f1"] = b"the plan"
    async with run_host(tmp_path, fake=fake) as flow:
        await wired(flow)
        await emit(fake, "look at this", id="m1", files=[FILE])
        await emit(fake, "look at that", id="e1", kind=EventKind.EDIT, to="m1")
        await emit(fake, "👍", id="r1", kind=EventKind.REACTION, to="m1")
        for number, command in enumerate(("/stop", "/clear", "/compact", "/login", "/pause", "/status now")):
            await emit(fake, command, id=f"c{number}")
        await routed(flow)
        assert await flow.containers() == []
        assert flow.texts() == []
        rows = await waiting(flow)
        assert [row.trigger for row in rows] == [False] * 8, "/login is for nobody's eyes"
        folder = flow.layout(await flow.session()).root
        assert [one.read_bytes() for one in folder.rglob("plan.txt")] == [b"the plan"]
        await emit(fake, "what do you say?", id="m9", mentions=True)
        await fake.wait_for_sent(1)
        await wait_for_waiting_rows(flow, 0)
    assert flow.texts() == ["echo: what do you say?"]


@pytest.mark.behaviour("RT-05", "RT-06")
async def test_context_of_one_thread_does_not_reach_another_thread(tmp_path: Path) -> None:
    fake = FullFeatureChannel(capabilities=replace(FULL_CAPABILITIES, threads=True))
    async with run_host(tmp_path, fake=fake) as flow:
        await wired(flow, SessionMode.PER_THREAD)
        await emit(fake, "in one", id="m1", thread="t1")
        await emit(fake, "in two", id="m2", thread="t2")
        await emit(fake, "speak", id="m3", thread="t2", mentions=True)
        await fake.wait_for_sent(1)
        await wait_for_waiting_rows(flow, 1, 0)
    assert flow.texts() == ["echo: speak"]

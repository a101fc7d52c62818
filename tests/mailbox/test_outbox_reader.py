"""Simultaneous callers of an outbound.db share one read, and none gets an old one."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from nanohost.errors import MailboxError
from nanohost.mailbox.outbox_reader import OutboxReader
from nanohost.model import LeaseId, Session
from nanohost_protocol.outbound import OutboundWriter
from nanohost_protocol.payloads import ChatOut, encode
from nanohost_protocol.rows import MessageOut, NewMessageOut, OutKind
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, run_manager
from tests.support.interleaving import InterleavedMailboxes


def _write_message(bench: ContainerManagerHarness, session: Session, id: str) -> None:
    """Write a message as the session's runner."""
    row = NewMessageOut(id=id, turn_id="t", kind=OutKind.CHAT, content=encode(ChatOut(text="hello")))
    path = bench.mailboxes.layout(session).outbound_db
    with closing(OutboundWriter(path, container_id=LeaseId("l"), durable=False)) as box:
        box.insert(row, highest_seen_seq=0, now=bench.clock.now())


async def _ids(reader: OutboxReader, session: Session) -> list[str]:
    read = await reader.rows(session.id, limit=10)
    assert read.batch is not None
    return [row.id for row in read.batch.rows if isinstance(row, MessageOut)]


async def test_simultaneous_callers_share_one_read(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        _write_message(bench, session, "o1")
        files = InterleavedMailboxes(bench.mailboxes)
        reader = OutboxReader(store=bench.store, mailboxes=files)
        ids, acks = await asyncio.gather(_ids(reader, session), reader.acks(session.id))
        assert ids == ["o1"]
        assert acks.batch is not None
        assert acks.batch.acks == []
        assert files.read_sessions == [session.id]


async def test_a_caller_during_a_read_gets_a_later_read(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        _write_message(bench, session, "o1")
        files = InterleavedMailboxes(bench.mailboxes)
        reader = OutboxReader(store=bench.store, mailboxes=files)
        later: list[asyncio.Task[list[str]]] = []

        async def another_asks_for_what_came_since() -> None:
            _write_message(bench, session, "o2")
            later.append(asyncio.create_task(_ids(reader, session)))
            await asyncio.sleep(0)

        files.after_read = another_asks_for_what_came_since
        assert await _ids(reader, session) == ["o1"]
        assert await later[0] == ["o1", "o2"]
        assert files.read_sessions == [session.id, session.id]


async def test_a_failing_shared_read_fails_for_every_caller(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        path = bench.mailboxes.layout(session).outbound_db
        path.unlink(missing_ok=True)
        path.write_text("no database")
        files = InterleavedMailboxes(bench.mailboxes)
        reader = OutboxReader(store=bench.store, mailboxes=files)
        asked = (_ids(reader, session), reader.acks(session.id))
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in found] == [MailboxError, MailboxError]
        assert files.read_sessions == [session.id]


async def test_a_shared_read_survives_the_cancellation_of_its_first_caller(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        _write_message(bench, session, "o1")
        reader = OutboxReader(store=bench.store, mailboxes=bench.mailboxes)
        first = asyncio.create_task(reader.acks(session.id))
        second = asyncio.create_task(_ids(reader, session))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == ["o1"]
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_each_part_is_read_from_its_own_cursor_and_reports_whether_there_is_more(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        for number in range(3):
            _write_message(bench, session, f"o{number}")
        reader = OutboxReader(store=bench.store, mailboxes=bench.mailboxes)
        few = await reader.rows(session.id, limit=2)
        assert few.batch is not None
        assert (len(few.batch.rows), few.batch.more) == (2, True)
        all_of_it = await reader.rows(session.id, limit=3)
        assert all_of_it.batch is not None
        assert (len(all_of_it.batch.rows), all_of_it.batch.more) == (3, False)

"""When a session has work, after its runner's words were taken over."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from nanohost.keeper.acks import AckTaker
from nanohost.model import LeaseId, Session
from nanohost.store import sessions
from nanohost_protocol.outbound import OutboundWriter
from tests.keeper.bench import Bench, PaperRuntime, keeping


def _taker(bench: Bench) -> AckTaker:
    return AckTaker(
        store=bench.store,
        mailboxes=bench.mailboxes,
        clock=bench.clock,
        alive=lambda session, lease: False,
        ended_by_us=lambda lease: False,
        on_notice=bench.notices.append,
    )


async def _due(bench: Bench, session: Session) -> datetime | None:
    return (await sessions.get(bench.store, session.id)).due_at


@pytest.mark.behaviour("SE-05")
async def test_a_due_time_that_outlived_its_work_is_cleared(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench:
        session = await bench.session("c1")
        OutboundWriter(bench.mailboxes.layout(session).outbound_db, container_id=LeaseId("l1")).close()
        await bench.mailboxes.update(session, lambda box: box.close("m-c1", "completed"))
        standing = await _taker(bench).take(session)
        assert standing is not None
        assert (standing.due_at, await _due(bench, session)) == (None, None)


async def test_a_due_time_with_work_behind_it_stays_as_it_is(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench:
        session = await bench.session("c1")
        OutboundWriter(bench.mailboxes.layout(session).outbound_db, container_id=LeaseId("l1")).close()
        standing = await _taker(bench).take(session)
        assert standing is not None
        assert standing.due_at == session.due_at == await _due(bench, session)
        assert session.due_at is not None

"""Results of runs reach their tasks, whatever is killed on the way."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from nanohost.containers.ack_processor import AckProcessor
from nanohost.db.database import Store, Transaction
from nanohost.errors import StoreError
from nanohost.model import Session, SessionId
from nanohost.scheduler.run_results import ClosedMessage
from nanohost.testing.manual_clock import START
from nanohost_protocol.outbound import OutboundReader, OutboundWriter, TurnEnd, outbound_snapshot
from nanohost_protocol.rows import ErrorClass, TurnError, Usage
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, run_manager

USAGE = Usage(model="m", tokens_in=3, tokens_out=4, tokens_cached=5, cost_usd=0.5)
BROKEN = TurnError(error_class=ErrorClass.PERMANENT, sentence="It broke.")


@dataclass(frozen=True)
class _Ended:
    """Emitted by the test's own subscriber."""


class RecordedResults:
    """The reported results, and how often they were committed."""

    def __init__(self, store: Store) -> None:
        self.closed: list[ClosedMessage] = []
        self.committed = 0
        store.bus.subscribe(_Ended, self._count)

    async def listen(self, tx: Transaction, session: SessionId, closed: Sequence[ClosedMessage], now: datetime) -> None:
        self.closed.extend(closed)
        tx.emit(_Ended())

    def _count(self, _: _Ended) -> None:
        self.committed += 1


class Killed(AckProcessor):
    """Is killed between the two files."""

    async def _record(self, *_: object) -> None:
        raise StoreError("killed here")


def _taker(
    bench: ContainerManagerHarness, heard: RecordedResults, kind: type[AckProcessor] = AckProcessor
) -> AckProcessor:
    return kind(
        store=bench.store,
        mailboxes=bench.mailboxes,
        clock=bench.clock,
        is_alive=lambda session, lease: False,
        was_stopped=lambda lease: False,
        on_messages_closed=heard.listen,
    )


async def _turn(bench: ContainerManagerHarness, session: Session, error: TurnError | None) -> None:
    message = await bench.mailboxes.read_inbound(session, lambda box: box.find(f"m-{session.group_folder}"))
    assert message is not None
    with closing(OutboundWriter(bench.mailboxes.layout(session).outbound_db, container_id="l1")) as runner:
        runner.claim("t1", [message], START)
        runner.finish(TurnEnd(turn_id="t1", messages=(), usage=USAGE, error=error), highest_seen_seq=0, now=START)


@pytest.mark.behaviour("TK-06")
@pytest.mark.parametrize("error", [None, BROKEN])
async def test_a_run_result_interrupted_by_a_crash_is_reported_again(tmp_path: Path, error: TurnError | None) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        await _turn(bench, session, error)
        heard = RecordedResults(bench.store)
        with pytest.raises(StoreError):
            await _taker(bench, heard, Killed).process(session.id)
        assert heard.closed == []
        await _taker(bench, heard).process(session.id)
    [closed] = heard.closed
    assert (closed.message_id, closed.is_completed) == ("m-c1", error is None)
    assert closed.error == (error.sentence if error else None)
    assert closed.usage == Usage(tokens_in=3, tokens_out=4, tokens_cached=5, cost_usd=0.5)
    assert heard.committed == 1


@pytest.mark.parametrize(
    "cut",
    [
        "UPDATE turns SET cost_usd = -1",
        "UPDATE turns SET tokens_in = -5",
        "UPDATE turns SET cost_usd = 9e999",
        "DELETE FROM turns",
    ],
)
async def test_implausible_usage_of_a_turn_is_ignored(tmp_path: Path, cut: str) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        await _turn(bench, session, None)
        path = bench.mailboxes.layout(session).outbound_db
        with closing(OutboundWriter(path, container_id="l1")) as runner:
            runner._db.execute(cut)
        with outbound_snapshot(path) as box:
            assert _usage(box) is None


def _usage(box: OutboundReader) -> Usage | None:
    return box.usage("t1")

"""When a session has work, after the acks of its runner were processed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from nanohost.chat_commands.clear import CLEARED_TEXT
from nanohost.containers.ack_processor import AckProcessor
from nanohost.containers.retry_policy import REPEATED_CRASH_NOTICE
from nanohost.db import model_calls, sessions, turn_costs, uncounted_attempts
from nanohost.db.database import Transaction
from nanohost.db.turn_costs import TurnCosts
from nanohost.errors import StoreError
from nanohost.model import LeaseId, Session, SessionId
from nanohost.scheduler.run_results import ClosedMessage
from nanohost.testing.manual_clock import START, ManualClock
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.outbound import OutboundWriter, TurnEnd
from nanohost_protocol.payloads import CLEAR, STOP, ControlIn, encode
from nanohost_protocol.rows import ErrorClass, InKind, MessageIn, NewMessageIn, TurnError, Usage
from nanohost_protocol.times import to_text
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, run_manager

WORDS = "It did not work."


def _taker(
    bench: ContainerManagerHarness,
    kind: type[AckProcessor] = AckProcessor,
    *,
    ended_by_us: bool = False,
    now: datetime = START,
) -> AckProcessor:
    return kind(
        store=bench.store,
        mailboxes=bench.mailboxes,
        clock=ManualClock(now),
        is_alive=lambda session, lease: False,
        was_stopped=lambda lease: ended_by_us,
    )


@contextmanager
def _runner(bench: ContainerManagerHarness, session: Session) -> Iterator[OutboundWriter]:
    with closing(OutboundWriter(bench.mailboxes.layout(session).outbound_db, container_id=LeaseId("l1"))) as runner:
        yield runner


async def _message(bench: ContainerManagerHarness, session: Session) -> MessageIn:
    found = await bench.mailboxes.read_inbound(session, lambda box: box.find(f"m-{session.group_folder}"))
    assert found is not None
    return found


async def notices(bench: ContainerManagerHarness) -> list[str]:
    return [row["content"] for row in await bench.store.fetch_all("SELECT content FROM deliveries")]


async def _raise_tries(bench: ContainerManagerHarness, session: Session, count: int) -> None:
    def retry(box: InboundWriter) -> None:
        for tries in range(count):
            box.retry(f"m-{session.group_folder}", tries=tries, process_after=START)

    await bench.mailboxes.update(session, retry)


class KilledProcessor(AckProcessor):
    """Is killed between the two files: the retry decision is in inbound.db and not in the database."""

    async def _record(self, *_: object) -> None:
        raise StoreError("killed here")


async def _due(bench: ContainerManagerHarness, session: Session) -> datetime | None:
    return (await sessions.get(bench.store, session.id)).due_at


@pytest.mark.behaviour("SE-05")
async def test_a_due_time_without_remaining_work_is_cleared(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        OutboundWriter(bench.mailboxes.layout(session).outbound_db, container_id=LeaseId("l1")).close()
        await bench.mailboxes.update(session, lambda box: box.close("m-c1", "completed"))
        standing = await _taker(bench).process(session.id)
        assert standing is not None
        assert (standing.due_at, await _due(bench, session)) == (None, None)


@pytest.mark.behaviour("SE-12")
async def test_a_control_message_whose_runner_dies_is_due_again_before_later_messages(tmp_path: Path) -> None:
    """Otherwise the next runner would answer the message in the old conversation, and be interrupted later."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        order = NewMessageIn(
            id="clear",
            kind=InKind.CONTROL,
            timestamp=START,
            content=encode(ControlIn(command=CLEAR, answer=CLEARED_TEXT)),
        )
        await bench.mailboxes.put(session, [order])
        row = await bench.mailboxes.read_inbound(session, lambda box: box.find("clear"))
        assert row is not None
        with _runner(bench, session) as runner:
            runner.claim("t1", [row], START)
        await _taker(bench).process(session.id)
        row = await bench.mailboxes.read_inbound(session, lambda box: box.find("clear"))
        assert row is not None
        assert (row.status, row.tries, row.process_after) == ("pending", 1, START)


@pytest.mark.behaviour("SE-09", "SE-12")
async def test_a_stopped_message_causes_no_notice_about_a_retry(tmp_path: Path) -> None:
    """The stopped message is closed: "I keep your message and try again" would be false, and "Stopped." is sent."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        hello = await _message(bench, session)
        stop = NewMessageIn(
            id="stop",
            kind=InKind.CONTROL,
            timestamp=START,
            content=encode(ControlIn(command=STOP)),
            origin=hello.origin,
        )
        await bench.mailboxes.update(session, lambda box: (box.close(hello.id, "failed"), box.insert(stop)))
        await _taker(bench).notify_waiting(session, WORDS)
        assert await notices(bench) == []


async def test_a_due_time_with_remaining_work_is_kept(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        OutboundWriter(bench.mailboxes.layout(session).outbound_db, container_id=LeaseId("l1")).close()
        standing = await _taker(bench).process(session.id)
        assert standing is not None
        assert standing.due_at == session.due_at == await _due(bench, session)
        assert session.due_at is not None


@pytest.mark.behaviour("RU-04")
@pytest.mark.parametrize("error_class", [ErrorClass.PERMANENT, ErrorClass.RATE_LIMITED])
async def test_a_host_killed_between_a_retry_decision_and_its_notice_sends_the_notice_once(
    tmp_path: Path, error_class: ErrorClass
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        with _runner(bench, session) as runner:
            runner.claim("t1", [await _message(bench, session)], START)
            error = TurnError(error_class=error_class, sentence=WORDS)
            runner.finish(TurnEnd(turn_id="t1", messages=(), usage=Usage(), error=error), highest_seen_seq=0, now=START)
        with pytest.raises(StoreError):
            await _taker(bench, KilledProcessor).process(session.id)
        for _ in range(2):
            await _taker(bench).process(session.id)
        [told] = await notices(bench)
        assert WORDS in told


@pytest.mark.behaviour("SE-07")
async def test_a_runner_deletes_no_ack_that_a_killed_host_has_not_recorded(tmp_path: Path) -> None:
    """Otherwise the usage of the turn, or the end of a task's run, would never be recorded."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        with _runner(bench, session) as runner:
            runner.claim("t1", [await _message(bench, session)], START)
            runner.finish(TurnEnd(turn_id="t1", messages=(), usage=Usage(tokens_in=7)), highest_seen_seq=0, now=START)
            with pytest.raises(StoreError):
                await _taker(bench, KilledProcessor).process(session.id)
            meta = await bench.mailboxes.read_inbound(session, lambda box: box.meta())
            runner.prune(out_cursor=0, ack_cursor=int(meta["ack_cursor"]))
        await _taker(bench).process(session.id)
        [cost] = await bench.store.fetch_all("SELECT tokens_in FROM turn_costs")
        assert cost["tokens_in"] == 7


@pytest.mark.behaviour("OP-09")
async def test_the_latest_turn_of_each_message_is_recorded(tmp_path: Path) -> None:
    """Also where a container died during it; times in the future are not accepted."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")

        async def turn() -> tuple[object, ...]:
            await _taker(bench).process(session.id)
            [row] = await bench.store.fetch_all(
                "SELECT turn_id, began_at, ended_at, outcome, error FROM message_turns WHERE message_id = 'm-c1'"
            )
            return tuple(row)

        now, later = to_text(START), START + timedelta(days=400)
        with _runner(bench, session) as runner:
            runner.claim("t1", [await _message(bench, session)], later)
            assert await turn() == ("t1", now, now, "interrupted", "its container ended")
            message = replace(await _message(bench, session), tries=1)
            error = TurnError(error_class=ErrorClass.PERMANENT, sentence=WORDS)
            runner.claim("t2", [message], START - timedelta(seconds=5))
            runner.finish(TurnEnd(turn_id="t2", messages=(), usage=Usage(), error=error), highest_seen_seq=0, now=later)
            assert await turn() == ("t2", None, now, "failed", WORDS)
    async with run_manager(tmp_path / "other", FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        with _runner(bench, session) as runner:
            message = await _message(bench, session)
            runner.claim("t1", [message], START)
            runner.finish(TurnEnd(turn_id="t1", messages=(), usage=Usage()), highest_seen_seq=0, now=START)
            assert await turn() == ("t1", None, now, "completed", None)


async def test_costs_are_counted_from_the_gateway_whatever_the_runner_reports(tmp_path: Path) -> None:
    """Also of a turn without a report of the runner, whose container was killed."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        closed: list[ClosedMessage] = []

        async def end_runs(tx: Transaction, session: SessionId, ended: Sequence[ClosedMessage], now: datetime) -> None:
            closed.extend(ended)

        costs = []
        for chat, told, seen in (
            ("c1", Usage(tokens_in=7), [(100, 0.5)]),
            ("c2", Usage(tokens_in=7), [(100, 0.5), (1, None)]),
            ("c3", Usage(), [(100, 0.5)]),
            ("c4", Usage(tokens_in=7, cost_usd=9), []),
        ):
            session = await bench.add_session(chat)
            async with bench.store.transaction() as tx:
                for tokens, cost in seen:
                    await a_call(tx, session.id, tokens, cost)
            with _runner(bench, session) as runner:
                runner.claim("t1", [await _message(bench, session)], START)
                runner.finish(TurnEnd(turn_id="t1", messages=(), usage=told), highest_seen_seq=0, now=START)
            taker = AckProcessor(
                store=bench.store,
                mailboxes=bench.mailboxes,
                clock=ManualClock(START),
                is_alive=lambda session, lease: False,
                was_stopped=lambda lease: False,
                on_messages_closed=end_runs,
            )
            await taker.process(session.id)
            costs.append(closed[-1].usage)
        assert costs == [
            Usage(tokens_in=100, cost_usd=0.5),
            Usage(tokens_in=101, cost_usd=None),
            Usage(tokens_in=100, cost_usd=0.5),
            Usage(tokens_in=7, cost_usd=9),
        ]
        by_group = await turn_costs.costs_since(bench.store.reports, START - timedelta(days=1))
        assert sum(by_group.values(), TurnCosts()) == TurnCosts(turns=4, tokens_in=308, cost_usd=10.5, unpriced=1)


async def a_call(tx: Transaction, session: SessionId, tokens: int, cost: float | None) -> None:
    await model_calls.add(
        tx,
        session=session,
        model="m",
        started_at=START,
        duration_ms=1,
        status=200,
        tokens_in=tokens,
        tokens_out=0,
        tokens_cached=0,
        tokens_cache_written=0,
        error=None,
        cost_usd=cost,
    )


@pytest.mark.behaviour("SE-07")
async def test_a_claim_released_for_a_retry_is_not_failed_when_it_is_processed_again(
    tmp_path: Path,
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        await _raise_tries(bench, session, 4)
        with _runner(bench, session) as runner:
            runner.claim("t1", [await _message(bench, session)], START)
        await _taker(bench, ended_by_us=True).process(session.id)
        await _taker(bench, ended_by_us=False).process(session.id)
        message = await _message(bench, session)
        assert (message.status, message.tries) == ("pending", 5)
        assert await notices(bench) == []


@pytest.mark.behaviour("SE-07")
async def test_an_orderly_stop_never_counts_as_an_attempt(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        with _runner(bench, session) as runner:
            for stop in range(7):
                runner.claim("t1", [await _message(bench, session)], START)
                if stop % 2:
                    runner.release("t1", START)
                await _taker(bench, ended_by_us=True).process(session.id)
        assert (await _message(bench, session)).tries == 7
        pauses = []
        for _ in range(5):
            with _runner(bench, session) as runner:
                runner.claim("t1", [await _message(bench, session)], START)
            await _taker(bench).process(session.id)
            message = await _message(bench, session)
            assert message.process_after is not None
            pauses.append((message.status, (message.process_after - START).total_seconds()))
        assert pauses == [("pending", 5), ("pending", 10), ("pending", 20), ("pending", 40), ("failed", 40)]
        [told] = await notices(bench)
        assert REPEATED_CRASH_NOTICE in told
        assert await uncounted_attempts.list_for_session(bench.store, session.id) == {}


@pytest.mark.behaviour("SE-07")
async def test_a_failed_claim_is_notified_once_however_often_it_is_processed(
    tmp_path: Path,
) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        await _raise_tries(bench, session, 4)
        with _runner(bench, session) as runner:
            runner.claim("t1", [await _message(bench, session)], START)
        for _ in range(3):
            await _taker(bench).process(session.id)
        [told] = await notices(bench)
        assert REPEATED_CRASH_NOTICE in told


async def test_a_claim_of_a_stopped_container_does_not_move_the_due_time_at_every_check(tmp_path: Path) -> None:
    """A due time that moves wakes the sweep, which checks again: a container could keep the host busy for ever."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        with _runner(bench, session) as runner:
            stranger = replace(await _message(bench, session), id="m-nobody-knows")
            runner.claim("t1", [stranger], START)
        for seconds in (1, 2):
            standing = await _taker(bench, now=START + timedelta(seconds=seconds)).process(session.id)
            assert standing is not None
            assert standing.due_at == session.due_at == await _due(bench, session)


async def test_acks_of_unknown_messages_have_no_cost_and_end_no_pause(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        async with bench.store.transaction() as tx:
            await a_call(tx, session.id, 100, 0.5)
        given = await _message(bench, session)
        with _runner(bench, session) as runner:
            runner.claim("made-up", [replace(given, id=f"made-up-{number}") for number in range(20)], START)
            runner.finish(
                TurnEnd(turn_id="made-up", messages=(), usage=Usage(tokens_in=7)), highest_seen_seq=0, now=START
            )
        standing = await _taker(bench).process(session.id)
        turns = await bench.store.fetch_all("SELECT turn_id FROM turn_costs")
        on_record = await sessions.get(bench.store, session.id)
    assert standing is not None
    assert (standing.has_progressed, on_record.ack_cursor > 0, turns) == (False, True, [])


async def test_an_ack_of_an_unnamed_turn_is_skipped(tmp_path: Path) -> None:
    """The host uses the empty name for calls from before turns were counted: they would vanish from the costs."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        async with bench.store.transaction() as tx:
            await a_call(tx, session.id, 100, 0.5)
        with _runner(bench, session) as runner:
            runner.claim("", [await _message(bench, session)], START)
            runner.finish(TurnEnd(turn_id="", messages=(), usage=Usage(tokens_in=7)), highest_seen_seq=0, now=START)
        await _taker(bench).process(session.id)
        hidden = await bench.store.fetch_all("SELECT 1 FROM model_calls WHERE turn_id = ''")
    assert hidden == []

"""The runner's file: only whole steps, no message twice, and valid cursors after pruning."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost_protocol.errors import ProtocolError
from nanohost_protocol.outbound import (
    MAX_KEPT_QUESTION_CHARS,
    MAX_KEPT_QUESTIONS,
    OutboundWriter,
    TurnEnd,
    outbound_snapshot,
)
from nanohost_protocol.payloads import QuestionOut, encode
from nanohost_protocol.rows import (
    Ack,
    AckStatus,
    ErrorClass,
    MessageOut,
    NewMessageOut,
    OutKind,
    TurnError,
    Usage,
)
from tests.protocol.conftest import NOON, MakeWriter, insert_messages, make_answer

LATER = NOON + timedelta(minutes=5)
USAGE = Usage(model="m", tokens_in=1, tokens_out=2, tokens_cached=3, cost_usd=0.5)


def end(*messages: NewMessageOut, turn: str = "t1", error: TurnError | None = None) -> TurnEnd:
    return TurnEnd(turn_id=turn, messages=messages, usage=USAGE, error=error)


def acks(outbound: Path, after: int = 0) -> list[Ack]:
    with outbound_snapshot(outbound) as box:
        return box.acks_after(after)


def written_messages(outbound: Path, after: int = 0) -> list[MessageOut]:
    with outbound_snapshot(outbound) as box:
        return [row for row in box.messages_after(after) if isinstance(row, MessageOut)]


# --- claims


@pytest.mark.behaviour("SE-07")
def test_a_new_container_abandons_only_the_claims_of_others(
    open_writer: MakeWriter, inbound: Path, outbound: Path
) -> None:
    one, two, three = insert_messages(inbound, "m1", "m2", "m3")
    old = open_writer("old")
    old.claim("t1", [one], NOON)
    old.finish(end(), highest_seen_seq=0, now=NOON)
    old.claim("t2", [two], NOON)
    new = open_writer("new")
    new.claim("t3", [three], NOON)
    new.abandon_stale_claims(LATER)
    assert {ack.message_id: (ack.status, ack.container_id) for ack in acks(outbound)} == {
        "m1": (AckStatus.COMPLETED, "old"),
        "m2": (AckStatus.ABANDONED, "old"),
        "m3": (AckStatus.PROCESSING, "new"),
    }


def test_a_new_container_clears_the_progress_and_keeps_the_conversation(open_writer: MakeWriter) -> None:
    old = open_writer("old")
    old.set_progress({"tool": "Bash"})
    old.set_state("conversation", "c1")
    new = open_writer("new")
    new.abandon_stale_claims(NOON)
    assert new.state("conversation") == "c1"
    assert new._db.execute("SELECT count(*) FROM container_state").fetchone()[0] == 0


def test_a_claim_records_the_number_of_attempts_at_its_time(
    open_writer: MakeWriter, inbound: Path, outbound: Path
) -> None:
    box = open_writer("c1")
    (one,) = insert_messages(inbound, "m1")
    box.claim("t1", [one], NOON)
    (ack,) = acks(outbound)
    assert (ack.status, ack.turn_id, ack.tries, ack.changed_at, ack.error) == (
        AckStatus.PROCESSING,
        "t1",
        0,
        NOON,
        None,
    )
    assert box.acks(["m1", "m2"]) == {"m1": ack}


def test_follow_up_messages_belong_to_the_turn(open_writer: MakeWriter, inbound: Path, outbound: Path) -> None:
    box = open_writer("c1")
    one, two = insert_messages(inbound, "m1", "m2")
    box.claim("t1", [one], NOON)
    box.claim_more("t1", [two], NOON)
    box.finish(end(), highest_seen_seq=0, now=LATER)
    turn = box.turn("t1")
    assert turn is not None
    assert turn.message_ids == ("m1", "m2")
    assert {ack.status for ack in acks(outbound)} == {AckStatus.COMPLETED}


@pytest.mark.behaviour("RU-09")
def test_a_retried_turn_counts_its_attempts_and_knows_its_earlier_messages(
    open_writer: MakeWriter, inbound: Path
) -> None:
    box = open_writer("c1")
    (one,) = insert_messages(inbound, "m1")
    error = TurnError(error_class=ErrorClass.TRANSIENT, sentence="oops")
    box.claim("t1", [one], NOON)
    box.insert(make_answer("o1"), highest_seen_seq=2, now=NOON)
    box.finish(end(error=error), highest_seen_seq=2, now=NOON)
    box.claim("t1", [one], LATER)
    turn = box.turn("t1")
    assert turn is not None
    assert (turn.attempt, turn.ended_at, turn.outcome) == (2, None, None)
    assert [row.id for row in box.sent_messages("t1")] == ["o1"]
    assert box.acks(["m1"])["m1"].error is None
    box.finish(end(), highest_seen_seq=2, now=LATER)
    turn = box.turn("t1")
    assert turn is not None
    assert (turn.usage.tokens_in, turn.usage.cost_usd) == (2, 1.0)


def test_a_released_turn_is_abandoned(open_writer: MakeWriter, inbound: Path, outbound: Path) -> None:
    box = open_writer("c1")
    one, two = insert_messages(inbound, "m1", "m2")
    box.claim("t1", [one], NOON)
    box.finish(end(), highest_seen_seq=0, now=NOON)
    box.claim("t2", [two], NOON)
    box.release("t2", LATER)
    box.release("t1", LATER)
    assert {ack.message_id: ack.status for ack in acks(outbound)} == {
        "m1": AckStatus.COMPLETED,
        "m2": AckStatus.ABANDONED,
    }


# --- messages


@pytest.mark.behaviour("RU-08")
def test_a_message_is_written_once(open_writer: MakeWriter, outbound: Path) -> None:
    box = open_writer("c1")
    assert box.insert(make_answer("o1", "first"), highest_seen_seq=4, now=NOON) is True
    assert box.insert(make_answer("o1", "second"), highest_seen_seq=4, now=NOON) is False
    box.finish(end(make_answer("o1", "third"), make_answer("o2")), highest_seen_seq=4, now=NOON)
    assert [(row.seq, row.id) for row in written_messages(outbound)] == [(5, "o1"), (7, "o2")]
    assert "first" in written_messages(outbound)[0].content


@pytest.mark.parametrize(("floor", "seq"), [(0, 1), (1, 3), (2, 3), (8, 9), (9, 11)])
def test_numbers_are_odd_and_above_those_seen(open_writer: MakeWriter, outbound: Path, floor: int, seq: int) -> None:
    box = open_writer("c1")
    box.insert(make_answer("o1"), highest_seen_seq=floor, now=NOON)
    box.insert(make_answer("o2"), highest_seen_seq=0, now=NOON)
    assert [row.seq for row in written_messages(outbound)] == [seq, seq + 2]


def test_a_row_that_violates_a_constraint_is_an_error_and_not_a_duplicate(open_writer: MakeWriter) -> None:
    broken = NewMessageOut(id="o", turn_id="t", kind="poem", content="{}")  # type: ignore[arg-type]
    with pytest.raises(ProtocolError):
        open_writer("c1").insert(broken, highest_seen_seq=0, now=NOON)


# --- the end of a turn


@pytest.mark.behaviour("RU-03", "RU-04")
def test_the_end_of_a_turn_records_its_outcome(open_writer: MakeWriter, inbound: Path, outbound: Path) -> None:
    box = open_writer("c1")
    one, two = insert_messages(inbound, "m1", "m2")
    error = TurnError(error_class=ErrorClass.RATE_LIMITED, sentence="Wait.", retry_at=LATER)
    box.claim("t1", [one], NOON)
    box.finish(end(error=error), highest_seen_seq=0, now=LATER)
    box.claim("t2", [two], NOON)
    box.finish(end(turn="t2"), highest_seen_seq=0, now=LATER)
    failed, completed = acks(outbound)
    assert (failed.status, failed.error, failed.changed_at) == (AckStatus.FAILED, error, LATER)
    assert (completed.status, completed.error) == (AckStatus.COMPLETED, None)
    with outbound_snapshot(outbound) as reader:
        assert {turn.turn_id: turn.outcome for turn in reader.turns()} == {"t1": "rate_limited", "t2": "completed"}
        assert reader.open_claims() == []


def test_an_error_at_the_end_of_a_turn_rolls_all_of_it_back(
    open_writer: MakeWriter, inbound: Path, outbound: Path
) -> None:
    box = open_writer("c1")
    (one,) = insert_messages(inbound, "m1")
    box.claim("t1", [one], NOON)
    broken = NewMessageOut(id="o2", turn_id="t1", kind="poem", content="{}")  # type: ignore[arg-type]
    with pytest.raises(ProtocolError):
        box.finish(end(make_answer("o1"), broken), highest_seen_seq=0, now=LATER)
    assert written_messages(outbound) == []
    assert [ack.status for ack in acks(outbound)] == [AckStatus.PROCESSING]


def test_the_state_of_a_turn_is_stored_and_deleted_at_its_end(open_writer: MakeWriter, inbound: Path) -> None:
    box = open_writer("c1")
    (one,) = insert_messages(inbound, "m1")
    box.claim("t1", [one], NOON)
    box.set_state("old", "x")
    state = {"new": "y", "old": None, "never": None}
    box.finish(TurnEnd(turn_id="t1", messages=(), usage=Usage(), state=state), highest_seen_seq=0, now=NOON)
    assert (box.state("new"), box.state("old"), box.state("never")) == ("y", None, None)


# --- changes and pruning


def test_every_change_of_an_ack_is_read_once(open_writer: MakeWriter, inbound: Path, outbound: Path) -> None:
    box = open_writer("c1")
    one, two = insert_messages(inbound, "m1", "m2")
    box.claim("t1", [one, two], NOON)
    cursor = acks(outbound)[-1].change
    assert acks(outbound, cursor) == []
    box.finish(end(), highest_seen_seq=0, now=NOON)
    assert [ack.message_id for ack in acks(outbound, cursor)] == ["m1", "m2"]


def test_pruning_keeps_numbers_above_both_cursors(open_writer: MakeWriter, inbound: Path, outbound: Path) -> None:
    box = open_writer("c1")
    one, two = insert_messages(inbound, "m1", "m2")
    box.claim("t1", [one], NOON)
    box.finish(end(make_answer("o1"), make_answer("o2")), highest_seen_seq=2, now=NOON)
    out_cursor, ack_cursor = written_messages(outbound)[-1].seq, acks(outbound)[-1].change
    box.prune(out_cursor=out_cursor, ack_cursor=ack_cursor)
    assert (written_messages(outbound), acks(outbound)) == ([], [])
    restarted = open_writer("c2")
    restarted.abandon_stale_claims(NOON)
    restarted.claim("t2", [two], NOON)
    restarted.finish(end(make_answer("o3", turn="t2"), turn="t2"), highest_seen_seq=out_cursor, now=NOON)
    assert [row.id for row in written_messages(outbound, out_cursor)] == ["o3"]
    assert [ack.message_id for ack in acks(outbound, ack_cursor)] == ["m2"]


def test_pruning_keeps_what_a_later_attempt_needs(open_writer: MakeWriter, inbound: Path, outbound: Path) -> None:
    box = open_writer("c1")
    one, two, three = insert_messages(inbound, "m1", "m2", "m3")
    error = TurnError(error_class=ErrorClass.TRANSIENT, sentence="oops")
    box.claim("t1", [one], NOON)
    box.finish(end(make_answer("o1"), error=error), highest_seen_seq=0, now=NOON)
    box.claim("t2", [two], NOON)
    box.insert(make_answer("o2", turn="t2"), highest_seen_seq=0, now=NOON)
    box.claim("t3", [three], NOON)
    box.finish(end(make_answer("o3", turn="t3"), turn="t3"), highest_seen_seq=0, now=NOON)
    box.prune(out_cursor=99, ack_cursor=99)
    assert [row.id for row in written_messages(outbound)] == ["o1", "o2"]
    assert [ack.message_id for ack in acks(outbound)] == ["m1", "m2"]


def test_pruning_keeps_what_the_host_has_not_processed(open_writer: MakeWriter, inbound: Path, outbound: Path) -> None:
    box = open_writer("c1")
    (one,) = insert_messages(inbound, "m1")
    box.claim("t1", [one], NOON)
    box.finish(end(make_answer("o1"), make_answer("o2")), highest_seen_seq=0, now=NOON)
    box.prune(out_cursor=1, ack_cursor=1)
    assert [row.id for row in written_messages(outbound)] == ["o2"]
    assert len(acks(outbound)) == 1


@pytest.mark.behaviour("AP-09")
def test_the_latest_questions_are_kept_after_pruning(open_writer: MakeWriter, inbound: Path) -> None:
    box = open_writer("c1")
    (one,) = insert_messages(inbound, "m1")
    texts = [encode(QuestionOut(text=f"{number}?", options=())) for number in range(MAX_KEPT_QUESTIONS + 1)]
    texts.append(encode(QuestionOut(text="?" * MAX_KEPT_QUESTION_CHARS, options=())))
    rows = [replace(make_answer(f"o{at}"), kind=OutKind.QUESTION, content=text) for at, text in enumerate(texts)]
    box.claim("t1", [one], NOON)
    box.finish(end(make_answer("chat"), *rows), highest_seen_seq=0, now=NOON)
    assert box.question("o0") == texts[0]
    assert box.question("chat") is None
    box.prune(out_cursor=999, ack_cursor=0)
    known = [id for row in rows if (id := row.id) and box.question(id) is not None]
    assert known == [f"o{at}" for at in range(1, MAX_KEPT_QUESTIONS + 1)]
    assert box.question("o7") == texts[7]


def test_a_writer_can_read_its_file_while_the_host_does(open_writer: MakeWriter, outbound: Path) -> None:
    box = open_writer("c1")
    box.insert(make_answer("o1"), highest_seen_seq=0, now=NOON)
    with outbound_snapshot(outbound) as reader:
        assert len(reader.messages_after(0)) == 1
        assert len(box.sent_messages("t1")) == 1


def test_a_writer_opens_the_file_of_an_earlier_one(outbound: Path) -> None:
    for number in range(3):
        box = OutboundWriter(outbound, container_id=f"c{number}", durable=False)
        box.insert(make_answer(f"o{number}"), highest_seen_seq=0, now=NOON)
        box.close()
    assert [row.seq for row in written_messages(outbound)] == [1, 3, 5]

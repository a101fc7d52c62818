"""Selects the messages that the runner claims next. Pure: takes rows and earlier acks, returns a batch.

One function, `eligible`, is used for the first poll, later polls and the follow-ups of a running turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent_runner.commands import parse_command
from agent_runner.prompt import decode_row
from nanohost_protocol.ids import turn_id
from nanohost_protocol.payloads import DELETION, ChatIn, encode
from nanohost_protocol.rows import Ack, AckStatus, InKind, MessageIn

MAX_BATCH_SIZE = 50
"""Messages of one batch. Further trigger rows wait for the next turn; context only fills the remaining places."""

AcksById = Mapping[str, Ack]

_RETRYABLE_STATUSES = {AckStatus.ABANDONED, AckStatus.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The messages of one turn, in order, and the turn's id."""

    turn_id: str
    messages: tuple[MessageIn, ...]
    skipped: tuple[MessageIn, ...] = ()
    """Context without a place in the batch: closed unseen, so that it does not appear too late in another turn."""


def eligible(due: Iterable[MessageIn], acks: AcksById, *, is_first_poll: bool) -> list[MessageIn]:
    """Returns the due rows that this runner may claim now, oldest first.

    A row for a fresh container is claimed in the first poll, or later by the runner that claimed it then.
    """
    return [
        row
        for row in due
        if (is_first_poll or not row.on_wake or row.id in acks) and _is_claimable(row, acks.get(row.id))
    ]


def _is_claimable(row: MessageIn, ack: Ack | None) -> bool:
    """Returns whether the row was never claimed, or was released and allowed again by the host, which sets `tries`."""
    return ack is None or (ack.status in _RETRYABLE_STATUSES and row.tries > ack.tries)


def find_withdrawn(rows: Sequence[MessageIn], acks: AcksById) -> tuple[MessageIn, ...]:
    """Returns the eligible rows that the agent is not to see: messages that were deleted before they were claimed.

    The deletion's row is one of them if its message is. It is not if the message was claimed before: the agent is told.
    Nor if the message answers a question of the agent: that counts as answered.

    This is decided here, on one snapshot of both files: nobody else knows what is claimed meanwhile.
    """
    fresh, gone = _unclaimed(rows, acks), dict[str, MessageIn]()
    for at, row in enumerate(fresh):
        if DELETION not in row.content or not _is_full_deletion(row):
            continue
        targets = [one for one in fresh[:at] if _refers_to_same_message(one, row) and not _is_answer(one)]
        gone |= {one.id: one for one in targets if _chat_event(one) != DELETION}
        if any(_chat_event(one) == "message" for one in targets):
            gone |= {one.id: one for one in [*targets, row]}
    return tuple(sorted(gone.values(), key=lambda row: row.seq))


def remove_deleted_files(rows: Sequence[MessageIn]) -> list[MessageIn]:
    """Returns the rows without files that people deleted from a message: the agent answers the rest of it.

    The row of that deletion stays, since the agent may have seen the message with them.
    """
    left = list(rows)
    for at, row in enumerate(rows):
        if (
            DELETION not in row.content
            or (payload := _chat_payload(row)) is None
            or payload.event != DELETION
            or not payload.files
        ):
            continue
        left[:at] = [
            _remove_files_from(one, payload) if _refers_to_same_message(one, row) else one for one in left[:at]
        ]
    return left


def _remove_files_from(row: MessageIn, gone: ChatIn) -> MessageIn:
    payload = _chat_payload(row)
    if payload is None or payload.event != "message":
        return row
    begins = tuple(f"[file: {name}{then}" for name in gone.files for then in (", ", " could not be fetched: "))
    text = "\n".join(line for line in payload.text.split("\n") if not line.startswith(begins))
    if gone.text:
        text = f"\n{text}\n".replace(f"\n{gone.text}\n", "\n", 1).removeprefix("\n").removesuffix("\n")
    return replace(row, content=encode(replace(payload, text=text)))


def _is_full_deletion(row: MessageIn) -> bool:
    payload = _chat_payload(row)
    return payload is not None and payload.event == DELETION and not payload.files


def _chat_payload(row: MessageIn) -> ChatIn | None:
    payload = decode_row(row).payload if row.kind is InKind.CHAT else None
    return payload if isinstance(payload, ChatIn) else None


def _chat_event(row: MessageIn) -> str | None:
    payload = _chat_payload(row)
    return None if payload is None else payload.event


def _is_answer(row: MessageIn) -> bool:
    payload = decode_row(row).payload
    return isinstance(payload, ChatIn) and payload.answers is not None


def _refers_to_same_message(one: MessageIn, other: MessageIn) -> bool:
    """Returns whether two rows have the platform's id of the same message: their own, or the one they refer to."""
    if one.origin is None or other.origin is None or one.origin.platform_message_id is None:
        return False
    return (one.origin.chat, one.origin.platform_message_id) == (other.origin.chat, other.origin.platform_message_id)


def control_messages(rows: Iterable[MessageIn]) -> list[MessageIn]:
    """Returns the rows for the runner itself, which the agent never sees."""
    return [row for row in rows if row.kind is InKind.CONTROL]


def next_batch(rows: Sequence[MessageIn], acks: AcksById) -> Batch | None:
    """Returns the next batch from eligible rows. A retried turn keeps its batch and so its id."""
    rows = [row for row in rows if row.kind is not InKind.CONTROL]
    again = next((acks[row.id].turn_id for row in rows if row.id in acks), None)
    if again is not None:
        return Batch(turn_id=again, messages=tuple(row for row in rows if _is_in_turn(row, again, acks)))
    fresh = _select_batch(rows)
    return Batch(turn_id=turn_id(fresh[0].id), messages=fresh, skipped=skipped_context(rows, fresh)) if fresh else None


def follow_ups(rows: Sequence[MessageIn], acks: AcksById) -> tuple[MessageIn, ...]:
    """Returns the rows that join a running turn: those never claimed, by the same rule as for a batch.

    A command for the model's command line waits for the end of the turn, and so do all later rows.
    """
    fresh = _select_batch(_unclaimed(rows, acks))
    return () if fresh and parse_command(fresh[0]) is not None else fresh


def skipped_context(rows: Sequence[MessageIn], claimed: Sequence[MessageIn]) -> tuple[MessageIn, ...]:
    """Returns the context among these rows that is older than the last claimed row, and not claimed itself."""
    if not any(row.trigger for row in claimed):
        return ()
    ids, last = {row.id for row in claimed}, claimed[-1].seq
    return tuple(row for row in rows if not row.trigger and row.seq < last and row.id not in ids)


def has_pending_command(messages: Sequence[MessageIn], acks: AcksById) -> bool:
    """Returns whether a command for the model's command line waits for its own turn."""
    return any(parse_command(row) is not None for row in _unclaimed(messages, acks))


def _unclaimed(rows: Sequence[MessageIn], acks: AcksById) -> list[MessageIn]:
    return [row for row in rows if row.kind is not InKind.CONTROL and row.id not in acks]


def _is_in_turn(row: MessageIn, turn: str, acks: AcksById) -> bool:
    return row.id in acks and acks[row.id].turn_id == turn


def _select_batch(rows: Sequence[MessageIn]) -> tuple[MessageIn, ...]:
    rows = _rows_before_command(rows)
    triggers = [row for row in rows if row.trigger][:MAX_BATCH_SIZE]
    if not triggers:
        return ()
    room = MAX_BATCH_SIZE - len(triggers)
    context = [row for row in rows if not row.trigger]
    return tuple(sorted(triggers + context[len(context) - min(room, len(context)) :], key=lambda row: row.seq))


def _rows_before_command(rows: Sequence[MessageIn]) -> Sequence[MessageIn]:
    """Returns the rows before the first command; a command has a turn of its own, in order."""
    for at, row in enumerate(rows):
        if parse_command(row) is not None:
            before = rows[:at]
            return before if any(one.trigger for one in before) else [row]
    return rows

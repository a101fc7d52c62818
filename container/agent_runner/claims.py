"""Which messages the runner takes next. Pure: rows and earlier acks in, a batch out.

One predicate, `eligible`, serves the first poll, the later ones and the follow-ups of a running turn.
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
"""Messages of one batch. Trigger rows above it wait for the next turn; context only fills what they leave."""

AcksById = Mapping[str, Ack]

_RETRYABLE_STATUSES = {AckStatus.ABANDONED, AckStatus.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The messages of one turn, in order, and the turn's id."""

    turn_id: str
    messages: tuple[MessageIn, ...]
    skipped: tuple[MessageIn, ...] = ()
    """Context that found no room: closed unseen, so that it does not come up in a later turn, out of its time."""


def eligible(due: Iterable[MessageIn], acks: AcksById, *, is_first_poll: bool) -> list[MessageIn]:
    """Of the open rows whose time has come, those this runner may take now, oldest first.

    A row for a fresh container is taken in the first poll, or again after that, by whoever took it then.
    """
    return [
        row
        for row in due
        if (is_first_poll or not row.on_wake or row.id in acks) and _is_claimable(row, acks.get(row.id))
    ]


def _is_claimable(row: MessageIn, ack: Ack | None) -> bool:
    """Never taken, or given back and since allowed again by the host, who alone raises `tries`."""
    return ack is None or (ack.status in _RETRYABLE_STATUSES and row.tries > ack.tries)


def find_withdrawn(rows: Sequence[MessageIn], acks: AcksById) -> tuple[MessageIn, ...]:
    """Of eligible rows those that nobody is to see: what was deleted before anybody took it. The deletion is one of
    them where the message itself is; of a message that was taken before the agent is told, and of an answer to a
    question of ours: it counts as answered.

    Decided here, on one snapshot of both files: whoever else looked could not know what is taken meanwhile.
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
    """The rows, without the files that people took out of a message again: the rest of it is to be answered. The row
    that tells of it stays, since the message may have been shown with them."""
    left = list(rows)
    for at, row in enumerate(rows):
        if (
            DELETION not in row.content
            or (said := _chat_payload(row)) is None
            or said.event != DELETION
            or not said.files
        ):
            continue
        left[:at] = [_remove_files_from(one, said) if _refers_to_same_message(one, row) else one for one in left[:at]]
    return left


def _remove_files_from(row: MessageIn, gone: ChatIn) -> MessageIn:
    said = _chat_payload(row)
    if said is None or said.event != "message":
        return row
    begins = tuple(f"[file: {name}{then}" for name in gone.files for then in (", ", " could not be fetched: "))
    text = "\n".join(line for line in said.text.split("\n") if not line.startswith(begins))
    if gone.text:
        text = f"\n{text}\n".replace(f"\n{gone.text}\n", "\n", 1).removeprefix("\n").removesuffix("\n")
    return replace(row, content=encode(replace(said, text=text)))


def _is_full_deletion(row: MessageIn) -> bool:
    said = _chat_payload(row)
    return said is not None and said.event == DELETION and not said.files


def _chat_payload(row: MessageIn) -> ChatIn | None:
    said = decode_row(row).payload if row.kind is InKind.CHAT else None
    return said if isinstance(said, ChatIn) else None


def _chat_event(row: MessageIn) -> str | None:
    said = _chat_payload(row)
    return None if said is None else said.event


def _is_answer(row: MessageIn) -> bool:
    said = decode_row(row).payload
    return isinstance(said, ChatIn) and said.answers is not None


def _refers_to_same_message(one: MessageIn, other: MessageIn) -> bool:
    """Rows stand in the file under the platform's id of the message that they are, or are about."""
    if one.origin is None or other.origin is None or one.origin.platform_message_id is None:
        return False
    return (one.origin.chat, one.origin.platform_message_id) == (other.origin.chat, other.origin.platform_message_id)


def control_messages(rows: Iterable[MessageIn]) -> list[MessageIn]:
    """Rows for the runner itself; the agent never sees them."""
    return [row for row in rows if row.kind is InKind.CONTROL]


def next_batch(rows: Sequence[MessageIn], acks: AcksById) -> Batch | None:
    """The next turn out of eligible rows. A turn that is tried again keeps its batch and so its id."""
    rows = [row for row in rows if row.kind is not InKind.CONTROL]
    again = next((acks[row.id].turn_id for row in rows if row.id in acks), None)
    if again is not None:
        return Batch(turn_id=again, messages=tuple(row for row in rows if _is_in_turn(row, again, acks)))
    fresh = _select_batch(rows)
    return Batch(turn_id=turn_id(fresh[0].id), messages=fresh, skipped=skipped_context(rows, fresh)) if fresh else None


def follow_ups(rows: Sequence[MessageIn], acks: AcksById) -> tuple[MessageIn, ...]:
    """What joins a turn that is running: rows never taken before, by the same rule as a batch of their own. A command
    of the command line's waits for the turn's end, and so does what came after it."""
    fresh = _select_batch(_unclaimed(rows, acks))
    return () if fresh and parse_command(fresh[0]) is not None else fresh


def skipped_context(rows: Sequence[MessageIn], claimed: Sequence[MessageIn]) -> tuple[MessageIn, ...]:
    """Context among these rows that is older than the last of what is taken, and is not taken itself."""
    if not any(row.trigger for row in claimed):
        return ()
    ids, last = {row.id for row in claimed}, claimed[-1].seq
    return tuple(row for row in rows if not row.trigger and row.seq < last and row.id not in ids)


def has_pending_command(messages: Sequence[MessageIn], acks: AcksById) -> bool:
    """Whether a command of the command line's is to have a turn of its own."""
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
    """A command is alone in its turn, and in its place: what came before it goes first."""
    for at, row in enumerate(rows):
        if parse_command(row) is not None:
            before = rows[:at]
            return before if any(one.trigger for one in before) else [row]
    return rows

"""Which messages the runner takes next. Pure: rows and earlier acks in, a batch out.

One predicate, `eligible`, serves the first poll, the later ones and the follow-ups of a running turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent_runner.commands import command_in
from agent_runner.prompt import decoded
from nanohost_protocol.ids import turn_id
from nanohost_protocol.payloads import DELETION, ChatIn, encode
from nanohost_protocol.rows import Ack, AckStatus, InKind, MessageIn

BATCH_LIMIT = 50
"""Messages of one batch. Trigger rows above it wait for the next turn; context only fills what they leave."""

Acks = Mapping[str, Ack]

_GIVEN_BACK = {AckStatus.ABANDONED, AckStatus.FAILED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The messages of one turn, in order, and the turn's id."""

    turn_id: str
    messages: tuple[MessageIn, ...]
    passed_over: tuple[MessageIn, ...] = ()
    """Context that found no room: closed unseen, so that it does not come up in a later turn, out of its time."""


def eligible(due: Iterable[MessageIn], acks: Acks, *, first_poll: bool) -> list[MessageIn]:
    """Of the open rows whose time has come, those this runner may take now, oldest first.

    A row for a fresh container is taken in the first poll, or again after that, by whoever took it then.
    """
    return [row for row in due if (first_poll or not row.on_wake or row.id in acks) and _open(row, acks.get(row.id))]


def _open(row: MessageIn, ack: Ack | None) -> bool:
    """Never taken, or given back and since allowed again by the host, who alone raises `tries`."""
    return ack is None or (ack.status in _GIVEN_BACK and row.tries > ack.tries)


def withdrawn(rows: Sequence[MessageIn], acks: Acks) -> tuple[MessageIn, ...]:
    """Of eligible rows those that nobody is to see: what was deleted before anybody took it. The deletion is one of
    them where the message itself is; of a message that was taken before the agent is told, and of an answer to a
    question of ours: it counts as answered.

    Decided here, on one snapshot of both files: whoever else looked could not know what is taken meanwhile.
    """
    fresh, gone = _never_taken(rows, acks), dict[str, MessageIn]()
    for at, row in enumerate(fresh):
        if DELETION not in row.content or not _deletes_all(row):
            continue
        targets = [one for one in fresh[:at] if _is_about_the_same(one, row) and not _is_answer(one)]
        gone |= {one.id: one for one in targets if _event_of(one) != DELETION}
        if any(_event_of(one) == "message" for one in targets):
            gone |= {one.id: one for one in [*targets, row]}
    return tuple(sorted(gone.values(), key=lambda row: row.seq))


def without_deleted_files(rows: Sequence[MessageIn]) -> list[MessageIn]:
    """The rows, without the files that people took out of a message again: the rest of it is to be answered. The row
    that tells of it stays, since the message may have been shown with them."""
    left = list(rows)
    for at, row in enumerate(rows):
        if DELETION not in row.content or (said := _said_in(row)) is None or said.event != DELETION or not said.files:
            continue
        left[:at] = [_without(one, said) if _is_about_the_same(one, row) else one for one in left[:at]]
    return left


def _without(row: MessageIn, gone: ChatIn) -> MessageIn:
    said = _said_in(row)
    if said is None or said.event != "message":
        return row
    begins = tuple(f"[file: {name}{then}" for name in gone.files for then in (", ", " could not be fetched: "))
    text = "\n".join(line for line in said.text.split("\n") if not line.startswith(begins))
    if gone.text:
        text = f"\n{text}\n".replace(f"\n{gone.text}\n", "\n", 1).removeprefix("\n").removesuffix("\n")
    return replace(row, content=encode(replace(said, text=text)))


def _deletes_all(row: MessageIn) -> bool:
    said = _said_in(row)
    return said is not None and said.event == DELETION and not said.files


def _said_in(row: MessageIn) -> ChatIn | None:
    said = decoded(row).payload if row.kind is InKind.CHAT else None
    return said if isinstance(said, ChatIn) else None


def _event_of(row: MessageIn) -> str | None:
    said = _said_in(row)
    return None if said is None else said.event


def _is_answer(row: MessageIn) -> bool:
    said = decoded(row).payload
    return isinstance(said, ChatIn) and said.answers is not None


def _is_about_the_same(one: MessageIn, other: MessageIn) -> bool:
    """Rows stand in the file under the platform's id of the message that they are, or are about."""
    if one.origin is None or other.origin is None or one.origin.platform_message_id is None:
        return False
    return (one.origin.chat, one.origin.platform_message_id) == (other.origin.chat, other.origin.platform_message_id)


def controls(rows: Iterable[MessageIn]) -> list[MessageIn]:
    """Rows for the runner itself; the agent never sees them."""
    return [row for row in rows if row.kind is InKind.CONTROL]


def next_batch(rows: Sequence[MessageIn], acks: Acks) -> Batch | None:
    """The next turn out of eligible rows. A turn that is tried again keeps its batch and so its id."""
    rows = [row for row in rows if row.kind is not InKind.CONTROL]
    again = next((acks[row.id].turn_id for row in rows if row.id in acks), None)
    if again is not None:
        return Batch(turn_id=again, messages=tuple(row for row in rows if _belongs(row, again, acks)))
    fresh = _fresh(rows)
    return Batch(turn_id=turn_id(fresh[0].id), messages=fresh, passed_over=passed_over(rows, fresh)) if fresh else None


def follow_ups(rows: Sequence[MessageIn], acks: Acks) -> tuple[MessageIn, ...]:
    """What joins a turn that is running: rows never taken before, by the same rule as a batch of their own. A command
    of the command line's waits for the turn's end, and so does what came after it."""
    fresh = _fresh(_never_taken(rows, acks))
    return () if fresh and command_in(fresh[0]) is not None else fresh


def passed_over(rows: Sequence[MessageIn], taken: Sequence[MessageIn]) -> tuple[MessageIn, ...]:
    """Context among these rows that is older than the last of what is taken, and is not taken itself."""
    if not any(row.trigger for row in taken):
        return ()
    ids, last = {row.id for row in taken}, taken[-1].seq
    return tuple(row for row in rows if not row.trigger and row.seq < last and row.id not in ids)


def command_waits(rows: Sequence[MessageIn], acks: Acks) -> bool:
    """Whether a command of the command line's is to have a turn of its own."""
    return any(command_in(row) is not None for row in _never_taken(rows, acks))


def _never_taken(rows: Sequence[MessageIn], acks: Acks) -> list[MessageIn]:
    return [row for row in rows if row.kind is not InKind.CONTROL and row.id not in acks]


def _belongs(row: MessageIn, turn: str, acks: Acks) -> bool:
    return row.id in acks and acks[row.id].turn_id == turn


def _fresh(rows: Sequence[MessageIn]) -> tuple[MessageIn, ...]:
    rows = _up_to_command(rows)
    triggers = [row for row in rows if row.trigger][:BATCH_LIMIT]
    if not triggers:
        return ()
    room = BATCH_LIMIT - len(triggers)
    context = [row for row in rows if not row.trigger]
    return tuple(sorted(triggers + context[len(context) - min(room, len(context)) :], key=lambda row: row.seq))


def _up_to_command(rows: Sequence[MessageIn]) -> Sequence[MessageIn]:
    """A command is alone in its turn, and in its place: what came before it goes first."""
    for at, row in enumerate(rows):
        if command_in(row) is not None:
            before = rows[:at]
            return before if any(one.trigger for one in before) else [row]
    return rows

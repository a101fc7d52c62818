"""What can be asked of an outbound.db. Runs in a reader process: only the standard library and nanohost_protocol.

A look is a name and some arguments, so that it can cross to that process; `queries` gives each its type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from nanohost_protocol.outbound import MalformedRow, OutboundReader
from nanohost_protocol.rows import Ack, MessageOut, Turn, Usage


def outbox_batch(box: OutboundReader, cursor: int, limit: int, change: int, with_acks: int) -> dict[str, object]:
    """Messages above `cursor` unless `limit` is 0, and what changed after `change` if `with_acks` is 1."""
    return {
        "rows": messages_after(box, cursor, limit) if limit else None,
        "acks": acks_after(box, change) if with_acks else None,
    }


def messages_after(box: OutboundReader, cursor: int, limit: int) -> dict[str, object]:
    """So many messages above `cursor` at most, and whether there are more."""
    rows = box.messages_after(cursor, limit=limit)
    return {"rows": rows, "more": bool(rows) and box.highest_seq() > rows[-1].seq}


def acks_after(box: OutboundReader, change: int) -> dict[str, object]:
    """What changed, what is open, and what the turns of both took."""
    acks, claims = box.acks_after(change), box.open_claims()
    usages: dict[str, Usage | None] = {turn: box.usage(turn) for turn in {ack.turn_id for ack in (*acks, *claims)}}
    return {
        "acks": acks,
        "claims": claims,
        "usages": {turn: usage for turn, usage in usages.items() if usage},
        "more": bool(acks) and bool(box.acks_after(acks[-1].change, limit=1)),
    }


def open_claims(box: OutboundReader) -> list[Ack]:
    return box.open_claims()


def turns(box: OutboundReader, limit: int) -> list[Turn]:
    return box.turns(limit=limit)


def progress(box: OutboundReader) -> dict[str, object]:
    """What the runner says it is doing. `since`: when the turn began that runs, if one does."""
    claims = box.open_claims()
    return {
        "claims": claims,
        "state": box.progress(),
        "highest_seq": box.highest_seq(),
        "since": _running_since(box) if claims else None,
    }


def summary(box: OutboundReader, change: int, limit: int) -> dict[str, object]:
    """For checks: number and id of at most so many rows, the open claims, and whether an ack is above `change`."""
    rows: list[tuple[int, str]] = []
    while len(rows) < limit and (found := box.messages_after(rows[-1][0] if rows else 0)):
        rows.extend((row.seq, _message_id(row)) for row in found)
    return {
        "rows": rows[:limit],
        "claims": box.open_claims(),
        "has_acks": bool(box.acks_after(change, limit=1)),
    }


def _running_since(box: OutboundReader) -> datetime | None:
    running = [turn for turn in box.turns(limit=1) if turn.ended_at is None]
    return running[0].started_at if running else None


def _message_id(row: MessageOut | MalformedRow) -> str:
    return f"malformed-{row.seq}" if isinstance(row, MalformedRow) else row.id


QUERY_FUNCTIONS: Mapping[str, Callable[..., object]] = {
    look.__name__: look for look in (outbox_batch, messages_after, acks_after, open_claims, turns, progress, summary)
}

"""Implements the queries on an outbound.db. Runs in a reader process: only the standard library and nanohost_protocol.

A query is sent to that process as a name and arguments; `queries` defines the type of each answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from nanohost_protocol.outbound import MalformedRow, OutboundReader
from nanohost_protocol.rows import Ack, MessageOut, Turn, Usage


def outbox_batch(box: OutboundReader, cursor: int, limit: int, change: int, with_acks: int) -> dict[str, object]:
    """Returns messages above `cursor` unless `limit` is 0, and acks after `change` if `with_acks` is 1."""
    return {
        "rows": messages_after(box, cursor, limit) if limit else None,
        "acks": acks_after(box, change) if with_acks else None,
    }


def messages_after(box: OutboundReader, cursor: int, limit: int) -> dict[str, object]:
    """Returns at most `limit` messages above `cursor`, and whether there are more."""
    rows = box.messages_after(cursor, limit=limit)
    return {"rows": rows, "more": bool(rows) and box.highest_seq() > rows[-1].seq}


def acks_after(box: OutboundReader, change: int) -> dict[str, object]:
    """Returns the acks after `change`, the open claims, and the usage of the turns of both."""
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
    """Returns what the runner reports that it is doing. `since`: when the running turn began, if one runs."""
    claims = box.open_claims()
    return {
        "claims": claims,
        "state": box.progress(),
        "highest_seq": box.highest_seq(),
        "since": _running_since(box) if claims else None,
    }


def summary(box: OutboundReader, change: int, limit: int) -> dict[str, object]:
    """Returns, for checks, the numbers and ids of at most `limit` rows, the open claims, and whether an ack is after
    `change`."""
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
    query.__name__: query for query in (outbox_batch, messages_after, acks_after, open_claims, turns, progress, summary)
}

"""The looks into an outbound.db with their types: what a reader process answers is checked before anybody uses it.

A reader has opened a file that a container wrote. Should that file ever get the better of it, it can still say nothing
but values of these shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from nanohost.mailbox import query_functions
from nanohost_protocol.outbound import MalformedRow
from nanohost_protocol.rows import Ack, MessageOut, Turn, Usage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """A look by name, its arguments (plain JSON values), and what it answers."""

    function_name: str
    arguments: tuple[int | str, ...]
    answer_type: TypeAdapter[T]


@dataclass(frozen=True, slots=True, kw_only=True)
class AckBatch:
    """Acks above a cursor, all open claims, and by turn what they took so far. `more`: there are acks above these."""

    acks: list[Ack]
    claims: list[Ack]
    usages: dict[str, Usage]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBatch:
    """Messages above a cursor, lowest number first. `more`: there are others above these."""

    rows: list[MessageOut | MalformedRow]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxBatch:
    """What one look found for all who asked; None for what nobody asked for."""

    rows: RowBatch | None
    acks: AckBatch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerProgress:
    """What a runner says of itself. `since`: when the turn that runs began; None when none does."""

    claims: list[Ack]
    state: dict[str, str]
    highest_seq: int
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxSummary:
    """Number and id of the rows that wait in the file, its open claims, and whether acks wait to be taken over."""

    rows: list[tuple[int, str]]
    claims: list[Ack]
    has_acks: bool


_OUTBOX_BATCH = TypeAdapter(OutboxBatch)
_ACK_BATCH = TypeAdapter(AckBatch)
_CLAIMS = TypeAdapter(list[Ack])
_TURNS = TypeAdapter(list[Turn])
_PROGRESS = TypeAdapter(RunnerProgress)
_SUMMARY = TypeAdapter(MailboxSummary)


def outbox_batch(out_cursor: int, *, limit: int, ack_cursor: int, with_acks: bool) -> Query[OutboxBatch]:
    """Messages above the one cursor, none with `limit` 0, and what changed above the other if `with_acks`."""
    return Query(
        _function_name(query_functions.outbox_batch), (out_cursor, limit, ack_cursor, int(with_acks)), _OUTBOX_BATCH
    )


def acks_after(change: int) -> Query[AckBatch]:
    """What changed since that change, and what is open."""
    return Query(_function_name(query_functions.acks_after), (change,), _ACK_BATCH)


def open_claims() -> Query[list[Ack]]:
    """What is being worked on, or was when the container died."""
    return Query(_function_name(query_functions.open_claims), (), _CLAIMS)


def turns(*, limit: int = 20) -> Query[list[Turn]]:
    """The latest turns, newest first."""
    return Query(_function_name(query_functions.turns), (limit,), _TURNS)


def progress() -> Query[RunnerProgress]:
    """What the runner says it is doing."""
    return Query(_function_name(query_functions.progress), (), _PROGRESS)


def summary(change: int, *, limit: int) -> Query[MailboxSummary]:
    """All that `verify` compares, of at most so many rows."""
    return Query(_function_name(query_functions.summary), (change, limit), _SUMMARY)


def _function_name(function: Callable[..., object]) -> str:
    return function.__name__

"""Defines the queries on an outbound.db and their result types: each answer of a reader process is validated.

A reader opens a file that a container wrote. Even if that file takes control of the reader, it can only answer with
values of these types.
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
    """A query by its function's name, its arguments (plain JSON values), and the type of its answer."""

    function_name: str
    arguments: tuple[int | str, ...]
    answer_type: TypeAdapter[T]


@dataclass(frozen=True, slots=True, kw_only=True)
class AckBatch:
    """Acks above a cursor, all open claims, and their turns' usage so far. `more`: there are more acks after these."""

    acks: list[Ack]
    claims: list[Ack]
    usages: dict[str, Usage]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBatch:
    """Messages above a cursor, lowest number first. `more`: there are more messages after these."""

    rows: list[MessageOut | MalformedRow]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxBatch:
    """The result of one read; a part is None if it was not requested."""

    rows: RowBatch | None
    acks: AckBatch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerProgress:
    """What a runner reports of itself. `since`: when the running turn began; None if none runs."""

    claims: list[Ack]
    state: dict[str, str]
    highest_seq: int
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxSummary:
    """The numbers and ids of the rows in the file, its open claims, and whether acks wait to be processed."""

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
    """Reads messages above `out_cursor`, none if `limit` is 0, and acks above `ack_cursor` if `with_acks`."""
    return Query(
        _function_name(query_functions.outbox_batch), (out_cursor, limit, ack_cursor, int(with_acks)), _OUTBOX_BATCH
    )


def acks_after(change: int) -> Query[AckBatch]:
    """Reads the acks after that change, and the open claims."""
    return Query(_function_name(query_functions.acks_after), (change,), _ACK_BATCH)


def open_claims() -> Query[list[Ack]]:
    """Reads the claims that a container works on, or worked on when it died."""
    return Query(_function_name(query_functions.open_claims), (), _CLAIMS)


def turns(*, limit: int = 20) -> Query[list[Turn]]:
    """Reads the latest turns, newest first."""
    return Query(_function_name(query_functions.turns), (limit,), _TURNS)


def progress() -> Query[RunnerProgress]:
    """Reads what the runner reports that it is doing."""
    return Query(_function_name(query_functions.progress), (), _PROGRESS)


def summary(change: int, *, limit: int) -> Query[MailboxSummary]:
    """Reads what `verify` compares, for at most `limit` rows."""
    return Query(_function_name(query_functions.summary), (change, limit), _SUMMARY)


def _function_name(function: Callable[..., object]) -> str:
    return function.__name__

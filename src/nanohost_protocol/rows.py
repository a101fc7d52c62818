"""Defines the rows of both files as values. `content` is JSON text here; payloads.py decodes it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nanohost_protocol.times import from_text


class InKind(StrEnum):
    CHAT = "chat"
    TASK = "task"
    WEBHOOK = "webhook"
    SYSTEM = "system"
    CONTROL = "control"


class OutKind(StrEnum):
    CHAT = "chat"
    CARD = "card"
    QUESTION = "question"
    EDIT = "edit"
    REACTION = "reaction"
    FILE = "file"
    TASK = "task"
    SYSTEM = "system"


class AckStatus(StrEnum):
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    ABANDONED = "abandoned"


class ErrorClass(StrEnum):
    """Why a turn failed. The host has a retry rule for each class."""

    AUTH = "auth"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    CONTEXT_FULL = "context_full"
    BUDGET = "budget"
    INVALID_SESSION = "invalid_session"
    TRANSIENT = "transient"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class ChatId:
    """One chat on one platform."""

    channel_type: str
    instance: str
    platform_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The place on a platform that an inbound row came from."""

    channel_type: str
    instance: str
    platform_id: str
    thread_id: str | None = None
    platform_message_id: str | None = None

    @property
    def chat(self) -> ChatId:
        return ChatId(self.channel_type, self.instance, self.platform_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessageIn:
    """An inbound row before it has a number."""

    id: str
    kind: InKind
    timestamp: datetime
    content: str
    trigger: bool = True
    on_wake: bool = False
    process_after: datetime | None = None
    origin: Origin | None = None
    source_session_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageIn:
    """An inbound row as the runner sees it."""

    seq: int
    id: str
    kind: InKind
    timestamp: datetime
    status: str
    process_after: datetime | None
    tries: int
    trigger: bool
    on_wake: bool
    origin: Origin | None
    content: str

    @staticmethod
    def from_row(row: sqlite3.Row) -> MessageIn:
        return MessageIn(
            seq=row["seq"],
            id=row["id"],
            kind=InKind(row["kind"]),
            timestamp=from_text(row["timestamp"]),
            status=row["status"],
            process_after=_optional_time(row["process_after"]),
            tries=row["tries"],
            trigger=bool(row["trigger"]),
            on_wake=bool(row["on_wake"]),
            origin=origin_from_row(row, message_id=row["platform_message_id"]),
            content=row["content"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A name to which the agent may send: of a chat, or of another agent."""

    name: str
    display_name: str
    type: str = "channel"
    chat: ChatId | None = None

    @staticmethod
    def from_row(row: sqlite3.Row) -> Destination:
        chat = None
        if row["platform_id"] is not None:
            chat = ChatId(row["channel_type"], row["instance"], row["platform_id"])
        return Destination(name=row["name"], display_name=row["display_name"], type=row["type"], chat=chat)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessageOut:
    """An outbound row before it has a number."""

    id: str
    turn_id: str
    kind: OutKind
    content: str
    in_reply_to: str | None = None
    destination: str | None = None
    deliver_after: datetime | None = None
    recurrence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageOut:
    """An outbound row as the host reads it. A container wrote all of it: validate it before use."""

    seq: int
    id: str
    turn_id: str
    in_reply_to: str | None
    timestamp: datetime
    deliver_after: datetime | None
    kind: str
    destination: str | None
    content: str
    recurrence: str | None = None

    @staticmethod
    def from_row(row: sqlite3.Row) -> MessageOut:
        return MessageOut(
            seq=row["seq"],
            id=row["id"],
            turn_id=row["turn_id"],
            in_reply_to=row["in_reply_to"],
            timestamp=from_text(row["timestamp"]),
            deliver_after=_optional_time(row["deliver_after"]),
            kind=row["kind"],
            destination=row["destination"],
            content=row["content"],
            recurrence=row["recurrence"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnError:
    """The failure of a turn. `sentence`: for the person. `retry_at`: when a rate limit ends."""

    error_class: ErrorClass
    sentence: str
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """What the runner reports about an inbound row. `tries`: the row's count when it was claimed."""

    message_id: str
    change: int
    status: AckStatus
    container_id: str
    turn_id: str
    tries: int
    changed_at: datetime
    error: TurnError | None

    @staticmethod
    def from_row(row: sqlite3.Row) -> Ack:
        return Ack(
            message_id=row["message_id"],
            change=row["change"],
            status=AckStatus(row["status"]),
            container_id=row["container_id"],
            turn_id=row["turn_id"],
            tries=row["tries"],
            changed_at=from_text(row["changed_at"]),
            error=_turn_error(row),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The usage of a turn: tokens, and US dollars as the provider reports them; None if no price is known."""

    model: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    cost_usd: float | None = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of the agent, which answers a batch of messages."""

    turn_id: str
    attempt: int
    message_ids: tuple[str, ...]
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    usage: Usage
    continuation: str | None

    @staticmethod
    def from_row(row: sqlite3.Row) -> Turn:
        return Turn(
            turn_id=row["turn_id"],
            attempt=row["attempt"],
            message_ids=tuple(json.loads(row["message_ids"])),
            started_at=from_text(row["started_at"]),
            ended_at=_optional_time(row["ended_at"]),
            outcome=row["outcome"],
            usage=Usage(
                model=row["model"],
                tokens_in=row["tokens_in"],
                tokens_out=row["tokens_out"],
                tokens_cached=row["tokens_cached"],
                cost_usd=row["cost_usd"],
            ),
            continuation=row["continuation"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryResult:
    """The outcome of an outbound row, for the runner."""

    out_id: str
    status: str
    platform_message_ids: tuple[str, ...]
    changed_at: datetime


Meta = Mapping[str, str]


def _optional_time(text: str | None) -> datetime | None:
    return None if text is None else from_text(text)


def origin_from_row(row: sqlite3.Row, *, message_id: str | None = None) -> Origin | None:
    """Returns the place that the row's columns name; None if they are NULL."""
    if row["channel_type"] is None:
        return None
    return Origin(
        channel_type=row["channel_type"],
        instance=row["instance"],
        platform_id=row["platform_id"],
        thread_id=row["thread_id"],
        platform_message_id=message_id,
    )


def _turn_error(row: sqlite3.Row) -> TurnError | None:
    if row["error_class"] is None:
        return None
    return TurnError(
        error_class=ErrorClass(row["error_class"]),
        sentence=row["sentence"] or "",
        retry_at=_optional_time(row["retry_at"]),
    )

"""The record of one model call. It has no content, no header and no key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nanohost.model import SessionId

NO_KEY_ERROR = "there is no key for the model"
TOO_LARGE_ERROR = "the request is too large"
"""Why the gateway did not ask the service."""


class CallOutcome(StrEnum):
    """How a call ended, seen from the gateway."""

    COMPLETED = "completed"
    REJECTED = "refused"
    """The service answered with an error: as the status, or as an event in a stream that had begun well."""
    TRUNCATED = "cut"
    """The service broke off in the middle of its answer."""
    ABANDONED = "abandoned"
    """The client left, or its session was ended, before the answer was complete."""
    UNREACHABLE = "unreachable"
    """The service gave no answer."""
    NOT_SENT = "not_sent"
    """The gateway did not ask the service: there is no key, or the request is too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one answer as the service counted them.

    `tokens_in` is what was neither read from the service's cache (`tokens_cached`) nor written to it.
    `tokens_cache_written_1h` is the part of `tokens_cache_written` that is to stay for an hour; the rest for 5 minutes.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_cache_written: int = 0
    tokens_cache_written_1h: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One POST /v1/messages.

    `model` is what the service says it used, else what was asked for, else empty. `status` is the service's HTTP
    status, 0 when it gave none. `error` is empty or a sentence; the service's own words are kept in it.
    """

    session_id: SessionId
    model: str
    usage: Usage
    started_at: datetime
    duration_ms: int
    status: int
    outcome: CallOutcome
    error: str

"""Defines the record of one model call. It contains no content, no header and no key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from nanohost.model import SessionId

NO_KEY_ERROR = "there is no key for the model"
TOO_LARGE_ERROR = "the request is too large"
"""Why the gateway did not forward a request."""


class CallOutcome(StrEnum):
    """How a call ended, as seen by the gateway."""

    COMPLETED = "completed"
    REJECTED = "refused"
    """The service answered with an error: as the status, or as an event in a stream that began without one."""
    TRUNCATED = "cut"
    """The service ended its answer too early."""
    ABANDONED = "abandoned"
    """The client disconnected, or its session ended, before the answer was complete."""
    UNREACHABLE = "unreachable"
    """The service gave no answer."""
    NOT_SENT = "not_sent"
    """The gateway did not forward it: there is no key, or the request is too large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one answer as the service counted them.

    `tokens_in` counts tokens that were neither read from the service's cache (`tokens_cached`) nor written to it.
    `tokens_cache_written_1h` is the part of `tokens_cache_written` that is cached for an hour; the rest for 5 minutes.
    """

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    tokens_cache_written: int = 0
    tokens_cache_written_1h: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One POST /v1/messages.

    `model`: the model that the service reports, else the requested one, else empty. `status`: the service's HTTP
    status, 0 without one. `error`: empty or a sentence, with the service's own message.
    """

    session_id: SessionId
    model: str
    usage: Usage
    started_at: datetime
    duration_ms: int
    status: int
    outcome: CallOutcome
    error: str

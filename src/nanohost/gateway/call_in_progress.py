"""Tracks one model call while its bytes pass, and builds its record at the end."""

from __future__ import annotations

import re
from datetime import datetime

from nanohost.gateway.model_call import CallOutcome, ModelCall
from nanohost.gateway.usage_reader import DocumentReader, UsageReader, reader_for
from nanohost.model import SessionId

_MAX_HEAD_BYTES = 4096
_MODEL_PATTERN = re.compile(rb'"model"\s*:\s*"([A-Za-z0-9._:@/-]{1,200})"')
"""The model in a request, which clients write first; used only as a label, if the answer names no model."""


class CallInProgress:
    """One model call. Its methods are called in order; it keeps a few kilobytes, never the conversation."""

    def __init__(self, session_id: SessionId, *, started_at: datetime, started_s: float) -> None:
        self.session_id = session_id
        self._started_at = started_at
        self._started_s = started_s
        self._status = 0
        self._reader: UsageReader = DocumentReader()
        self._is_response_ended = False
        self._failure: tuple[CallOutcome, str] | None = None
        self._request_head = bytearray()

    def on_request_chunk(self, chunk: bytes) -> None:
        """Handles bytes of the request."""
        self._request_head += chunk[: max(0, _MAX_HEAD_BYTES - len(self._request_head))]

    def on_response_start(self, status: int, content_type: str) -> None:
        """Handles the status and headers of the answer."""
        self._status = status
        self._reader = reader_for(content_type)

    def on_response_chunk(self, chunk: bytes) -> None:
        """Handles bytes of the answer."""
        self._reader.feed(chunk)

    def on_response_end(self) -> None:
        """Handles that the service has completed its answer."""
        self._reader.close()
        self._is_response_ended = True

    def on_failure(self, outcome: CallOutcome, error: str) -> None:
        """Handles an end that the bytes of the answer do not show."""
        self._failure = outcome, error

    @property
    def has_failed(self) -> bool:
        """Whether a failure was recorded so far."""
        return self._failure is not None

    def to_model_call(self, *, ended_s: float) -> ModelCall:
        """Returns the record of the call. `ended_s` is of the same monotonic clock as `started_s`."""
        asked_for = _MODEL_PATTERN.search(self._request_head)
        findings = self._reader.summary
        outcome, error = self._failure or self._outcome_from_response()
        return ModelCall(
            session_id=self.session_id,
            model=findings.model or (asked_for[1].decode() if asked_for else ""),
            usage=findings.usage,
            started_at=self._started_at,
            duration_ms=round((ended_s - self._started_s) * 1000),
            status=self._status,
            outcome=outcome,
            error=error,
        )

    def _outcome_from_response(self) -> tuple[CallOutcome, str]:
        """Returns the outcome and error. A client may disconnect after the last event: the answer is complete then."""
        findings = self._reader.summary
        if findings.error or self._status >= 400:
            return CallOutcome.REJECTED, findings.error or f"status {self._status}"
        if findings.is_complete:
            return CallOutcome.COMPLETED, ""
        if self._is_response_ended:
            return CallOutcome.TRUNCATED, "the answer ended before its message did"
        return CallOutcome.ABANDONED, ""

"""A model call while it lasts: collects what passes, and says at the end what became of it."""

from __future__ import annotations

import re
from datetime import datetime

from nanohost.gateway.model_call import CallOutcome, ModelCall
from nanohost.gateway.usage import DocumentReader, UsageReader, reader_for
from nanohost.model import SessionId

_HEAD_BYTES = 4096
_MODEL = re.compile(rb'"model"\s*:\s*"([A-Za-z0-9._:@/-]{1,200})"')
"""Only for calls whose answer names no model; clients write it first. Never more than a label."""


class CallInProgress:
    """Told what happens, in order; holds a few kilobytes, never the conversation."""

    def __init__(self, session_id: SessionId, *, started_at: datetime, started_s: float) -> None:
        self.session_id = session_id
        self._started_at = started_at
        self._started_s = started_s
        self._status = 0
        self._reader: UsageReader = DocumentReader()
        self._answer_ended = False
        self._verdict: tuple[CallOutcome, str] | None = None
        self._head = bytearray()

    def sends(self, chunk: bytes) -> None:
        """Bytes of the request."""
        self._head += chunk[: max(0, _HEAD_BYTES - len(self._head))]

    def is_answered(self, status: int, content_type: str) -> None:
        """The answer's status and headers are there."""
        self._status = status
        self._reader = reader_for(content_type)

    def receives(self, chunk: bytes) -> None:
        """Bytes of the answer."""
        self._reader.feed(chunk)

    def answer_ends(self) -> None:
        """The service closed its answer in good order."""
        self._reader.close()
        self._answer_ended = True

    def fails(self, outcome: CallOutcome, error: str) -> None:
        """It ended in a way that the answer's bytes do not tell."""
        self._verdict = outcome, error

    @property
    def failed(self) -> bool:
        """Whether it ended so, as far as is known."""
        return self._verdict is not None

    def row(self, *, ended_s: float) -> ModelCall:
        """The call as it stands; `ended_s` is of the same monotonic clock as `started_s`."""
        asked_for = _MODEL.search(self._head)
        findings = self._reader.findings
        outcome, error = self._verdict or self._judged()
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

    def _judged(self) -> tuple[CallOutcome, str]:
        """A client may hang up on the last event: that is a complete answer, not an abandoned one."""
        findings = self._reader.findings
        if findings.error or self._status >= 400:
            return CallOutcome.REFUSED, findings.error or f"status {self._status}"
        if findings.ended:
            return CallOutcome.COMPLETED, ""
        if self._answer_ended:
            return CallOutcome.CUT, "the answer ended before its message did"
        return CallOutcome.ABANDONED, ""

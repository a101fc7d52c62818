"""Reads tokens, model and errors from an answer as its bytes pass, wherever the chunks end.

Pure, with bounded memory, and never raises: an answer that it cannot parse has no usage, and still passes.
"""

from __future__ import annotations

import json
from typing import Protocol

from nanohost.gateway.model_call import Usage

MAX_EVENT_BYTES = 64 * 1024
"""Events with usage have a few hundred bytes; a longer line is content and is skipped."""
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
"""No usage is read from a longer answer that is not streamed."""
MAX_TOKENS = 2**53

_USAGE_FIELDS = {
    "input_tokens": "tokens_in",
    "output_tokens": "tokens_out",
    "cache_read_input_tokens": "tokens_cached",
    "cache_creation_input_tokens": "tokens_cache_written",
}
_CACHE_CREATION_FIELDS = {"ephemeral_1h_input_tokens": "tokens_cache_written_1h"}
"""The fields in the `cache_creation` of a usage."""
_RELEVANT_EVENTS = (b'"message_start"', b'"message_delta"', b'"message_stop"', b'"error"')


class ResponseSummary:
    """What is known so far. Counts are totals: a later value replaces an earlier one."""

    def __init__(self) -> None:
        self.model = ""
        self.error = ""
        self.is_complete = False
        """The answer is complete: its last event or an error has passed."""
        self._tokens: dict[str, int] = {}

    @property
    def usage(self) -> Usage:
        return Usage(**self._tokens)

    def add_event(self, document: object) -> None:
        """Adds an event or a whole answer, which have the same fields."""
        if not isinstance(document, dict):
            return
        match document.get("type"):
            case "message_start":
                self._add_message(document.get("message"))
            case "message_delta":
                self._add_usage(document.get("usage"))
            case "message_stop":
                self.is_complete = True
            case "message":
                self._add_message(document)
                self.is_complete = True
            case "error":
                self._set_error(document.get("error"))
            case _:
                pass

    def _add_message(self, message: object) -> None:
        if isinstance(message, dict):
            self.model = _truncated_text(message.get("model"), 200) or self.model
            self._add_usage(message.get("usage"))

    def _add_usage(self, usage: object) -> None:
        if isinstance(usage, dict):
            written = usage.get("cache_creation")
            for counts, fields in (
                (usage, _USAGE_FIELDS),
                (written if isinstance(written, dict) else {}, _CACHE_CREATION_FIELDS),
            ):
                for theirs, ours in fields.items():
                    count = counts.get(theirs)
                    if type(count) is int and 0 <= count <= MAX_TOKENS:
                        self._tokens[ours] = count

    def _set_error(self, error: object) -> None:
        fields = error if isinstance(error, dict) else {}
        kind, message = _truncated_text(fields.get("type"), 100), _truncated_text(fields.get("message"), 500)
        self.error = ": ".join(part for part in (kind or "error", message) if part)
        self.is_complete = True


class UsageReader(Protocol):
    """Reads every byte of one answer, in order."""

    summary: ResponseSummary

    def feed(self, chunk: bytes) -> None: ...

    def close(self) -> None:
        """Handles the end of the answer."""
        ...


def reader_for(content_type: str) -> UsageReader:
    """Returns the reader for a stream of events, or for one document."""
    return StreamReader() if content_type == "text/event-stream" else DocumentReader()


class StreamReader:
    """Reads server-sent events line by line. Keeps at most one line, and none that is too long."""

    def __init__(self) -> None:
        self.summary = ResponseSummary()
        self._line = bytearray()
        self._is_skipping = False

    def feed(self, chunk: bytes) -> None:
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            self._append(part)
            self._end_line()
        self._append(rest)

    def close(self) -> None:
        self._end_line()

    def _append(self, part: bytes) -> None:
        self._is_skipping = self._is_skipping or len(self._line) + len(part) > MAX_EVENT_BYTES
        if self._is_skipping:
            self._line.clear()
        else:
            self._line += part

    def _end_line(self) -> None:
        line = bytes(self._line)
        if line.startswith(b"data:") and any(word in line for word in _RELEVANT_EVENTS):
            self.summary.add_event(_parse_json(line[5:]))
        self._line.clear()
        self._is_skipping = False


class DocumentReader:
    """Reads one JSON document when it is complete."""

    def __init__(self) -> None:
        self.summary = ResponseSummary()
        self._document = bytearray()
        self._is_too_long = False

    def feed(self, chunk: bytes) -> None:
        self._is_too_long = self._is_too_long or len(self._document) + len(chunk) > MAX_DOCUMENT_BYTES
        if self._is_too_long:
            self._document.clear()
        else:
            self._document += chunk

    def close(self) -> None:
        self.summary.add_event(_parse_json(bytes(self._document)))


def _parse_json(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _truncated_text(value: object, limit: int) -> str:
    return value[:limit] if isinstance(value, str) else ""

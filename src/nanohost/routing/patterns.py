"""Compiles and matches the regular expressions of wirings, in linear time for any pattern.

Matching time grows with the length of the text only (RE2: no backreferences, no lookaround).
Never: a pattern blocks the event loop.
"""

from __future__ import annotations

from functools import cache

import re2

MAX_PATTERN_CHARS = 500
"""Characters."""
MAX_PATTERN_BYTES = 1 << 20
"""Bytes that one compiled pattern may use; a pattern that needs more is refused."""


class PatternError(ValueError):
    """The pattern is not a regular expression that RE2 can match; the message says why."""


def matches(pattern: str, text: str) -> bool:
    """Returns whether the pattern matches anywhere in the text. Raises PatternError."""
    try:
        return re2.search(pattern, text, _re2_options()) is not None
    except re2.error as error:
        raise PatternError(_error_text(error)) from None
    except UnicodeEncodeError:
        raise PatternError("it is not text") from None


def validate_pattern(pattern: str) -> None:
    """Raises PatternError if the pattern must not be saved."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise PatternError(f"it has {len(pattern)} characters, more than {MAX_PATTERN_CHARS}")
    matches(pattern, "")


@cache
def _re2_options() -> re2.Options:
    options = re2.Options()
    options.max_mem = MAX_PATTERN_BYTES
    options.log_errors = False
    return options


def _error_text(error: Exception) -> str:
    message = error.args[0] if error.args else ""
    text = message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
    if text.startswith(("invalid perl operator: (?", "invalid escape sequence: \\")):
        return f"{text} (looking ahead or back, and referring back to a group, are not to be had)"
    return text

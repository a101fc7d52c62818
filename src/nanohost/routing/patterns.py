"""Compiles and matches the regular expressions of wirings, in linear time whatever people write.

Matching takes time that grows with the length of the text and with nothing else (RE2: no backreferences, no look
around). Never: a pattern that makes the host stand still.
"""

from __future__ import annotations

from functools import cache

import re2

MAX_PATTERN_CHARS = 500
"""Characters."""
MAX_PATTERN_BYTES = 1 << 20
"""Bytes that one pattern may take; what needs more is refused."""


class PatternError(ValueError):
    """It is no regular expression that can be tried in bounded time; says why."""


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text. Raises PatternError."""
    try:
        return re2.search(pattern, text, _re2_options()) is not None
    except re2.error as error:
        raise PatternError(_error_text(error)) from None
    except UnicodeEncodeError:
        raise PatternError("it is not text") from None


def validate_pattern(pattern: str) -> None:
    """Raises PatternError for what is not to be saved."""
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
    said = error.args[0] if error.args else ""
    words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    if words.startswith(("invalid perl operator: (?", "invalid escape sequence: \\")):
        return f"{words} (looking ahead or back, and referring back to a group, are not to be had)"
    return words

"""The regular expressions that people give a wiring: tried on each message of a chat, whatever strangers write there.

Matching takes time that grows with the length of the text and with nothing else (RE2: no backreferences, no look
around). Never: a pattern that makes the host stand still.
"""

from __future__ import annotations

from functools import cache

import re2

LONGEST_PATTERN = 500
"""Characters."""
MEMORY = 1 << 20
"""Bytes that one pattern may take; what needs more is refused."""


class PatternError(ValueError):
    """It is no regular expression that can be tried in bounded time; says why."""


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text. Raises PatternError."""
    try:
        return re2.search(pattern, text, _options()) is not None
    except re2.error as error:
        raise PatternError(_words(error)) from None
    except UnicodeEncodeError:
        raise PatternError("it is not text") from None


def check(pattern: str) -> None:
    """Raises PatternError for what is not to be saved."""
    if len(pattern) > LONGEST_PATTERN:
        raise PatternError(f"it has {len(pattern)} characters, more than {LONGEST_PATTERN}")
    matches(pattern, "")


@cache
def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = MEMORY
    options.log_errors = False
    return options


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    if words.startswith(("invalid perl operator: (?", "invalid escape sequence: \\")):
        return f"{words} (looking ahead or back, and referring back to a group, are not to be had)"
    return words

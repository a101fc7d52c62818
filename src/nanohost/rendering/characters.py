"""Classifies characters by how they affect the Markdown beside them. Pure."""

from __future__ import annotations

import unicodedata

_CLOSING_PUNCTUATION = frozenset(
    ".,:;!?%\u2026\uff0c\u3002\uff1a\uff1b\u3001\uff01\uff1f\uff05\uff0e\uff61\uff64\u00b7\u30fb\uff5e\u301c"
)
_QUOTES = frozenset("\"'")


def is_wide(character: str) -> bool:
    """Of a script that is written without blanks between words, or its punctuation."""
    return not character.isascii() and unicodedata.east_asian_width(character) in ("W", "F", "H")


def is_punctuation(character: str) -> bool:
    """Punctuation or a symbol, as CommonMark means it since 0.31."""
    return unicodedata.category(character)[0] in "PS"


def is_strict_punctuation(character: str) -> bool:
    """Punctuation for every reader of Markdown: before CommonMark 0.31 a symbol beyond ASCII was none."""
    return unicodedata.category(character)[0] == "P" or (character.isascii() and is_punctuation(character))


def is_opening(character: str, before: str) -> bool:
    """Whether it begins something; `before` is what stands before it, by which a straight quote is known."""
    if character in _QUOTES:
        return before.isspace() or unicodedata.category(before) in ("Ps", "Pi")
    return unicodedata.category(character) in ("Ps", "Pi")


def is_closing(character: str) -> bool:
    """Whether it ends something, so that no blank stands before it."""
    return character in _CLOSING_PUNCTUATION or unicodedata.category(character) in ("Pe", "Pf")


def can_take_space(left: str, right: str) -> bool:
    """Whether a blank between two texts changes nothing but the look: not within a word or a number, not before what
    ends something, not behind what begins something. Neither text is empty."""
    end, start = left[-1], right[0]
    if end.isspace() or start.isspace() or is_closing(start) or is_opening(end, "a"):
        return False
    if is_wide(end) or is_wide(start):
        return True
    is_number = start.isdigit() and left[-2:-1].isdigit()
    return (is_closing(end) or end in _QUOTES) and not is_number

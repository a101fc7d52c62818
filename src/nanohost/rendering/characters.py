"""Classifies characters by their effect on adjacent Markdown. Pure."""

from __future__ import annotations

import unicodedata

_CLOSING_PUNCTUATION = frozenset(
    ".,:;!?%\u2026\uff0c\u3002\uff1a\uff1b\u3001\uff01\uff1f\uff05\uff0e\uff61\uff64\u00b7\u30fb\uff5e\u301c"
)
_QUOTES = frozenset("\"'")


def is_wide(character: str) -> bool:
    """Returns whether the character is of a script without blanks between words, or its punctuation."""
    return not character.isascii() and unicodedata.east_asian_width(character) in ("W", "F", "H")


def is_punctuation(character: str) -> bool:
    """Returns whether it is punctuation or a symbol, as defined by CommonMark since 0.31."""
    return unicodedata.category(character)[0] in "PS"


def is_strict_punctuation(character: str) -> bool:
    """Returns whether every Markdown parser counts it as punctuation: before CommonMark 0.31, non-ASCII symbols did
    not."""
    return unicodedata.category(character)[0] == "P" or (character.isascii() and is_punctuation(character))


def is_opening(character: str, before: str) -> bool:
    """Returns whether it opens a bracket or quote; `before`: the preceding text, which decides for a straight quote."""
    if character in _QUOTES:
        return before.isspace() or unicodedata.category(before) in ("Ps", "Pi")
    return unicodedata.category(character) in ("Ps", "Pi")


def is_closing(character: str) -> bool:
    """Returns whether it closes something, so that no blank precedes it."""
    return character in _CLOSING_PUNCTUATION or unicodedata.category(character) in ("Pe", "Pf")


def can_take_space(left: str, right: str) -> bool:
    """Returns whether a blank between two texts changes only the look: not within a word or a number, not before a
    closing and not after an opening character. Neither text is empty."""
    end, start = left[-1], right[0]
    if end.isspace() or start.isspace() or is_closing(start) or is_opening(end, "a"):
        return False
    if is_wide(end) or is_wide(start):
        return True
    is_number = start.isdigit() and left[-2:-1].isdigit()
    return (is_closing(end) or end in _QUOTES) and not is_number

"""Marks that end in punctuation and go on without a blank: `**Note:**see`, `**「重要」**です`.

CommonMark takes a mark between punctuation and a letter for one that opens or closes by what stands on its other side,
which is right where words are parted by blanks. Chinese and Japanese have none, and people and models leave one out in
English, too. What CommonMark takes for a mark stays one here; this only adds what it leaves standing as asterisks:

* a mark behind punctuation that ends something may close, whatever follows;
* a mark before punctuation that begins something may open behind a letter of a script that has no blanks.

Not so where marks are rather operators or parts of names: `2*(3+4)*5`, `this._a._b`, `f(*args)*n`. Nor does an asterisk
begin anything within a product: `5*3*2`, `a*b*c`, `2**10**3`; it would be lost, and with it what the numbers say.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from markdown_it.rules_inline import StateInline

from nanohost.rendering.characters import is_closing, is_opening, is_punctuation, is_wide

_LATIN_CLOSERS = frozenset(":;,.!?)]}\"'%`>*_~…")
_UNDERSCORE_CLOSERS = frozenset(":!?)]")
_SINGLE_LETTER = re.compile(r"[A-Za-z](?![A-Za-z0-9])")
"""What stands for a number in a product."""
_InlineRule = Callable[[StateInline, bool], bool]


def with_cjk_and_punctuation(tokenize: _InlineRule) -> _InlineRule:
    """markdown-it's rule for a mark, and then what more the mark may do."""

    def rule(state: StateInline, silent: bool) -> bool:
        start, first = state.pos, len(state.delimiters)
        if not tokenize(state, silent):
            return False
        if len(state.delimiters) > first:
            opens, closes = _can_open_and_close(state.src, start, state.pos, state.posMax)
            is_operator = _is_operator(state.src, start, state.pos)
            for delimiter in state.delimiters[first:]:
                delimiter.open = (delimiter.open or opens) and not is_operator
                delimiter.close |= closes
        return True

    return rule


def _is_operator(text: str, start: int, end: int) -> bool:
    """Whether asterisks stand in a product: between two letters or numbers, with a number at either side, or one
    asterisk before a letter that is by itself."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if text[start] != "*" or not (before.isascii() and before.isalnum() and after.isascii() and after.isalnum()):
        return False
    return before.isdigit() or after.isdigit() or (end - start == 1 and _SINGLE_LETTER.match(text, end) is not None)


def _can_open_and_close(text: str, start: int, end: int, limit: int) -> tuple[bool, bool]:
    """Whether the marks from `start` to `end` may open, and whether they may close."""
    before = text[start - 1] if start else " "
    after = text[end] if end < limit else " "
    if before.isspace() or after.isspace():
        return False, False
    # An underscore there is rather part of a name.
    opens = text[start] != "_" and is_wide(before) and is_punctuation(after) and not is_closing(after)
    return opens, is_punctuation(before) and not is_punctuation(after) and _can_close(text, start, end)


def _can_close(text: str, start: int, end: int) -> bool:
    mark, before, after = text[start], text[start - 1], text[end]
    if is_opening(before, text[start - 2] if start > 1 else " ") or before == "\\":
        return False
    if mark == "_" and not _is_at_word_start(text, text.rfind(mark, 0, start)):
        return False
    if is_wide(after) or not before.isascii():
        return True
    if before not in (_UNDERSCORE_CLOSERS if mark == "_" else _LATIN_CLOSERS):
        return False
    return end - start > 1 or before not in ")]}" or _is_balanced(text[text.rfind(mark, 0, start) + 1 : start])


def _is_at_word_start(text: str, place: int) -> bool:
    """Whether the underscore there is no part of a name."""
    while place > 0 and text[place - 1] in "_*~":
        place -= 1
    return place == 0 or (place > 0 and (text[place - 1].isspace() or is_opening(text[place - 1], " ")))


def _is_balanced(text: str) -> bool:
    return all(text.count(left) == text.count(right) for left, right in ("()", "[]", "{}"))

"""Backslashes that are meant: `C:\\Users\\ann\\.ssh\\_old`, `\\d+\\.\\d+`.

Markdown drops a backslash before any punctuation, and only there. Who writes Markdown knows that, so a word in which
one stands before a letter or a number (`\\U`, `\\d`), or that begins as a path (`C:\\_old`, `~\\.ssh`), is a path or a
pattern as it stands: all its backslashes stay, and what they stand before is no markup. In any other word they are
escapes, as they were. (decision 0066)
"""

from __future__ import annotations

import re
from functools import lru_cache

from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.escape import escape

_WORD = re.compile(r"[^\s\u2018-\u201f\u3000-\u3002\u3008-\u3011\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f]+")
_BACKSLASH = re.compile(r"\\(.?)", re.DOTALL)
_SHRUG = "¯\\_("
_PATH = re.compile(r"[\"'(\[{<*_]*(?:[A-Za-z]:\\(?!\\)|(?:~|\.{1,2}|%\w+%)\\[._-]+\w)")


def literal_backslash(state: StateInline, silent: bool) -> bool:
    """markdown-it's rule for escapes, except for the backslashes that are meant."""
    if state.src[state.pos] != "\\" or state.pos not in _literal_positions(state.src):
        return escape(state, silent)
    followed = state.src[state.pos + 1 : state.pos + 2]
    text = "\\" if not followed or followed.isspace() else "\\" + followed
    if not silent:
        token = state.push("text_special", "", 0)
        token.content = token.markup = text
        token.info = "escape"
    state.pos += len(text)
    return True


@lru_cache(maxsize=2)
def _literal_positions(text: str) -> frozenset[int]:
    """Where the backslashes stand that are meant."""
    places: set[int] = set()
    for word in _WORD.finditer(text):
        if "\\" in word[0] and _is_literal_word(word[0]):
            places.update(word.start() + found.start() for found in _BACKSLASH.finditer(word[0]))
    return frozenset(places)


def _is_literal_word(word: str) -> bool:
    return _SHRUG in word or bool(_PATH.match(word)) or any(found[1].isalnum() for found in _BACKSLASH.finditer(word))

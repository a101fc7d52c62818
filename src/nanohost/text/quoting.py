"""Quotes text of people and agents, so that none of it can pass for the host's own text. Pure.

Promises: quoted text is formatted as code, where no platform reads markup, links or mentions. Every line of a block
begins with a bar, so that it cannot be mistaken for a line of the host even where code has no marks. Invisible
characters, and those that change the writing direction, are written out.
Never: leaves out text without saying so.
"""

from __future__ import annotations

import re
import shlex
import unicodedata

from nanohost.text.translation import _

MAX_NAME_CHARS = 60
MAX_COMMAND_CHARS = 500
MAX_MESSAGE_CHARS = 500
"""Characters of a message that are shown; a note says how many more there are."""
MAX_LINE_CHARS = 100
"""Characters; longer lines are wrapped. No platform splits a message within a line this short."""
QUOTE_PREFIX, CONTINUATION_PREFIX = "│ ", "┊ "
_INVISIBLE_CHARS = {"⟨", "\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u2800", "\u3164", "\uffa0"}
"""Characters that are letters or marks by category but invisible, and the bracket that escapes are written with."""
_BLANK_CATEGORIES = frozenset({"Cf", "Zl", "Zp", "Zs"})
_MARKUP_CHARS = re.compile(r"([\\`*_\[\]<>~|&])")
_CONTROL_CHARS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and characters that change the writing direction."""


def escape_invisible(text: str) -> str:
    """Returns the text with its line breaks; invisible and control characters are replaced by their numbers."""
    return "".join(char if _is_visible(char) else f"⟨U+{ord(char):04X}⟩" for char in text.replace("\r\n", "\n"))


def name(text: str, *, limit: int = MAX_NAME_CHARS) -> str:
    """Quotes a name on one line, as code."""
    shown = escape_invisible(text.replace("\n", " ").strip()).replace("`", "'")
    if len(shown) > limit:
        shown = shown[:limit].rstrip() + "…"
    return f"`{shown}`" if shown else _("somebody without a name")


def command(*words: str) -> str:
    """Formats a shell command to type, as code. Each word is quoted as one word for a shell."""
    return name(shlex.join(word.replace("`", "'") for word in words), limit=MAX_COMMAND_CHARS)


def user(user_id: str, display_name: str = "") -> str:
    """Quotes a user: the display name, if any, and always the id."""
    id = name(user_id)
    return f"{name(display_name)} ({id})" if display_name.strip() else id


def escape_inline(text: str, *, limit: int) -> str:
    """Escapes text for use within a sentence: on one line, without markup or changes of the writing direction."""
    line = " ".join(_CONTROL_CHARS.sub(" ", text).split())
    shown = line if len(line) <= limit else f"{line[: limit - 1]}…"
    return _MARKUP_CHARS.sub(r"\\\1", shown)


def quote_block(text: str, *, limit: int | None = None) -> str:
    """Quotes a text as lines of code that each begin with a bar. `limit`: characters of it that are shown."""
    left = 0 if limit is None else max(len(text) - limit, 0)
    lines = [part for line in escape_invisible(text[:limit]).split("\n") for part in _wrap_line(line)]
    more = [_("… and {count} characters more", count=f"{left:,}")] if left else []
    fence = "`" * max(3, *(_longest_backtick_run(line) + 1 for line in lines))
    return "\n".join([fence, *lines, fence, *more])


def _wrap_line(line: str) -> list[str]:
    parts = [line[at : at + MAX_LINE_CHARS] for at in range(0, len(line), MAX_LINE_CHARS)] or [""]
    return [f"{QUOTE_PREFIX if number == 0 else CONTINUATION_PREFIX}{part}" for number, part in enumerate(parts)]


def is_blank(text: str) -> bool:
    """Returns whether nothing of the text is visible. Characters unknown to Python count as visible."""
    unseen = _INVISIBLE_CHARS - {"⟨"}
    return all(char.isspace() or char in unseen or unicodedata.category(char) in _BLANK_CATEGORIES for char in text)


def _is_visible(char: str) -> bool:
    if char in "\n ":
        return True
    return unicodedata.category(char)[0] not in "CZ" and char not in _INVISIBLE_CHARS


def _longest_backtick_run(line: str) -> int:
    """Returns the length of the longest run of backticks."""
    return max((len(run) for run in "".join(c if c == "`" else " " for c in line).split()), default=0)

"""Quotes what people and agents wrote, so that nothing of it can pass for the host's own words. Pure.

Promises: it stands in code, where no platform reads markup, links or mentions; every line of a text begins with a bar,
so that none can be mistaken for a line of ours even where code has no marks; what nobody would see, and what turns a
line around, is written out. Never: a line that is left out without saying so. Only what people said to an agent is
repeated as `plain` words, among its own.
"""

from __future__ import annotations

import re
import shlex
import unicodedata

from nanohost.text.translation import _

MAX_NAME_CHARS = 60
MAX_COMMAND_CHARS = 500
MAX_MESSAGE_CHARS = 500
"""Characters of a message; it says how many more there are."""
MAX_LINE_CHARS = 100
"""Characters; longer lines go on in the next one. No platform's cut falls into a line that is so short."""
QUOTE_PREFIX, CONTINUATION_PREFIX = "│ ", "┊ "
_INVISIBLE_CHARS = {"⟨", "\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u2800", "\u3164", "\uffa0"}
"""Letters and marks by their category, and nothing to see; and what we write those with."""
_BLANK_CATEGORIES = frozenset({"Cf", "Zl", "Zp", "Zs"})
_MARKUP_CHARS = re.compile(r"([\\`*_\[\]<>~|&])")
_CONTROL_CHARS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What a page or a terminal obeys, and what turns a line around."""


def escape_invisible(text: str) -> str:
    """The text on its lines, with what cannot be seen, and what a terminal or a page obeys, by its number."""
    return "".join(char if _is_visible(char) else f"⟨U+{ord(char):04X}⟩" for char in text.replace("\r\n", "\n"))


def name(text: str, *, limit: int = MAX_NAME_CHARS) -> str:
    """A name of theirs, on one line, as code."""
    shown = escape_invisible(text.replace("\n", " ").strip()).replace("`", "'")
    if len(shown) > limit:
        shown = shown[:limit].rstrip() + "…"
    return f"`{shown}`" if shown else _("somebody without a name")


def command(*words: str) -> str:
    """What somebody is to type at the machine, as code. A word that others wrote is one word to a shell, too."""
    return name(shlex.join(word.replace("`", "'") for word in words), limit=MAX_COMMAND_CHARS)


def user(user_id: str, display_name: str = "") -> str:
    """Somebody as whoever reads of them knows them: what they call themselves, if anything, and always the id."""
    id = name(user_id)
    return f"{name(display_name)} ({id})" if display_name.strip() else id


def escape_inline(text: str, *, limit: int) -> str:
    """Words of a sentence, on one line: nothing of them is markup or turns the line around."""
    line = " ".join(_CONTROL_CHARS.sub(" ", text).split())
    shown = line if len(line) <= limit else f"{line[: limit - 1]}…"
    return _MARKUP_CHARS.sub(r"\\\1", shown)


def quote_block(text: str, *, limit: int | None = None) -> str:
    """A text of theirs, as lines of code that each begin with a bar. `limit`: characters that are shown of it."""
    left = 0 if limit is None else max(len(text) - limit, 0)
    lines = [part for line in escape_invisible(text[:limit]).split("\n") for part in _wrap_line(line)]
    more = [_("… and {count} characters more", count=f"{left:,}")] if left else []
    fence = "`" * max(3, *(_longest_backtick_run(line) + 1 for line in lines))
    return "\n".join([fence, *lines, fence, *more])


def _wrap_line(line: str) -> list[str]:
    parts = [line[at : at + MAX_LINE_CHARS] for at in range(0, len(line), MAX_LINE_CHARS)] or [""]
    return [f"{QUOTE_PREFIX if number == 0 else CONTINUATION_PREFIX}{part}" for number, part in enumerate(parts)]


def is_blank(text: str) -> bool:
    """Whether nobody would see anything of it. What Python does not know yet may be seen."""
    unseen = _INVISIBLE_CHARS - {"⟨"}
    return all(char.isspace() or char in unseen or unicodedata.category(char) in _BLANK_CATEGORIES for char in text)


def _is_visible(char: str) -> bool:
    if char in "\n ":
        return True
    return unicodedata.category(char)[0] not in "CZ" and char not in _INVISIBLE_CHARS


def _longest_backtick_run(line: str) -> int:
    """The longest run of backticks."""
    return max((len(run) for run in "".join(c if c == "`" else " " for c in line).split()), default=0)

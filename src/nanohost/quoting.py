"""What people and agents wrote, shown so that nothing of it can pass for the host's own words. Pure.

Promises: it stands in code, where no platform reads markup, links or mentions; every line of a text begins with a bar,
so that none can be mistaken for a line of ours even where code has no marks; what nobody would see, and what turns a
line around, is written out. Never: a line that is left out without saying so. Only what people said to an agent is
repeated as `plain` words, among its own.
"""

from __future__ import annotations

import re
import shlex
import unicodedata

LONGEST_NAME = 60
LONGEST_COMMAND = 500
LONGEST_MESSAGE = 500
"""Characters of a message; it says how many more there are."""
LINE = 100
"""Characters; longer lines go on in the next one. No platform's cut falls into a line that is so short."""
BAR, GOES_ON = "│ ", "┊ "
_UNSEEN = {"⟨", "\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u2800", "\u3164", "\uffa0"}
"""Letters and marks by their category, and nothing to see; and what we write those with."""
_BLANK = frozenset({"Cf", "Zl", "Zp", "Zs"})
_MARKUP = re.compile(r"([\\`*_\[\]<>~|&])")
_OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What a page or a terminal obeys, and what turns a line around."""


def visible(text: str) -> str:
    """The text on its lines, with what cannot be seen, and what a terminal or a page obeys, by its number."""
    return "".join(char if _is_seen(char) else f"⟨U+{ord(char):04X}⟩" for char in text.replace("\r\n", "\n"))


def name(text: str, *, limit: int = LONGEST_NAME) -> str:
    """A name of theirs, on one line, as code."""
    shown = visible(text.replace("\n", " ").strip()).replace("`", "'")
    if len(shown) > limit:
        shown = shown[:limit].rstrip() + "…"
    return f"`{shown}`" if shown else "somebody without a name"


def command(*words: str) -> str:
    """What somebody is to type at the machine, as code. A word that others wrote is one word to a shell, too."""
    return name(shlex.join(word.replace("`", "'") for word in words), limit=LONGEST_COMMAND)


def user(user_id: str, called: str = "") -> str:
    """Somebody as whoever reads of them knows them: what they call themselves, if anything, and always the id."""
    id = name(user_id)
    return f"{name(called)} ({id})" if called.strip() else id


def plain(text: str, *, limit: int) -> str:
    """Words of a sentence, on one line: nothing of them is markup or turns the line around."""
    line = " ".join(_OBEYED.sub(" ", text).split())
    shown = line if len(line) <= limit else f"{line[: limit - 1]}…"
    return _MARKUP.sub(r"\\\1", shown)


def quoted(text: str, *, limit: int | None = None) -> str:
    """A text of theirs, as lines of code that each begin with a bar. `limit`: characters that are shown of it."""
    left = 0 if limit is None else max(len(text) - limit, 0)
    lines = [part for line in visible(text[:limit]).split("\n") for part in _folded(line)]
    more = [f"… and {left:,} characters more"] if left else []
    fence = "`" * max(3, *(_ticks(line) + 1 for line in lines))
    return "\n".join([fence, *lines, fence, *more])


def _folded(line: str) -> list[str]:
    parts = [line[at : at + LINE] for at in range(0, len(line), LINE)] or [""]
    return [f"{BAR if number == 0 else GOES_ON}{part}" for number, part in enumerate(parts)]


def is_blank(text: str) -> bool:
    """Whether nobody would see anything of it. What Python does not know yet may be seen."""
    unseen = _UNSEEN - {"⟨"}
    return all(char.isspace() or char in unseen or unicodedata.category(char) in _BLANK for char in text)


def _is_seen(char: str) -> bool:
    if char in "\n ":
        return True
    return unicodedata.category(char)[0] not in "CZ" and char not in _UNSEEN


def _ticks(line: str) -> int:
    """The longest run of backticks."""
    return max((len(run) for run in "".join(c if c == "`" else " " for c in line).split()), default=0)

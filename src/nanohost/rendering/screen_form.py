"""Markdown on the screen of a terminal: what other channels get as markup is written in the codes that terminals obey,
and lines end between words. Line breaks stay where they were written, as people see them elsewhere. Pure.

Codes are ours alone: what is said has no control characters left (see parsing.cleaned).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nanohost.rendering.dialect import Dialect
from nanohost.rendering.parsing import in_words, parse
from nanohost.rendering.pieces import Kind, Piece, Run, Style, lines_of
from nanohost.rendering.tables import width

NARROWEST = 10
"""Columns that words always have, however deep they are pushed in."""
CODE_INDENT = "    "
_WORDS = re.compile(r"\s+|\S+")
_SHOWN_WORSE = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What turns a line around."""


def on_screen(markdown: str, columns: int, *, colours: bool) -> str:
    """The text for a terminal that is so wide. `colours`: code has one; else it keeps its ticks."""
    pieces = parse(_SHOWN_WORSE.sub("\N{REPLACEMENT CHARACTER}", markdown))
    return _Screen(columns, colours=colours).part(pieces)


class _Screen(Dialect):
    marks: tuple[tuple[Style, str, str], ...] = (
        (Style.BOLD, "\x1b[1m", "\x1b[22m"),
        (Style.ITALIC, "\x1b[3m", "\x1b[23m"),
        (Style.UNDERLINE, "\x1b[4m", "\x1b[24m"),
        (Style.STRIKE, "\x1b[9m", "\x1b[29m"),
    )
    bullet = "•"

    def __init__(self, columns: int, *, colours: bool) -> None:
        self._columns = columns
        self._colours = colours
        self.rule = "─" * max(3, columns - 1)

    def piece(self, piece: Piece) -> str:
        if piece.kind in (Kind.CODE, Kind.TABLE, Kind.RULE):
            return super().piece(piece)
        first, rest = self.margins(piece)
        room = max(NARROWEST, self._columns - width(first))
        wrapped = [line for written in lines_of(self.styled(piece)) for line in _wrapped(_spelled(written), room)]
        return "\n".join((rest if number else first) + self.line(line) for number, line in enumerate(wrapped))

    def quote_marks(self, depth: int) -> str:
        return "│ " * depth

    def code_span(self, text: str) -> str | None:
        return f"\x1b[36m{text}\x1b[39m" if self._colours else f"`{text}`"

    def code(self, content: str, language: str) -> str:
        return "\n".join(f"{CODE_INDENT}{line}".rstrip() for line in content.split("\n"))

    def table(self, piece: Piece) -> str:
        return piece.text


def _spelled(line: Sequence[Run]) -> list[Run]:
    """With the addresses of links in words."""
    return [Run(in_words(run), run.style) if run.href else run for run in line]


def _wrapped(line: Sequence[Run], room: int) -> list[list[Run]]:
    """The line as several that are no wider. A word of several styles stays together; one that is wider is left whole.
    A style within a line is one run again."""
    lines: list[list[Run]] = [[]]
    used = 0
    for space, word in _words(line):
        blank, wide = sum(width(run.text) for run in space), sum(width(run.text) for run in word)
        if word and used and used + blank + wide > room:
            lines.append([])
            used, space, blank = 0, [], 0
        lines[-1] += [*space, *word]
        used += blank + wide
    return [_joined(one) for one in lines]


def _words(line: Sequence[Run]) -> Iterator[tuple[list[Run], list[Run]]]:
    """Each word, and the space before it; at the end perhaps a space alone."""
    space: list[Run] = []
    word: list[Run] = []
    for run in line:
        for text in _WORDS.findall(run.text):
            if not text.isspace():
                word.append(Run(text, run.style))
                continue
            if word:
                yield space, word
                space, word = [], []
            space.append(Run(text, run.style))
    if word or space:
        yield space, word


def _joined(line: Sequence[Run]) -> list[Run]:
    joined: list[Run] = []
    for run in line:
        if joined and joined[-1].style == run.style:
            joined[-1] = Run(joined[-1].text + run.text, run.style)
        else:
            joined.append(run)
    return joined

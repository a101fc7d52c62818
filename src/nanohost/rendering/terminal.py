"""Markdown on the screen of a terminal: what other channels get as markup is written in the codes that terminals obey,
and lines end between words. Line breaks stay where they were written, as people see them elsewhere. Pure.

Codes are ours alone: what is said has no control characters left (see parsing.cleaned).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from nanohost.rendering.blocks import Block, BlockKind, Run, Style, split_lines
from nanohost.rendering.dialect import Dialect
from nanohost.rendering.parsing import parse, plain_text
from nanohost.rendering.tables import display_width

MIN_COLUMNS = 10
"""The minimum width of text, at any depth of indentation."""
CODE_INDENT = "    "
_WORD_OR_SPACE = re.compile(r"\s+|\S+")
_BIDI_CONTROLS = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that change the writing direction."""


def render_for_terminal(markdown: str, columns: int, *, use_colours: bool) -> str:
    """Renders Markdown for a terminal of this width. `use_colours`: code is coloured; else it keeps its backticks."""
    pieces = parse(_BIDI_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", markdown))
    return _TerminalDialect(columns, colours=use_colours).render_part(pieces)


class _TerminalDialect(Dialect):
    marks: tuple[tuple[Style, str, str], ...] = (
        (Style.BOLD, "\x1b[1m", "\x1b[22m"),
        (Style.ITALIC, "\x1b[3m", "\x1b[23m"),
        (Style.UNDERLINE, "\x1b[4m", "\x1b[24m"),
        (Style.STRIKE, "\x1b[9m", "\x1b[29m"),
    )
    bullet = "•"

    def __init__(self, columns: int, *, colours: bool) -> None:
        self._columns = columns
        self._use_colours = colours
        self.rule = "─" * max(3, columns - 1)

    def render_block(self, piece: Block) -> str:
        if piece.kind in (BlockKind.CODE, BlockKind.TABLE, BlockKind.RULE):
            return super().render_block(piece)
        first, rest = self.line_prefixes(piece)
        room = max(MIN_COLUMNS, self._columns - display_width(first))
        wrapped = [
            line
            for written in split_lines(self.styled_runs(piece))
            for line in _wrap_line(_write_out_links(written), room)
        ]
        return "\n".join((rest if number else first) + self.render_line(line) for number, line in enumerate(wrapped))

    def quote_prefix(self, depth: int) -> str:
        return "│ " * depth

    def render_code_span(self, text: str) -> str | None:
        return f"\x1b[36m{text}\x1b[39m" if self._use_colours else f"`{text}`"

    def render_code_block(self, content: str, language: str) -> str:
        return "\n".join(f"{CODE_INDENT}{line}".rstrip() for line in content.split("\n"))

    def render_table(self, piece: Block) -> str:
        return piece.text


def _write_out_links(line: Sequence[Run]) -> list[Run]:
    """Replaces links by their labels and addresses as text."""
    return [Run(plain_text(run), run.style) if run.href else run for run in line]


def _wrap_line(line: Sequence[Run], columns: int) -> list[list[Run]]:
    """Wraps a line to the width. A word of several styles stays together, and a wider word is not split.
    Adjacent runs of one style are joined."""
    lines: list[list[Run]] = [[]]
    used = 0
    for space, word in _iter_words(line):
        blank, wide = sum(display_width(run.text) for run in space), sum(display_width(run.text) for run in word)
        if word and used and used + blank + wide > columns:
            lines.append([])
            used, space, blank = 0, [], 0
        lines[-1] += [*space, *word]
        used += blank + wide
    return [_merge_runs(one) for one in lines]


def _iter_words(line: Sequence[Run]) -> Iterator[tuple[list[Run], list[Run]]]:
    """Yields each word with the space before it; at the end perhaps only a space."""
    space: list[Run] = []
    word: list[Run] = []
    for run in line:
        for text in _WORD_OR_SPACE.findall(run.text):
            if not text.isspace():
                word.append(Run(text, run.style))
                continue
            if word:
                yield space, word
                space, word = [], []
            space.append(Run(text, run.style))
    if word or space:
        yield space, word


def _merge_runs(line: Sequence[Run]) -> list[Run]:
    joined: list[Run] = []
    for run in line:
        if joined and joined[-1].style == run.style:
            joined[-1] = Run(joined[-1].text + run.text, run.style)
        else:
            joined.append(run)
    return joined

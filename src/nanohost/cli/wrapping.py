"""Wraps lines that are wider than the terminal between words. A terminal would cut them anywhere, also within an id.

What goes on stands below where it began: in the last column of a table, or a little further in than the line's begin. A
table whose other columns leave no room for the last is told row by row, a line for each value.

Only where a person reads: what goes into a file or a program keeps its lines. Loads nothing but what Python has loaded.
"""

from __future__ import annotations

import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

CONTINUATION_INDENT = 2
MIN_COLUMN_WIDTH = 24
"""Characters that a column needs in order to be read."""
CELL_PATTERN = re.compile(r"\S+(?: \S+)*")
"""The text of one cell: `commands.tables.render_table` puts at least two blanks between two cells."""
HEADER_PATTERN = re.compile(r"[a-z][a-z ]*")
"""The heading of a column; lines of a log do not match."""
EMPTY_CELL = "-"
"""How a table shows a missing value."""


def print_wrapped(text: str, stream: TextIO | None = None) -> None:
    """Prints to stdout or this stream, wrapped if it is a terminal."""
    stream = stream or sys.stdout
    columns = _terminal_columns(stream)
    print("\n".join(wrap_lines(text.split("\n"), columns)) if columns else text, file=stream, flush=True)


def wrap_lines(lines: Sequence[str], columns: int) -> list[str]:
    """Wraps lines to at most so many characters, unless a word is longer. Pure."""
    parts: list[str] = []
    at = 0
    while at < len(lines):
        end = _find_table_end(lines, at)
        block = lines[at:end]
        if len(block) > 1 and max(len(line.rstrip()) for line in block) > columns:
            parts += _wrap_table(block, columns)
        else:
            parts += [part for line in block for part in _wrap_line(line, columns)]
        at = end
    return parts


def _find_table_end(lines: Sequence[str], head: int) -> int:
    """Behind the last line whose cells begin where those of this one do: its own number and one, if it is no head."""
    starts = _cell_starts(lines[head])
    end = head + 1
    if not all(HEADER_PATTERN.fullmatch(name) for name in CELL_PATTERN.findall(lines[head])):
        return end
    while len(starts) > 1 and end < len(lines) and _cell_starts(lines[end]) == starts:
        end += 1
    return end


def _cell_starts(line: str) -> list[int]:
    return [found.start() for found in CELL_PATTERN.finditer(line)]


def _wrap_table(lines: Sequence[str], columns: int) -> Iterator[str]:
    starts = _cell_starts(lines[0])
    if starts[-1] + MIN_COLUMN_WIDTH <= columns:
        for line in lines:
            yield from _wrap_line(line, columns, indent=starts[-1])
        return
    head, *rows = (CELL_PATTERN.findall(line) for line in lines)
    width = max(len(name) for name in head)
    for number, row in enumerate(rows):
        if number:
            yield ""
        for name, value in zip(head, row, strict=True):
            if value != EMPTY_CELL:
                begin = " " * starts[0] + name.ljust(width) + "  "
                yield from _wrap_line(begin + value, columns, indent=len(begin))


def _wrap_line(line: str, columns: int, indent: int | None = None) -> list[str]:
    """What goes on is indented so far; a little further in than the line if nothing is said. What is drawn stays."""
    line = line.rstrip(" ")
    if "\x1b" in line:
        return [line]
    if indent is None:
        indent = len(line) - len(line.lstrip(" ")) + CONTINUATION_INDENT
    parts: list[str] = []
    while len(line) > columns:
        at = line.rfind(" ", indent + 1, columns + 1)
        if at < 0:
            at = line.find(" ", max(columns, indent + 1))
        if at < 0:
            break
        parts.append(line[:at].rstrip())
        line = " " * indent + line[at:].strip()
    return [*parts, line]


def _terminal_columns(stream: TextIO) -> int:
    """Returns the width of the terminal that is written to; 0 if it is none, or the width is unknown."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError):
        return 0

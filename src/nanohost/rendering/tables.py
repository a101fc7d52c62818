"""Draws a table with spaces, for platforms without tables."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import zip_longest

MAX_COLUMN_WIDTH = 40
"""Columns. A longer cell sticks out, instead of widening its column in every row."""


def draw_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns the table as text, with the first row underlined."""
    columns = zip_longest(*rows, fillvalue="")
    widths = [min(MAX_COLUMN_WIDTH, max(display_width(cell) for cell in column)) for column in columns]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "  ".join("─" * max(1, column) for column in widths))
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell + " " * (column - display_width(cell)) for cell, column in zip(row, widths, strict=False))
    return "  ".join(cells).rstrip()


def display_width(text: str) -> int:
    """Returns the columns of a text in a monospaced font."""
    if text.isascii():
        return len(text)
    return sum(_char_width(character) for character in text)


def _char_width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1

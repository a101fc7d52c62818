"""What is never twice the same is written as something that always is: ids, codes, times, paths, numbers that grow.

Pure. A table is laid out anew afterwards, or its columns would be as wide as what stood in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

OLDEST_IDS = ("skq3v7h2m5xw4r6ta", "sbn5d2y7c4zj3g6pe", "sfw6u3l5t2oi7q4sd")
"""Sessions, in order of appearance."""
SESSION = re.compile(r"\bs[a-z2-7]{16}\b")
APPROVAL = re.compile(r"(?:/approve |\? \()([a-z0-9]{6})\b")
CODE = re.compile(r"\b[A-Z2-9]{4}-[A-Z2-9]{4}\b")
FIXED_REPLACEMENTS: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"\bj[a-z2-7]{12}\b"), "jtquhd4l4uxrl"),
    (CODE, "K7QD-3MXF"),
    (re.compile(r"\bpid \d+"), "pid 4711"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://127.0.0.1:8081"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00"), "2026-01-05T08:00:00+00:00"),
    (re.compile(r"\b(?!2026-01-05)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+\d\d:\d\d"), "2026-01-05T09:00:00+01:00"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?"), "2026-01-05 09:00"),
    (re.compile(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d\d? [A-Z][a-z]{2} \d{4}, \d\d:\d\d"), "Mon 05 Jan 2026, 09:00"),
    (re.compile(r"(?<![\d:+T])\d\d:\d\d(?!:?\d)"), "09:00"),
    (re.compile(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] working, \d+ s · (\w+), \d+ s"), r"⠹ working, 19 s · \1, 18 s"),
    (re.compile(r"\b[\d,]+ MiB are free\b"), "34 MiB are free"),
    (re.compile(r"\b[\d,]+ MiB\b(?! are free)"), "1,047 MiB"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b(?![T ]\d)"), "2026-01-05"),
)
COLUMN_REPLACEMENTS: Mapping[str, str] = {
    "since": "5 s",
    "latest": "5 s ago",
    "due": "in 8 s",
    "next try in s": "4",
    "failures": "2",
    "left": "34 MiB",
    "cost usd": "0.01",
}
"""Table cells by their column heading."""
GAP = re.compile(r" {2,}")
QR_CODE = re.compile(r"^[█▀▄ ]+$")


class Placeholders:
    """`known`: texts of this story only, and their replacements."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = dict(known)

    def apply(self, text: str) -> str:
        """Replace all variable text."""
        for real, shown in self._known.items():
            text = text.replace(real, shown)
        for approval in APPROVAL.findall(text):
            self._known.setdefault(approval, f"k3f7{chr(ord('q') + self._count('k3f7'))}d")
            text = text.replace(approval, self._known[approval])
        text = SESSION.sub(self._session, text)
        for pattern, shown in FIXED_REPLACEMENTS:
            text = pattern.sub(shown, text)
        return "\n".join(realign_tables([*replace_qr_code(text.splitlines())]))

    def _session(self, found: re.Match[str]) -> str:
        if found[0] in OLDEST_IDS:
            return found[0]
        return self._known.setdefault(found[0], OLDEST_IDS[self._count("s")])

    def _count(self, begin: str) -> int:
        return sum(shown.startswith(begin) and "/" not in shown for shown in self._known.values())


def replace_qr_code(lines: Sequence[str]) -> Iterator[str]:
    """The lines, with a word in place of a QR code."""
    for number, line in enumerate(lines):
        if not (line.strip() and QR_CODE.match(line)):
            yield line
        elif number == 0 or not QR_CODE.match(lines[number - 1]) or not lines[number - 1].strip():
            yield "(a QR code of the link)"


def realign_tables(lines: Sequence[str]) -> Iterator[str]:
    """Each table in the lines, with the column widths that it needs now."""
    table: list[list[str]] = []
    indent, alone = 0, ""
    for number, line in enumerate([*lines, ""]):
        cells = GAP.split(line.strip())
        here = len(line) - len(line.lstrip())
        if table and len(cells) == len(table[0]) and here == indent:
            table.append(_always(table[0], cells))
            continue
        yield from _aligned(table, indent) if len(table) > 1 else [alone] * len(table)
        table, alone, indent = ([cells], line, here) if len(cells) > 1 else ([], line, here)
        if not table and number < len(lines):
            yield line


def _always(head: Sequence[str], cells: Sequence[str]) -> list[str]:
    return [
        shown if (shown := COLUMN_REPLACEMENTS.get(name)) and cell != "-" else cell
        for name, cell in zip(head, cells, strict=True)
    ]


def _aligned(table: Sequence[Sequence[str]], indent: int) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"{' ' * indent}{line}".rstrip()

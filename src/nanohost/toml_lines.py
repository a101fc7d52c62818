"""A TOML file statement by statement: what it says, on which line each key stands, and every line that is no TOML.

tomllib tells neither lines nor more than the first mistake. So each statement is read by itself: a line, or as many
lines as it takes until tomllib has a whole one. Nothing here is a second parser, and what tomllib takes is no mistake.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

_PLACE = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)")
_GOES_ON = re.compile(r"\"{3}|'{3}|[\[{,]\s*(?:#.*)?$")
"""A line that may belong together with the next ones: what comes after it is not read as if it were whole."""
_SECTION = re.compile(r"\s*\[+\s*([\w.\"'-]+)\s*[\])}]*\s*(?:#.*)?")
"""What was to be the head of a section, with a bracket missing or one too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """`sentence` is tomllib's, with the line and column in the file."""

    line: int
    sentence: str


@dataclass(slots=True)
class Statements:
    """`table` is all that could be read, `lines` where each key and section stands, by its dotted name."""

    table: dict[str, object] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    bad: list[BadLine] = field(default_factory=list)


def read_statements(text: str) -> Statements:
    """Never raises: what is wrong is in `bad`."""
    lines = text.replace("\r\n", "\n").split("\n")
    found = Statements()
    is_whole = _take(found, lines) is None
    section = ""
    at = 0
    while at < len(lines):
        length, table = _statement(lines, at, may_go_on=is_whole or _GOES_ON.search(lines[at]) is not None)
        if table is None:
            found.bad.append(_bad(lines, at))
            repaired = _meant_section(lines[at])
            if repaired is None and _GOES_ON.search(lines[at]):
                return found
            if repaired is None and lines[at].lstrip().startswith("["):
                length = _to_next_section(lines, at) - at
            lines[at : at + length] = [repaired or ""] * length
            if repaired is not None:
                continue
        elif lines[at].lstrip().startswith("["):
            *above, section = _sections(table)
            for name in (*above, section):
                found.lines.setdefault(name, at + 1)
        else:
            for name in _names(table, section):
                found.lines.setdefault(name, at + 1)
        at += length
    if not is_whole and (error := _take(found, lines)) is not None:  # each by itself is TOML: one is there twice
        found.bad.append(_placed(error, lines, 0))
    return found


def _meant_section(line: str) -> str | None:
    """The line [a.b] that one like [a.b or [a.b]] was to be: else what stands below it would be taken for another's."""
    if (found := _SECTION.fullmatch(line)) is None:
        return None
    repaired = f"[{found[1]}]"
    try:
        tomllib.loads(repaired)
    except tomllib.TOMLDecodeError:
        return None
    return repaired if repaired != line.strip() else None


def _to_next_section(lines: list[str], begin: int) -> int:
    return next((at for at in range(begin + 1, len(lines)) if lines[at].lstrip().startswith("[")), len(lines))


def _take(found: Statements, lines: list[str]) -> tomllib.TOMLDecodeError | None:
    try:
        found.table = tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        return error
    return None


def _statement(lines: list[str], begin: int, *, may_go_on: bool) -> tuple[int, dict[str, object] | None]:
    """How many lines it has, and what it says; None: there is no whole one."""
    most = len(lines) if may_go_on else begin + 1
    for end in range(begin + 1, most + 1):
        try:
            return end - begin, tomllib.loads("\n".join(lines[begin:end]))
        except tomllib.TOMLDecodeError:
            continue
    return 1, None


def _bad(lines: list[str], begin: int) -> BadLine:
    end = len(lines) if _GOES_ON.search(lines[begin]) else begin + 1
    try:
        tomllib.loads("\n".join(lines[begin:end]))
    except tomllib.TOMLDecodeError as error:
        return _placed(error, lines[begin:end], begin)
    raise AssertionError("a statement that cannot be read is no TOML")


def _placed(error: tomllib.TOMLDecodeError, lines: list[str], before: int) -> BadLine:
    """The error with its place in the file; the end of a document has one, too."""
    place = _PLACE.search(str(error))
    line, column = len(lines), len(lines[-1]) + 1
    if place is not None and place[1]:
        line, column = int(place[1]), int(place[2])
    said = f"at line {line + before}, column {column}"
    return BadLine(line=line + before, sentence=_PLACE.sub(f"({said})", str(error)))


def _sections(table: Mapping[str, object]) -> list[str]:
    """The dotted names that a line [a.b] or [[a.b]] begins: a and a.b."""
    names: list[str] = []
    inner: object = table
    while inner:
        if isinstance(inner, list):
            inner = inner[0]
            continue
        [(part, inner)] = cast("dict[str, object]", inner).items()
        names.append(f"{names[-1]}.{part}" if names else part)
    return names


def _names(table: Mapping[str, object], before: str) -> Iterator[str]:
    for key, value in table.items():
        name = f"{before}.{key}" if before else key
        yield name
        if isinstance(value, dict):
            yield from _names(value, name)

"""Parses a TOML file statement by statement, with line numbers, and finds each invalid line.

tomllib reports no line numbers of keys, and only the first mistake. So each statement is parsed separately: one line,
or as many lines as tomllib needs for a complete one. There is no second parser: what tomllib accepts is valid.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

_POSITION_PATTERN = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)")
_CONTINUES_PATTERN = re.compile(r"\"{3}|'{3}|[\[{,]\s*(?:#.*)?$")
"""A line that may continue in the next ones: these are then not parsed as separate statements."""
_HEADING_PATTERN = re.compile(r"\s*\[+\s*([\w.\"'-]+)\s*[\])}]*\s*(?:#.*)?")
"""The heading of a section, perhaps with a bracket missing or one too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """An invalid line. `message`: tomllib's message, with the line and column in the file."""

    line: int
    message: str


@dataclass(slots=True)
class TomlStatements:
    """The parsed file. `table`: all valid content. `lines`: the line of each key and section, by its dotted name."""

    table: dict[str, object] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    bad_lines: list[BadLine] = field(default_factory=list)


def parse_statements(text: str) -> TomlStatements:
    """Parse the text. Never raises: mistakes are in `bad_lines`."""
    lines = text.replace("\r\n", "\n").split("\n")
    found = TomlStatements()
    is_whole = _parse_whole_file(found, lines) is None
    section = ""
    at = 0
    while at < len(lines):
        length, table = _parse_statement(
            lines, at, can_continue=is_whole or _CONTINUES_PATTERN.search(lines[at]) is not None
        )
        if table is None:
            found.bad_lines.append(_make_bad_line(lines, at))
            repaired = _repair_heading(lines[at])
            if repaired is None and _CONTINUES_PATTERN.search(lines[at]):
                return found
            if repaired is None and lines[at].lstrip().startswith("["):
                length = _find_next_heading(lines, at) - at
            lines[at : at + length] = [repaired or ""] * length
            if repaired is not None:
                continue
        elif lines[at].lstrip().startswith("["):
            *above, section = _heading_names(table)
            for name in (*above, section):
                found.lines.setdefault(name, at + 1)
        else:
            for name in _key_names(table, section):
                found.lines.setdefault(name, at + 1)
        at += length
    if (
        not is_whole and (error := _parse_whole_file(found, lines)) is not None
    ):  # each statement alone is valid: a name is defined twice
        found.bad_lines.append(_with_file_position(error, lines, 0))
    return found


def _repair_heading(line: str) -> str | None:
    """Returns the intended heading [a.b] of a line like [a.b or [a.b]], so that keys below it belong to it; None if the
    line is no such heading."""
    if (found := _HEADING_PATTERN.fullmatch(line)) is None:
        return None
    repaired = f"[{found[1]}]"
    try:
        tomllib.loads(repaired)
    except tomllib.TOMLDecodeError:
        return None
    return repaired if repaired != line.strip() else None


def _find_next_heading(lines: list[str], begin: int) -> int:
    return next((at for at in range(begin + 1, len(lines)) if lines[at].lstrip().startswith("[")), len(lines))


def _parse_whole_file(found: TomlStatements, lines: list[str]) -> tomllib.TOMLDecodeError | None:
    try:
        found.table = tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        return error
    return None


def _parse_statement(lines: list[str], begin: int, *, can_continue: bool) -> tuple[int, dict[str, object] | None]:
    """Returns the number of lines of the statement, and its content; None if it is invalid."""
    last = len(lines) if can_continue else begin + 1
    for end in range(begin + 1, last + 1):
        try:
            return end - begin, tomllib.loads("\n".join(lines[begin:end]))
        except tomllib.TOMLDecodeError:
            continue
    return 1, None


def _make_bad_line(lines: list[str], begin: int) -> BadLine:
    end = len(lines) if _CONTINUES_PATTERN.search(lines[begin]) else begin + 1
    try:
        tomllib.loads("\n".join(lines[begin:end]))
    except tomllib.TOMLDecodeError as error:
        return _with_file_position(error, lines[begin:end], begin)
    raise AssertionError("a statement that cannot be read is no TOML")


def _with_file_position(error: tomllib.TOMLDecodeError, lines: list[str], before: int) -> BadLine:
    """Returns the error with its line and column in the file, also for an error at the end of the document."""
    place = _POSITION_PATTERN.search(str(error))
    line, column = len(lines), len(lines[-1]) + 1
    if place is not None and place[1]:
        line, column = int(place[1]), int(place[2])
    position = f"at line {line + before}, column {column}"
    return BadLine(line=line + before, message=_POSITION_PATTERN.sub(f"({position})", str(error)))


def _heading_names(table: Mapping[str, object]) -> list[str]:
    """Returns the dotted names that a line [a.b] or [[a.b]] begins: a and a.b."""
    names: list[str] = []
    inner: object = table
    while inner:
        if isinstance(inner, list):
            inner = inner[0]
            continue
        [(part, inner)] = cast("dict[str, object]", inner).items()
        names.append(f"{names[-1]}.{part}" if names else part)
    return names


def _key_names(table: Mapping[str, object], before: str) -> Iterator[str]:
    for key, value in table.items():
        name = f"{before}.{key}" if before else key
        yield name
        if isinstance(value, dict):
            yield from _key_names(value, name)

"""Results as text: a list of rows becomes a table, one row becomes lines. Everything is plain JSON before that."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from enum import Enum
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nanohost.harmless import OBEYED
from nanohost.harmless import harmless as harmless

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

NOTHING = "nothing there"
UNKNOWN = "unknown"
"""What something cost whose model has no price on record."""
WIDEST = 80
"""Characters of one cell of a table; the whole value is in --json."""
WRITTEN = ("text", "prompt", "content", "shown")
"""Keys of what people and agents wrote."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)")


def plain(value: object) -> Json:
    """A dataclass, an enum or a time as plain JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value if isinstance(value, (int, float, bool)) or value is None else str(value)


def in_zone(result: Json, zone: tzinfo, *, name: str = "") -> Json:
    """The result as people read it: its moments in their zone, or in that of their row, if it has one of its own; for
    programs they stay as they are. What people and agents wrote is changed nowhere."""
    if isinstance(result, str):
        return result if name in WRITTEN else _moment(result, zone)
    if isinstance(result, Mapping):
        own = _zone(result.get("timezone")) or zone
        return {key: in_zone(value, own, name=key) for key, value in result.items()}
    if isinstance(result, Sequence):
        return [in_zone(value, zone, name=name) for value in result]
    return result


def _moment(text: str, zone: tzinfo) -> str:
    if _MOMENT.fullmatch(text) is None:
        return text
    try:
        return datetime.fromisoformat(text).astimezone(zone).isoformat(sep=" ", timespec="seconds")
    except (ValueError, OverflowError):
        return text


def _zone(name: Json) -> tzinfo | None:
    try:
        return ZoneInfo(name) if isinstance(name, str) and name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def show(result: Json) -> str:
    """The usual rendering."""
    if isinstance(result, Mapping):
        return "\n".join(f"{key}: {_words(value)}" for key, value in result.items())
    if isinstance(result, Sequence) and not isinstance(result, str):
        return table([row for row in result if isinstance(row, Mapping)])
    return str(result)


def show_with(result: Json, below: str, *, none: str = NOTHING, last_widest: int = WIDEST) -> str:
    """A result, and below it the rows that it has by the name `below`, as `table` shows them; `none`: it has none."""
    assert isinstance(result, Mapping)
    rows = result[below]
    assert isinstance(rows, Sequence)
    head = show({name: value for name, value in result.items() if name != below})
    shown = table([row for row in rows if isinstance(row, Mapping)], last_widest=last_widest) if rows else none
    return f"{head}\n\n{shown}"


def as_json(result: Json) -> str:
    """The whole result for programs. What a terminal would obey is escaped; read again, each value is what it was."""
    text = json.dumps(result, indent=2, ensure_ascii=False)
    return OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def table(rows: Sequence[Mapping[str, Json]], *, last_widest: int = WIDEST) -> str:
    """Rows of equal keys, aligned. `last_widest`: of the last column, which a terminal can wrap."""
    if not rows:
        return NOTHING
    head = list(rows[0])
    cells = [[name.replace("_", " ") for name in head], *(_line(row, head, last_widest) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _line(row: Mapping[str, Json], head: Sequence[str], last_widest: int) -> list[str]:
    return [_cell(row.get(name), last_widest if name == head[-1] else WIDEST) for name in head]


def _cell(value: Json, widest: int) -> str:
    text = _words(value)
    return text if len(text) <= widest else text[: widest - 1] + "…"


def _words(value: Json) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{harmless(key)}: {_words(inner)}" for key, inner in value.items()) or "-"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_words(inner) for inner in value) or "-"
    return harmless(" ".join(str(value).split()))

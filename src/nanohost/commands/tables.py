"""Formats results as text: a list of rows becomes a table, one row becomes lines."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from enum import Enum
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nanohost.text.terminal_safe import CONTROL_CHARS
from nanohost.text.terminal_safe import replace_control_chars as replace_control_chars

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

NO_ROWS_TEXT = "No entries."
UNKNOWN_COST = "unknown"
"""The cost of a call whose model has no known price."""
MAX_CELL_CHARS = 80
"""Characters of one cell of a table; the whole value is in --json."""
USER_TEXT_KEYS = ("text", "prompt", "content", "shown")
"""Keys of text that people and agents wrote."""
_TIME_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)")


def to_json(value: object) -> Json:
    """Converts a dataclass, an enum or a time to plain JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, Mapping):
        return {str(key): to_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(inner) for inner in value]
    return value if isinstance(value, (int, float, bool)) or value is None else str(value)


def localize_times(result: Json, zone: tzinfo, *, name: str = "") -> Json:
    """Returns the result with its times in this zone, or in the zone of their row if it has one. For people only.

    Text that people and agents wrote is not changed.
    """
    if isinstance(result, str):
        return result if name in USER_TEXT_KEYS else _localize_time(result, zone)
    if isinstance(result, Mapping):
        own = _parse_zone(result.get("timezone")) or zone
        return {key: localize_times(value, own, name=key) for key, value in result.items()}
    if isinstance(result, Sequence):
        return [localize_times(value, zone, name=name) for value in result]
    return result


def _localize_time(text: str, zone: tzinfo) -> str:
    if _TIME_PATTERN.fullmatch(text) is None:
        return text
    try:
        return datetime.fromisoformat(text).astimezone(zone).isoformat(sep=" ", timespec="seconds")
    except (ValueError, OverflowError):
        return text


def _parse_zone(name: Json) -> tzinfo | None:
    try:
        return ZoneInfo(name) if isinstance(name, str) and name else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def render_result(result: Json) -> str:
    """Renders a result in the default form."""
    if isinstance(result, Mapping):
        return "\n".join(f"{key}: {_format_value(value)}" for key, value in result.items())
    if isinstance(result, Sequence) and not isinstance(result, str):
        return render_table([row for row in result if isinstance(row, Mapping)])
    return str(result)


def render_with_table(
    result: Json, table_key: str, *, empty_text: str = NO_ROWS_TEXT, last_column_max_chars: int = MAX_CELL_CHARS
) -> str:
    """Renders a result, and below it its rows under `table_key` as a table. `empty_text`: shown if there are none."""
    assert isinstance(result, Mapping)
    rows = result[table_key]
    assert isinstance(rows, Sequence)
    head = render_result({name: value for name, value in result.items() if name != table_key})
    shown = (
        render_table([row for row in rows if isinstance(row, Mapping)], last_column_max_chars=last_column_max_chars)
        if rows
        else empty_text
    )
    return f"{head}\n\n{shown}"


def dump_json(result: Json) -> str:
    """Returns the whole result as JSON. Control characters are escaped; parsing it gives the original values."""
    text = json.dumps(result, indent=2, ensure_ascii=False)
    return CONTROL_CHARS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def render_table(rows: Sequence[Mapping[str, Json]], *, last_column_max_chars: int = MAX_CELL_CHARS) -> str:
    """Renders rows with equal keys as a table. `last_column_max_chars`: of the last column, which can be wrapped."""
    if not rows:
        return NO_ROWS_TEXT
    head = list(rows[0])
    cells = [[name.replace("_", " ") for name in head], *(_row_cells(row, head, last_column_max_chars) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _row_cells(row: Mapping[str, Json], head: Sequence[str], last_column_max_chars: int) -> list[str]:
    return [_format_cell(row.get(name), last_column_max_chars if name == head[-1] else MAX_CELL_CHARS) for name in head]


def _format_cell(value: Json, max_chars: int) -> str:
    text = _format_value(value)
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def _format_value(value: Json) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{replace_control_chars(key)}: {_format_value(inner)}" for key, inner in value.items()) or "-"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_format_value(inner) for inner in value) or "-"
    return replace_control_chars(" ".join(str(value).split()))

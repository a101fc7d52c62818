"""Converts database rows to dataclasses.

A field is read from the column of its name and converted by its type. A caller only passes what differs: a column of
another name, or a value stored as JSON.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from enum import EnumMeta
from functools import cache
from types import NoneType, UnionType
from typing import Any, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

from nanohost_protocol.rows import Origin
from nanohost_protocol.times import from_text


def origin_columns(origin: Origin | None) -> dict[str, str | None]:
    """Returns an origin as columns by name; all NULL if there is none."""
    return {
        "channel_type": origin.channel_type if origin else None,
        "instance": origin.instance if origin else None,
        "platform_id": origin.platform_id if origin else None,
        "thread_id": origin.thread_id if origin else None,
    }


T = TypeVar("T")
Converter = Callable[[Any], Any]

_NATIVE_TYPES = (str, int, float)


def from_row(kind: type[T], row: sqlite3.Row, /, **given: Any) -> T:
    """Returns a `kind` (a dataclass) with the `given` fields, and each other field from the column of its name.

    Times are converted from text, enum members from their values, booleans from 1 and 0; NULL is None. Raises
    IndexError if the row has no such column, ValueError for text that is no time or no member, and TypeError for a
    field of another type (JSON, another dataclass) that is not given, and for a given field that does not exist.
    """
    for name, convert in _column_converters(kind):  # type: ignore[arg-type]  # to mypy a class has its instances' hash
        if name not in given:
            given[name] = row[name] if convert is None else convert(row[name])
    return kind(**given)


@cache
def _column_converters(kind: type) -> tuple[tuple[str, Converter | None], ...]:
    """Returns each field with the converter of its column; None if the stored value is used as it is."""
    types = get_type_hints(kind)
    return tuple(
        (field.name, _find_converter(f"{kind.__name__}.{field.name}", types[field.name])) for field in fields(kind)
    )


def _find_converter(name: str, kind: Any) -> Converter | None:
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
        convert = _find_converter(name, kind)
        return None if convert is None else lambda value: None if value is None else convert(value)
    while isinstance(kind, NewType):
        kind = kind.__supertype__
    if kind in _NATIVE_TYPES:
        return None
    if kind is datetime:
        return from_text
    if kind is bool or isinstance(kind, EnumMeta):
        return kind
    return _missing_column(name)


def _missing_column(name: str) -> Converter:
    def refuse(value: Any) -> Any:
        raise TypeError(f"{name} is in no column: it has to be given")

    return refuse

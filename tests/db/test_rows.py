"""Rows of the central database as dataclasses."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import pytest

from nanohost.db.rows import from_row
from nanohost.model import SessionId


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One field of each supported type, and one without a column."""

    id: SessionId
    count: int
    weight: float
    is_heavy: bool
    colour: Colour
    made_at: datetime
    name: str | None
    sold_at: datetime | None
    second_colour: Colour | None
    part_of: SessionId | None
    parts: tuple[str, ...] = ()


WHOLE = {
    "id": "s1",
    "count": 3,
    "weight": 0.5,
    "is_heavy": 1,
    "colour": "red",
    "made_at": "2026-11-30T12:00:00.000001Z",
    "name": None,
    "sold_at": None,
    "second_colour": None,
    "part_of": None,
}


def row(**changes: object) -> sqlite3.Row:
    """A row with these columns beside those of WHOLE, or instead of them."""
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    columns = WHOLE | changes
    try:
        found: sqlite3.Row = connection.execute(
            f"SELECT {', '.join(f'? AS {name}' for name in columns)}", tuple(columns.values())
        ).fetchone()
    finally:
        connection.close()
    return found


def test_each_column_is_converted_to_the_type_of_its_field() -> None:
    assert from_row(Thing, row(), parts=("wheel",)) == Thing(
        id=SessionId("s1"),
        count=3,
        weight=0.5,
        is_heavy=True,
        colour=Colour.RED,
        made_at=datetime(2026, 11, 30, 12, 0, 0, 1, tzinfo=UTC),
        name=None,
        sold_at=None,
        second_colour=None,
        part_of=None,
        parts=("wheel",),
    )


def test_a_nullable_field_is_converted_when_it_is_not_null() -> None:
    thing = from_row(Thing, row(name="x", sold_at=WHOLE["made_at"], second_colour="red"), parts=())
    assert (thing.name, thing.sold_at, thing.second_colour) == ("x", thing.made_at, Colour.RED)
    assert isinstance(thing.second_colour, Colour)


def test_a_field_passed_explicitly_is_not_read_from_the_row() -> None:
    assert from_row(Thing, row(colour="of a later version"), colour=Colour.RED, parts=()).colour is Colour.RED


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colour": "blue"}, "'blue' is not a valid Colour"),
        ({"made_at": "2026-11-30T12:00Z"}, "'2026-11-30T12:00Z' is a time in another form"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(changes: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_row(Thing, row(**changes), parts=())


def test_a_missing_column_is_refused_even_if_the_field_has_a_default() -> None:
    with pytest.raises(IndexError):
        from_row(Thing, row(), nothing=1)
    with pytest.raises(TypeError, match="nothing"):
        from_row(Thing, row(), parts=(), nothing=1)


def test_a_field_without_a_column_must_be_passed() -> None:
    with pytest.raises(TypeError, match=r"Thing\.parts is in no column: it has to be given"):
        from_row(Thing, row(parts='["wheel"]'))

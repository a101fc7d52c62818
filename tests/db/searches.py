"""What a plan may go through: how many rows there can be behind each search of it.

A SEARCH is no promise. By the first column of a key alone it goes through all that a session ever did. So the rows are
counted that share what an index is searched by, whatever the values are.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nanohost.db
from tests.db import long_history

_LINE = re.compile(
    r"(?:SCAN|SEARCH) (?P<name>\w+)"
    r"(?: USING (?P<automatic>AUTOMATIC )?(?:PARTIAL )?(?:COVERING )?"
    r"(?:INDEX (?P<index>\w+)|(?P<key>INTEGER PRIMARY KEY|PRIMARY KEY)))?"
    r"(?: \((?P<given>.*)\))?"
)
_ALIAS = re.compile(r"(?:FROM|JOIN|,)\s+(\w+)\s+([a-z]\w*)\b")


_NO_TABLES = ("json_each", "CONSTANT")
_STATES = re.compile(r"(\w+)\s+TEXT[^,(]*CHECK \((?:status|outcome) IN \(([^)]*)\)\)")
_SCHEMA = Path(nanohost.db.__file__).parent / "schema.sql"


@dataclass(frozen=True, slots=True)
class TableAccess:
    """How a statement goes into one table: through `index`, or its key when that is None, by the first `given_columns`
    columns. Without any it goes through all that the index holds."""

    line: str
    table: str
    index: str | None
    given_columns: int
    is_automatic: bool = False


def tables() -> list[str]:
    """All of the central database."""
    return re.findall(r"CREATE TABLE (\w+)", _SCHEMA.read_text(encoding="utf-8"))


def columns(db: sqlite3.Connection, table: str) -> set[str]:
    return {row[0] for row in db.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def status_values(db: sqlite3.Connection) -> list[tuple[str, str, set[str]]]:
    """Each status column, with its table and all its values."""
    return [
        (table, column, set(re.findall("'(\\w+)'", values)))
        for table, sql in db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall()
        for column, values in _STATES.findall(sql)
    ]


def query_plan(db: sqlite3.Connection, sql: str) -> list[str]:
    return [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", long_history.null_values(sql))]


def table_accesses(connection: sqlite3.Connection, sql: str) -> list[TableAccess]:
    """Those into tables, in the order of the plan. Raises AssertionError for a name that is no table's and none
    that the statement makes itself: it would be left out."""
    known = set(tables())
    aliases = {alias: table for table, alias in _ALIAS.findall(sql)}
    found = []
    for line in query_plan(connection, sql):
        match = _LINE.match(line)
        if match is None:
            assert not line.startswith(("SCAN", "SEARCH")) or line.startswith("SCAN (subquery-"), line
            continue
        table = aliases.get(match["name"], match["name"])
        if table in known:
            automatic = match["automatic"] is not None
            found.append(TableAccess(line, table, match["index"], _given(match["given"] or ""), automatic))
        else:
            assert table in _NO_TABLES or re.search(rf"\)\s+{table}\b", sql), line
    return found


def _given(constraint: str) -> int:
    """The number of columns with an exact value; a range that follows is not counted."""
    count = 0
    for term in constraint.split(" AND "):
        if not re.fullmatch(r"(\w+|<expr>)=\?", term):
            break
        count += 1
    return count


def max_rows_behind(db: sqlite3.Connection, look: TableAccess) -> int:
    """The number of rows that the search finds for the most frequent value."""
    if look.is_automatic:
        return int(db.execute(f"SELECT count(*) FROM {look.table}").fetchone()[0])
    columns, where = _key(db, look.table) if look.index is None else _index(db, look.index)
    condition = f"WHERE {where}" if where else ""
    if look.given_columns == 0:
        sql = f"SELECT count(*) FROM {look.table} {condition}"
    else:
        shared = ", ".join(columns[: look.given_columns])
        sql = f"SELECT max(n) FROM (SELECT count(*) AS n FROM {look.table} {condition} GROUP BY {shared})"
    return int(db.execute(sql).fetchone()[0] or 0)


def _key(db: sqlite3.Connection, table: str) -> tuple[Sequence[str], str]:
    rows = db.execute(f"SELECT name FROM pragma_table_info('{table}') WHERE pk > 0 ORDER BY pk")
    return [row[0] for row in rows], ""


def _index(db: sqlite3.Connection, index: str) -> tuple[Sequence[str], str]:
    """Its columns, and the condition of a partial index."""
    sql = db.execute("SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ?", (index,)).fetchone()[0]
    if sql is None:  # of a UNIQUE in its table
        return [row[0] for row in db.execute(f"SELECT name FROM pragma_index_info('{index}')")], ""
    columns, _, where = " ".join(sql.split()).partition(" ON ")[2].partition(" WHERE ")
    return _split(columns[columns.index("(") + 1 : columns.rindex(")")]), where


def _split(columns: str) -> list[str]:
    """Split at the commas outside brackets."""
    found, depth = [""], 0
    for letter in columns:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [one.strip() for one in found]

"""What a message, a poll or a sweep asks of the central database costs the same whatever the history is."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nanohost.shipped import shipped_root
from nanohost.store import deliveries
from nanohost.store.migrations import migrate, read_sets
from nanohost.verify import finding
from tests.store import long_history
from tests.store.statements import Statement, loose_sql, statements

HISTORY = [one for one in statements() if not one.is_report]
"""What is not read for a person's list or report."""
SMALL = {
    "install": "one row",
    "paused": "one row",
    "agent_groups": "a row for each agent that somebody made",
    "messaging_groups": "a row for each chat that somebody let an agent into",
    "wirings": "a row for each agent in a chat, made by a person",
    "destinations": "a row for each chat that a person named to an agent",
    "roles": "a row for each person whom a person let in",
    "late_messages": "150 rows at most, see late.MOST",
}
"""Tables that do not grow with what is said."""
BOUNDED = {
    "store.aged.SUM_CALLS": "sorts one batch of 200 rows, once a day",
    "store.agent_groups.ADD": "SQLite looks for rows that wait for their parent, if there are any: none does",
}
"""Plans with a scan or a sort that is bounded by something else than an index."""
HEAVY = {
    "store.wirings.DELETE_ROUTES": "an operator deletes a wiring, with all that it ever did",
}
"""What has as much to do as there is, and nobody asks for but a person at the machine."""
MOST_STEPS = 50_000
"""Of SQLite's virtual machine. A walk through 100,000 rows takes 300,000 at least; a batch of 200 takes 20,000."""
STEP = 100

_SCAN = re.compile(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    folder = tmp_path_factory.mktemp("history")
    migrate(folder / "nanohost.db", read_sets([shipped_root() / "migrations"]), backups=folder / "backups")
    with closing(sqlite3.connect(folder / "nanohost.db", isolation_level=None)) as db:
        long_history.fill(db)
        db.execute("PRAGMA foreign_keys = ON")
        yield db


def is_of_a_mailbox(sql: str) -> bool:
    """Whether a statement is for a session's inbound.db."""
    return "messages_in" in sql


def central() -> list[Statement]:
    return [one for one in HISTORY if not is_of_a_mailbox(one.sql)]


def measured() -> list[Statement]:
    return [one for one in central() if not _inserts(one.sql) and one.id not in HEAVY]


def plan(db: sqlite3.Connection, sql: str) -> list[str]:
    return [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", long_history.nothing(sql))]


def _inserts(sql: str) -> bool:
    return re.match(r"\s*INSERT\b[^;]*?\bVALUES\b", sql) is not None


def walks(db: sqlite3.Connection, sql: str) -> list[str]:
    """The parts of a plan that go through a whole table, or sort what they found. An index over what is open is no
    table: it holds no history."""
    tables = dict(db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall())
    aliases = {alias: table for table, alias in re.findall(r"(?:FROM|JOIN|,)\s+(\w+)\s+([a-z]\w*)\b", sql)}
    found = []
    for line in plan(db, sql):
        scan = _SCAN.match(line)
        table = None if scan is None else aliases.get(scan[1], scan[1])
        grows = table in tables and table not in SMALL
        if (scan is not None and grows and not _is_partial(db, scan[2])) or "TEMP B-TREE" in line:
            found.append(line)
    return found


def _is_partial(db: sqlite3.Connection, index: str | None) -> bool:
    row = db.execute("SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ?", (index,)).fetchone()
    return row is not None and row[0] is not None and " WHERE " in " ".join(row[0].split())


def steps(db: sqlite3.Connection, sql: str, moment: str) -> int:
    """How many steps a statement takes, to its end or until MOST_STEPS; nothing is kept of what it changes."""
    count = 0

    def stepped() -> int:
        nonlocal count
        count += STEP
        return int(count > MOST_STEPS)

    bound = long_history.values(sql, moment)
    db.execute("BEGIN")
    db.set_progress_handler(stepped, STEP)
    try:
        db.execute(sql, bound).fetchall()
    except sqlite3.IntegrityError:
        pass  # what is made up here does not fit together; the rows were found
    except sqlite3.OperationalError:
        assert count > MOST_STEPS, "it was interrupted"
    finally:
        db.set_progress_handler(None, 0)
        if db.in_transaction:
            db.execute("ROLLBACK")
    return count


def test_all_sql_stands_in_constants_of_its_module() -> None:
    assert loose_sql() == []
    assert len(statements()) > 200


def test_statements_on_a_mailbox_are_no_others(history: sqlite3.Connection, tmp_path: Path) -> None:
    """What is left out here is left out because it is of another file."""
    for one in statements():
        if is_of_a_mailbox(one.sql):
            with pytest.raises(sqlite3.OperationalError, match="no such table: messages_in"):
                history.execute(f"EXPLAIN {one.sql}", long_history.nothing(one.sql))


@pytest.mark.parametrize("statement", central(), ids=lambda one: one.id)
def test_no_statement_scans_or_sorts_a_table_that_grows(history: sqlite3.Connection, statement: Statement) -> None:
    if statement.id not in BOUNDED:
        assert walks(history, statement.sql) == []


@pytest.mark.parametrize("statement", measured(), ids=lambda one: one.id)
def test_no_statement_walks_through_the_history(history: sqlite3.Connection, statement: Statement) -> None:
    """A plan may name an index and still go through all rows of a session, a chat or a kind."""
    for moment in (long_history.EARLY, long_history.LATE):
        assert steps(history, statement.sql, moment) <= MOST_STEPS


def test_verify_reads_on_connections_of_its_own() -> None:
    assert finding.Install.__annotations__["store"] == "Reports"


def test_what_a_session_has_under_way_is_counted_without_its_history() -> None:
    """The key's first column would be a search, too: through all that the session ever sent."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript((Path(deliveries.__file__).parent / "schema.sql").read_text(encoding="utf-8"))
        plan = database.execute(f"EXPLAIN QUERY PLAN {deliveries.COUNT_WAITING}", ("s", "t", 1)).fetchall()
    assert any("INDEX deliveries_open (session_id=?)" in row[3] for row in plan), plan

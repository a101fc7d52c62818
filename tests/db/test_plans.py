"""The statements of a message, a poll or a sweep cost the same for any history."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nanohost.verify import finding
from tests.db import long_history, searches
from tests.db.searches import TableAccess
from tests.db.statements import Statement, find_inline_sql, statements
from tests.support.template_home import make_database

HISTORY = [one for one in statements() if not one.is_report]
"""Statements that are not for a person's list or report."""
SMALL = {
    "install": "one row",
    "paused": "one row",
    "agent_groups": "a row for each agent that somebody made",
    "messaging_groups": "a row for each chat that somebody let an agent into",
    "moved_chats": "a row for each time that a platform calls a chat otherwise",
    "wirings": "a row for each agent in a chat, made by a person",
    "destinations": "a row for each chat that a person named to an agent",
    "roles": "a row for each person whom a person let in",
    "late_messages": "150 rows at most, see overdue_messages.MAX_ROWS",
    "holds": "a row for each session or agent that somebody has put on hold",
}
"""Tables that do not grow with messages."""
BOUNDED = {
    "db.expired_rows.AGGREGATE_CALLS": "sorts one batch of 200 rows, once a day",
    "db.agent_groups.ADD": "SQLite looks for rows that wait for their parent, if there are any: none does",
}
"""Plans with a scan or a sort that is bounded otherwise than by an index."""
HEAVY = {
    "db.agent_groups.DELETE_RULES": "an operator deletes an agent, with all that was decided about it",
    "db.wirings.DELETE_ROUTES": "an operator deletes a wiring, with all that it ever did",
    "db.moved_chats.SESSIONS": "a chat moves, once, to one that an operator has set up already",
}
"""Statements over all rows, which only an operator's command runs."""
A_BATCH = "takes the first of the oldest, a batch at a time"
LOOKS_FOR_ONE = "SQLite looks for one row that refers to it"
MANY_BEHIND = {
    "db.agent_groups.DELETE_RULES": "see HEAVY",
    "db.actions.COUNT_UNSUCCESSFUL_APPROVALS": "counts those of one hour, see OF_AN_HOUR",
    "db.actions.COUNT_FAILED_BEFORE": "counts those of ten minutes, and no more than matter",
    "db.expired_rows.OLD_EVENTS": A_BATCH,
    "db.expired_rows.OLD_CALLS": A_BATCH,
    "db.expired_rows.IS_IDLE": "asks whether there is any event that was set aside",
    "db.expired_rows.OLD_DELIVERIES": A_BATCH,
    "db.expired_rows.OLD_HOST_MESSAGES": A_BATCH,
    "db.expired_rows.OLD_ACTIONS": A_BATCH,
    "db.expired_rows.OLD_RUNS": A_BATCH,
    "db.expired_rows.DELETE_RUNS": "asks whether there is any later run of the same task",
    "db.expired_rows.ENDED_TASKS": f"{A_BATCH}; of a task's runs only the youngest are left then",
    "db.expired_rows.DELETE_RUNS_OF": "of a task's runs only the youngest are left then",
    "db.expired_rows.DELETE_TASKS": LOOKS_FOR_ONE,
    "db.approvals.LAST": "takes the newest",
    "db.host_messages.MAX_SEQ": "takes the highest, by the key",
    "db.approvals.DELETE_OLD": A_BATCH,
    "db.audit.DELETE_OLD": A_BATCH,
    "db.codes.DELETE_OLD": A_BATCH,
    "db.codes.DELETE_OLD_GUESSES": A_BATCH,
    "db.deliveries.RESULTS": "takes the newest; before them are those on their way, see budget.MOST_WAITING",
    "db.deliveries.LATER_MESSAGE": "asks whether there is any",
    "db.dropped.DELETE_OLD": A_BATCH,
    "db.events.QUARANTINED": "takes the first ones",
    "db.overdue_messages.EVENTS": "takes the newest that were set aside",
    "db.overdue_messages.DELIVERIES": "takes the newest that are dead",
    "db.overdue_messages.LATEST_EVENT": "takes the latest",
    "db.overdue_messages.HAS_NOTICE": "asks whether there is any of at most ten",
    "db.moved_chats.IS_USED": "asks whether there is any",
    "db.moved_chats.DELETE": LOOKS_FOR_ONE,
    "db.moved_chats.SESSIONS": "see HEAVY",
    "db.messaging_groups.ADD": LOOKS_FOR_ONE,
    "db.messaging_groups.DELETE": LOOKS_FOR_ONE,
    "db.model_calls.ASSIGN_TO_TURN": "those of no turn yet; the many are of an empty turn, from before turns were kept",
    "db.model_calls.TOTALS_OF_TURN": "the many are of an empty turn, from before turns were kept",
    "db.questions.DELETE_OLD": A_BATCH,
    "db.routes.HAS_REACHED": "asks whether there is any",
    "db.routes.COUNT_RECENT_BOTS": "takes the newest",
    "db.routes.UNSETTLED": "the many are those that were written",
    "db.rules.EXPIRED": "the many never end",
    "db.rules.DELETE_OLD": A_BATCH,
    "db.rules.NEXT_EXPIRY": "takes the first",
    "db.sessions.BY_PREFIX": "takes the first hundred with that beginning",
    "db.sessions.SOME_OF_AGENT_GROUP": "takes the first two",
    "db.sessions.ONE_OF_CHAT": "takes the first",
    "db.tasks.BY_PREFIX": "takes the first two with that beginning",
    "db.tasks.RUNS": "takes the newest",
    "db.turn_costs.DELETE_OLD": A_BATCH,
    "db.message_turns.DELETE_OLD": A_BATCH,
    "db.wirings.ADD": LOOKS_FOR_ONE,
    "db.wirings.DELETE": LOOKS_FOR_ONE,
    "db.wirings.DELETE_ROUTES": "see HEAVY",
}
"""Statements that search among many rows, each with what ends the search early, which is also measured."""
OF_AN_HOUR = {
    "db.actions.COUNT_UNSUCCESSFUL_APPROVALS": "in which a session has 600 requests entered (delivery/budget.py)",
    "db.actions.COUNT_FAILED_BEFORE": "the same",
}
"""Statements about recent rows, whose number is limited."""
ONE_BY_ONE = {
    "verify.session_view.SESSIONS": "read one by one",
    "verify.session_view.ROUTES": "read one by one, beside the sessions",
}
"""Reports as long as their subject, which are not kept in memory."""
SHORT = {
    "schema_migrations": "a row for each migration",
    "uncounted_attempts": "a row for each message that was interrupted, until it is closed",
    "delivery_parts": "a row for each part of a long message, until that is sent; asked for by message alone",
    "channel_checkpoints": "a row for each channel instance",
    "model_calls_by_day": "some rows a day; read in reports alone",
}
"""Tables that grow, if at all, with something else than messages."""
A_ROW_A_SESSION = {"turn_failures", "retention_watermarks"}
OPEN = {"new", "held", "waiting", "pending", "sending", "active", "paused", "open"}
"""Statuses that end by themselves or by a person's decision. Others are history."""
MOST_STEPS = 50_000
"""Of SQLite's virtual machine. A walk through 100,000 rows takes 300,000 at least; a batch of 200 takes 20,000."""
STEP = 100


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    folder = tmp_path_factory.mktemp("history")
    make_database(folder / "nanohost.db")
    with closing(sqlite3.connect(folder / "nanohost.db", isolation_level=None)) as db:
        long_history.fill_history(db)
        db.execute("PRAGMA foreign_keys = ON")
        yield db


class SearchRowCounter:
    """Counts the rows behind searches, once for each search."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self._counted: dict[tuple[str, str | None, int, bool], int] = {}

    def many(self, sql: str) -> list[str]:
        """The parts of its plan that may read more than a few rows of a growing table."""
        grown = [look for look in searches.table_accesses(self.db, sql) if look.table not in SMALL]
        return [
            f"{look.line}: {count:,} rows"
            for look in grown
            if (count := self._count(look)) > long_history.SMALL_TABLE_ROWS
        ]

    def _count(self, look: TableAccess) -> int:
        key = (look.table, look.index, look.given_columns, look.is_automatic)
        if key not in self._counted:
            self._counted[key] = searches.max_rows_behind(self.db, look)
        return self._counted[key]


@pytest.fixture(scope="module")
def behind(history: sqlite3.Connection) -> SearchRowCounter:
    return SearchRowCounter(history)


def is_of_a_mailbox(sql: str) -> bool:
    """Whether a statement is for a session's inbound.db."""
    return "messages_in" in sql


def central() -> list[Statement]:
    return [one for one in HISTORY if not is_of_a_mailbox(one.sql)]


def measured() -> list[Statement]:
    return [one for one in central() if not _inserts(one.sql) and one.id not in HEAVY]


def _inserts(sql: str) -> bool:
    return re.match(r"\s*INSERT\b[^;]*?\bVALUES\b", sql) is not None


def steps(db: sqlite3.Connection, sql: str, moment: str) -> int:
    """How many steps a statement takes, to its end or until MOST_STEPS; its changes are rolled back."""
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
        pass  # the values made up here violate constraints; the rows were found
    except sqlite3.OperationalError:
        assert count > MOST_STEPS, "it was interrupted"
    finally:
        db.set_progress_handler(None, 0)
        if db.in_transaction:
            db.execute("ROLLBACK")
    return count


def test_all_sql_is_in_constants_of_its_module() -> None:
    assert find_inline_sql() == []
    assert len(statements()) > 200


def test_statements_excluded_as_mailbox_statements_read_a_mailbox(history: sqlite3.Connection, tmp_path: Path) -> None:
    """Statements are excluded only because they are for another file."""
    for one in statements():
        if is_of_a_mailbox(one.sql):
            with pytest.raises(sqlite3.OperationalError, match="no such table: messages_in"):
                history.execute(f"EXPLAIN {one.sql}", long_history.null_values(one.sql))


@pytest.mark.parametrize("statement", central(), ids=lambda one: one.id)
def test_no_statement_scans_or_sorts_a_growing_table(behind: SearchRowCounter, statement: Statement) -> None:
    """Nor does it search by a key prefix that many rows share."""
    if statement.id not in BOUNDED:
        found = behind.many(statement.sql)
        assert bool(found) == (statement.id in MANY_BEHIND), found
        assert [line for line in searches.query_plan(behind.db, statement.sql) if "TEMP B-TREE" in line] == []


@pytest.mark.parametrize("statement", measured(), ids=lambda one: one.id)
def test_no_statement_walks_the_history(history: sqlite3.Connection, statement: Statement) -> None:
    """A plan may use an index and still read all rows of a session, a chat or a kind."""
    longest = long_history.AN_HOUR if statement.id in OF_AN_HOUR else long_history.ALL_TIME
    for moment in (long_history.EARLY, long_history.MIDDLE, long_history.LATE, longest):
        assert steps(history, statement.sql, moment) <= MOST_STEPS, moment


def test_no_report_returns_unbounded_rows(history: sqlite3.Connection) -> None:
    found = {one.id: _count_rows(history, one.sql) for one in statements() if _is_bounded_report(one)}
    assert {id: rows for id, rows in found.items() if rows > long_history.SMALL_TABLE_ROWS} == {}


def _is_bounded_report(one: Statement) -> bool:
    return one.is_report and one.id not in ONE_BY_ONE and not is_of_a_mailbox(one.sql)


def _count_rows(db: sqlite3.Connection, sql: str) -> int:
    """Count up to one too many."""
    return len(
        db.execute(sql, long_history.values(sql, long_history.ALL_TIME)).fetchmany(long_history.SMALL_TABLE_ROWS + 1)
    )


def test_a_statement_that_walks_a_sessions_whole_history_is_detected(behind: SearchRowCounter) -> None:
    """SQLite reports a search, and would use the key for the range if the plan did not prevent it."""
    walk = """
    SELECT count(*) AS found, count(CASE WHEN not_before > ?2 THEN 1 END) AS later FROM (
        SELECT not_before FROM deliveries WHERE session_id = ?1 AND status IN ('pending', 'sending') LIMIT ?3)
    """
    assert behind.many(walk) == ["SEARCH deliveries USING PRIMARY KEY (session_id=?): 100,000 rows"]
    assert steps(behind.db, walk, long_history.LATE) > MOST_STEPS


@pytest.mark.parametrize("table", searches.tables())
def test_the_test_history_is_long_in_every_growing_table(history: sqlite3.Connection, table: str) -> None:
    of_session = "session_id" in searches.columns(history, table) and table not in A_ROW_A_SESSION
    where = f"WHERE session_id = '{long_history.BIG}'" if of_session else ""
    rows = history.execute(f"SELECT count(*) FROM {table} {where}").fetchone()[0]
    assert (rows >= long_history.ROWS) == (table not in SMALL | SHORT)


def test_the_test_history_contains_every_status(history: sqlite3.Connection) -> None:
    """Of open statuses too, but only a few rows: an index over them contains no history."""
    assert len(searches.status_values(history)) >= 9
    for table, column, states in searches.status_values(history):
        found = dict(history.execute(f"SELECT {column}, count(*) FROM {table} GROUP BY 1"))
        assert set(found) - {None} == states, f"{table}.{column}"
        for state in states:
            few = found[state] <= long_history.SMALL_TABLE_ROWS
            assert few == (state in OPEN), f"{found[state]} of {table}.{column} {state}"


def test_verify_reads_on_separate_connections() -> None:
    assert finding.VerifyContext.__annotations__["store"] == "ReportReader"

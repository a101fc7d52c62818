"""States that are no findings: half-done steps of a running host, and of a killed one; and the form of the report."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from nanohost.db import agent_groups, sessions
from nanohost.mailbox import queries
from nanohost.model import Session
from nanohost.verify.checks import RECHECK_PAUSE_S, RECHECKS, verify
from nanohost.verify.finding import MAX_ROWS
from tests.verify.healthy import BUSY_NAME, HealthyHome, write

pytestmark = pytest.mark.behaviour("OP-02")


class NextStep:
    """Satisfies Clock: whenever verify waits, the running host takes its next step."""

    def __init__(self, bench: HealthyHome, step: Callable[[], None]) -> None:
        self._clock = bench.clock
        self._step = step
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._step()


async def test_an_unfinished_step_of_a_running_host_is_not_reported(home_fixture: HealthyHome) -> None:
    home_fixture.run_central_sql("UPDATE sessions SET due_at = NULL")
    due = f"UPDATE sessions SET due_at = created_at WHERE id = '{home_fixture.busy_session.id}'"
    clock = NextStep(home_fixture, lambda: home_fixture.run_central_sql(due))
    assert await verify(home_fixture.store, home_fixture.home, clock=clock, is_host_running=True) == []
    assert clock.slept == [RECHECK_PAUSE_S]


async def test_a_finding_confirmed_by_several_checks_is_reported_for_a_running_host(
    home_fixture: HealthyHome,
) -> None:
    home_fixture.run_central_sql("UPDATE sessions SET due_at = NULL")
    clock = NextStep(home_fixture, lambda: None)
    [found] = await verify(home_fixture.store, home_fixture.home, clock=clock, is_host_running=True)
    assert found.check == "pending work is due"
    assert clock.slept == [RECHECK_PAUSE_S] * RECHECKS


async def test_a_recheck_with_a_different_finding_confirms_nothing(home_fixture: HealthyHome) -> None:
    home_fixture.run_central_sql("UPDATE deliveries SET attempts = 2")
    counts = iter((3, 4, 5))
    clock = NextStep(
        home_fixture, lambda: home_fixture.run_central_sql(f"UPDATE deliveries SET attempts = {next(counts)}")
    )
    assert await verify(home_fixture.store, home_fixture.home, clock=clock, is_host_running=True) == []


@pytest.mark.parametrize("host_running", [True, False])
async def test_a_send_in_progress_is_no_finding_even_after_a_kill(
    home_fixture: HealthyHome, host_running: bool
) -> None:
    home_fixture.run_central_sql(
        "UPDATE deliveries SET status = 'sending'; UPDATE delivery_attempts SET ended_at = NULL, outcome = NULL"
    )
    assert await home_fixture.verify(host_running=host_running) == []


async def test_a_message_whose_routing_was_interrupted_need_not_be_due_yet(home_fixture: HealthyHome) -> None:
    home_fixture.run_central_sql(
        "DELETE FROM routes; UPDATE inbound_events SET status = 'new'; UPDATE sessions SET due_at = NULL"
    )
    assert await home_fixture.verify() == []


async def test_a_session_without_messages_needs_no_folder(home_fixture: HealthyHome) -> None:
    async with home_fixture.store.transaction() as tx:
        group = await agent_groups.add(
            tx, folder="new", name="new", provider=None, model=None, now=home_fixture.clock.now()
        )
        await sessions.add(tx, agent_group=group.id, messaging_group=None, thread_id=None, now=home_fixture.clock.now())
    assert await home_fixture.verify() == []


async def test_claims_of_a_dead_container_are_no_finding_once_freed_or_while_work_is_due(
    home_fixture: HealthyHome,
) -> None:
    home_fixture.run_central_sql("UPDATE sessions SET lease = NULL, runtime = NULL")
    assert await home_fixture.verify() == []
    home_fixture.run_central_sql("UPDATE sessions SET due_at = NULL")
    home_fixture.run_inbound_sql(home_fixture.busy_session, "UPDATE messages_in SET status = 'failed'")
    assert await home_fixture.verify() == []


async def test_an_outbound_file_that_only_the_runner_may_roll_back_is_no_finding(home_fixture: HealthyHome) -> None:
    _leave_a_hot_journal(home_fixture, home_fixture.idle_session)
    assert await home_fixture.mailboxes.read_outbound(home_fixture.idle_session, queries.progress()) is None
    home_fixture.run_central_sql(f"UPDATE sessions SET due_at = created_at WHERE id = '{home_fixture.idle_session.id}'")
    assert await home_fixture.verify() == []


async def test_a_deleted_wiring_causes_no_finding(home_fixture: HealthyHome) -> None:
    home_fixture.run_central_sql(
        "DELETE FROM routes WHERE event_id = 1; UPDATE wirings SET created_at = '2027' WHERE id = 1"
    )
    assert await home_fixture.verify() == []


async def test_verify_writes_nothing(home_fixture: HealthyHome) -> None:
    before = _stamps(home_fixture.home.sessions)
    home_fixture.run_central_sql("UPDATE sessions SET due_at = NULL")
    assert await home_fixture.verify() != []
    assert _stamps(home_fixture.home.sessions) == before


async def test_findings_of_one_cause_are_limited(home_fixture: HealthyHome) -> None:
    for number in range(MAX_ROWS + 20):
        (home_fixture.home.sessions / "rest" / f"stray-{number}").mkdir()
    [found] = await home_fixture.verify()
    assert len(found.rows) == MAX_ROWS


async def test_a_damaged_central_database_is_a_finding_and_not_an_exception(home_fixture: HealthyHome) -> None:
    home_fixture.run_central_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    with home_fixture.home.database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(home_fixture.home.database.stat().st_size - 4096))
    found = await home_fixture.verify()
    assert found[0].check == "central database integrity"


async def test_findings_name_their_session(home_fixture: HealthyHome) -> None:
    await write(home_fixture.store, home_fixture.mailboxes, home_fixture.clock, BUSY_NAME, "p2")
    home_fixture.run_inbound_sql(home_fixture.busy_session, "DELETE FROM messages_in WHERE seq > 2")
    [found] = await home_fixture.verify()
    assert f"session {home_fixture.busy_session.id} of {BUSY_NAME}" in found.rows[0]


def _leave_a_hot_journal(bench: HealthyHome, session: Session) -> None:
    """A journal of a runner that was killed in the middle of a commit: it says what to roll back."""
    path = bench.layout(session).outbound_db
    journal, kept = path.with_name("outbound.db-journal"), path.with_name("kept")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA cache_size = 1")
        database.execute("BEGIN IMMEDIATE")
        database.execute("CREATE TABLE filler (bytes BLOB)")
        database.execute("INSERT INTO filler VALUES (zeroblob(200000))")
        shutil.copy(journal, kept)
        database.execute("ROLLBACK")
    kept.rename(journal)


def _stamps(root: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in root.rglob("*")}

"""What is as it may be: half-done steps of a running host, what a killed one leaves; and how it is reported."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from nanohost.mailbox import queries
from nanohost.model import Session
from nanohost.store import agent_groups, sessions
from nanohost.verify.checks import RECHECK_PAUSE_S, RECHECKS, verify
from nanohost.verify.finding import MOST_ROWS
from tests.verify.healthy import BUSY, Bench, write

pytestmark = pytest.mark.behaviour("OP-02")


class NextStep:
    """Satisfies Clock: whenever verify waits, the running host takes its next step."""

    def __init__(self, bench: Bench, step: Callable[[], None]) -> None:
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


async def test_a_step_that_a_running_host_is_in_the_middle_of_is_not_reported(bench: Bench) -> None:
    bench.central("UPDATE sessions SET due_at = NULL")
    due = f"UPDATE sessions SET due_at = created_at WHERE id = '{bench.busy.id}'"
    clock = NextStep(bench, lambda: bench.central(due))
    assert await verify(bench.store, bench.home, clock=clock, host_running=True) == []
    assert clock.slept == [RECHECK_PAUSE_S]


async def test_what_is_still_so_after_several_looks_is_reported_beside_a_running_host(bench: Bench) -> None:
    bench.central("UPDATE sessions SET due_at = NULL")
    clock = NextStep(bench, lambda: None)
    [found] = await verify(bench.store, bench.home, clock=clock, host_running=True)
    assert found.check == "pending work is due"
    assert clock.slept == [RECHECK_PAUSE_S] * RECHECKS


async def test_a_second_look_that_finds_something_else_confirms_nothing(bench: Bench) -> None:
    bench.central("UPDATE deliveries SET attempts = 2")
    counts = iter((3, 4, 5))
    clock = NextStep(bench, lambda: bench.central(f"UPDATE deliveries SET attempts = {next(counts)}"))
    assert await verify(bench.store, bench.home, clock=clock, host_running=True) == []


@pytest.mark.parametrize("host_running", [True, False])
async def test_a_delivery_under_way_is_fine_be_its_host_killed_by_now(bench: Bench, host_running: bool) -> None:
    bench.central(
        "UPDATE deliveries SET status = 'sending'; UPDATE delivery_attempts SET ended_at = NULL, outcome = NULL"
    )
    assert await bench.verify(host_running=host_running) == []


async def test_a_message_whose_routing_was_cut_off_by_a_kill_need_not_be_due_yet(bench: Bench) -> None:
    bench.central("DELETE FROM routes; UPDATE inbound_events SET status = 'new'; UPDATE sessions SET due_at = NULL")
    assert await bench.verify() == []


async def test_a_session_that_never_got_a_message_needs_no_folder(bench: Bench) -> None:
    async with bench.store.transaction() as tx:
        group = await agent_groups.add(tx, folder="new", name="new", provider=None, model=None, now=bench.clock.now())
        await sessions.add(tx, agent_group=group.id, messaging_group=None, thread_id=None, now=bench.clock.now())
    assert await bench.verify() == []


async def test_claims_of_a_dead_container_are_fine_once_they_are_freed_or_while_work_is_due(bench: Bench) -> None:
    bench.central("UPDATE sessions SET lease = NULL, runtime = NULL")
    assert await bench.verify() == []
    bench.central("UPDATE sessions SET due_at = NULL")
    bench.inbound(bench.busy, "UPDATE messages_in SET status = 'failed'")
    assert await bench.verify() == []


async def test_an_outbound_file_that_only_a_runner_may_roll_back_is_fine(bench: Bench) -> None:
    _leave_a_hot_journal(bench, bench.rest)
    assert await bench.mailboxes.outbound(bench.rest, queries.progress()) is None
    bench.central(f"UPDATE sessions SET due_at = created_at WHERE id = '{bench.rest.id}'")
    assert await bench.verify() == []


async def test_a_wiring_that_was_deleted_leaves_no_finding_behind(bench: Bench) -> None:
    bench.central("DELETE FROM routes WHERE event_id = 1; UPDATE wirings SET created_at = '2027' WHERE id = 1")
    assert await bench.verify() == []


async def test_nothing_is_written(bench: Bench) -> None:
    before = _stamps(bench.home.sessions)
    bench.central("UPDATE sessions SET due_at = NULL")
    assert await bench.verify() != []
    assert _stamps(bench.home.sessions) == before


async def test_one_cause_does_not_fill_the_screen(bench: Bench) -> None:
    for number in range(MOST_ROWS + 20):
        (bench.home.sessions / "rest" / f"stray-{number}").mkdir()
    [found] = await bench.verify()
    assert len(found.rows) == MOST_ROWS


async def test_a_damaged_central_database_is_a_finding_and_no_exception(bench: Bench) -> None:
    bench.central("PRAGMA wal_checkpoint(TRUNCATE)")
    with bench.home.database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(bench.home.database.stat().st_size - 4096))
    found = await bench.verify()
    assert found[0].check == "central database is sound"


async def test_findings_name_the_session_they_are_about(bench: Bench) -> None:
    await write(bench.store, bench.mailboxes, bench.clock, BUSY, "p2")
    bench.inbound(bench.busy, "DELETE FROM messages_in WHERE seq > 2")
    [found] = await bench.verify()
    assert f"session {bench.busy.id} of {BUSY}" in found.rows[0]


def _leave_a_hot_journal(bench: Bench, session: Session) -> None:
    """As a runner leaves it that is killed in the middle of a commit: the journal says what to undo."""
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

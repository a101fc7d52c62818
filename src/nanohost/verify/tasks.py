"""Checks the invariants of tasks and their runs.

A constraint of the table ensures that an active task has a next time; the check of the central database covers it.
"""

from __future__ import annotations

from collections.abc import Iterator

from nanohost.verify.finding import MAX_ROWS, VerifyContext
from nanohost.verify.session_view import SessionView
from nanohost.verify.sessions import session_label
from nanohost_protocol.errors import ProtocolError
from nanohost_protocol.schema import INBOUND
from nanohost_protocol.sqlite import read_snapshot

ORPHANED_RUNS = """
SELECT r.id, r.task_id, r.session_id FROM task_runs r LEFT JOIN tasks t ON t.id = r.task_id
WHERE t.session_id IS NOT r.session_id LIMIT ?
"""
RUNNING_RUNS = """
SELECT task_id, message_id FROM task_runs
WHERE session_id = ? AND ended_at IS NULL AND started_at IS NOT NULL LIMIT ?
"""
IN_MAILBOX = "SELECT 1 FROM messages_in WHERE id = ?"


async def runs_belong_to_a_task(install: VerifyContext) -> list[str]:
    """Every run belongs to a task of the same session."""
    return [
        f"run {row['id']} of task {row['task_id']} in session {row['session_id']} belongs to no task there"
        for row in await install.store.fetch_all(ORPHANED_RUNS, (MAX_ROWS,))
    ]


def running_runs_are_in_the_mailbox(view: SessionView) -> Iterator[str]:
    """A run that has begun and not ended has its message in the session's inbound.db."""
    runs = view.central.execute(RUNNING_RUNS, (view.row.id, MAX_ROWS)).fetchall()
    if not runs or view.inbound is None:
        return
    try:
        with read_snapshot(view.layout.inbound_db, INBOUND) as box:
            missing = [run for run in runs if box.execute(IN_MAILBOX, (run["message_id"],)).fetchone() is None]
    except (ProtocolError, OSError):
        return  # another check reports it
    for run in missing:
        yield (
            f"{session_label(view)}: a run of task {run['task_id']} is under way, and "
            f"{run['message_id']} is not in inbound.db"
        )

"""Rows made by tests, with default values."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from nanohost.db.tasks import MisfirePolicy, Task, TaskKind, TaskStatus
from nanohost.model import SessionId, TaskId
from nanohost_protocol.rows import InKind, MessageIn


def make_pending_message(at: datetime, **values: Any) -> MessageIn:
    """A message that nobody has claimed, without an origin."""
    row = MessageIn(
        seq=2,
        id="m",
        kind=InKind.CHAT,
        timestamp=at,
        status="pending",
        process_after=None,
        tries=0,
        trigger=True,
        on_wake=False,
        origin=None,
        content="{}",
    )
    return replace(row, **values)


def make_active_task(at: datetime, **values: Any) -> Task:
    """A one-time task of an agent, due at this time."""
    row = Task(
        id=TaskId("t1"),
        session_id=SessionId("s1"),
        kind=TaskKind.AGENT,
        content="look",
        out_kind=None,
        cron=None,
        timezone="UTC",
        next_due=at,
        run_requested_at=None,
        status=TaskStatus.ACTIVE,
        misfire=MisfirePolicy.LATEST,
        failures_in_a_row=0,
        reason=None,
        origin=None,
        created_by="test",
        created_at=at,
        changed_at=at,
    )
    return replace(row, **values)

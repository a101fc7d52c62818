"""What a session's runner is told of its tasks: the open ones, as JSON under one key of inbound.db's meta table."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nanohost.store.tasks import Task
from nanohost_protocol.times import to_text

KEY = "tasks"
NO_TASKS = "[]"
LONGEST_PROMPT = 200
"""Characters; an agent that wants more remembers what it asked for."""


def projected(tasks: Sequence[Task]) -> str:
    """The entry for a session's open tasks. Equal tasks give equal text."""
    return json.dumps([_row(task) for task in tasks], ensure_ascii=False, separators=(",", ":"))


def _row(task: Task) -> dict[str, str | None]:
    return {
        "id": task.id,
        "prompt": task.content[:LONGEST_PROMPT],
        "kind": str(task.kind),
        "next_due": to_text(task.next_due) if task.next_due else None,
        "cron": task.cron,
        "timezone": task.timezone,
        "status": str(task.status),
    }

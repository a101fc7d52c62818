"""Writes a session's open tasks into inbound.db's meta table, for the runner to read."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nanohost.db.tasks import Task
from nanohost_protocol.times import to_text

META_KEY = "tasks"
EMPTY_TASKS_JSON = "[]"
MAX_PROMPT_CHARS = 200
"""Characters of a task's prompt; the agent can remember the rest."""


def serialize_tasks(tasks: Sequence[Task]) -> str:
    """Returns the meta entry for a session's open tasks. Equal tasks give equal text."""
    return json.dumps([_to_json_dict(task) for task in tasks], ensure_ascii=False, separators=(",", ":"))


def _to_json_dict(task: Task) -> dict[str, str | None]:
    return {
        "id": task.id,
        "prompt": task.content[:MAX_PROMPT_CHARS],
        "kind": str(task.kind),
        "next_due": to_text(task.next_due) if task.next_due else None,
        "cron": task.cron,
        "timezone": task.timezone,
        "status": str(task.status),
    }

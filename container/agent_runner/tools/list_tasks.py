"""list_tasks: list the current tasks of this conversation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, tzinfo

from agent_runner.outbox import Outbox
from agent_runner.tools import Arguments, Tool, format_with_zone
from nanohost_protocol.errors import PayloadError
from nanohost_protocol.payloads import ChatOut, decode_out
from nanohost_protocol.rows import OutKind

META_KEY = "tasks"
"""The meta key under which the host writes the tasks into the mailbox."""


async def _run(outbox: Outbox, _: Arguments) -> str:
    tasks: list[Mapping[str, str | None]] = json.loads(await outbox.read_meta(META_KEY) or "[]")
    return "\n".join(_format_task(task, outbox.zone) for task in tasks) or "There are no tasks."


def _format_task(task: Mapping[str, str | None], zone: tzinfo) -> str:
    facts = [task.get("status"), _format_next_due(task.get("next_due"), zone)]
    if cron := task.get("cron"):
        facts.append(f"cron {cron} in {task.get('timezone')}")
    if task.get("kind") == "message":
        facts.append("a message that is sent as it is")
    return f"{task.get('id')} ({', '.join(fact for fact in facts if fact)}): {_task_text(task)}"


def _task_text(task: Mapping[str, str | None]) -> str:
    """Returns the prompt, or the text of the message; text that the host has cut is shown as it is."""
    prompt = task.get("prompt") or ""
    if task.get("kind") != "message":
        return prompt
    try:
        payload = decode_out(OutKind.CHAT, prompt)
    except PayloadError:
        return prompt
    return payload.text if isinstance(payload, ChatOut) else prompt


def _format_next_due(text: str | None, zone: tzinfo) -> str:
    if not text:
        return ""
    return f"next {format_with_zone(datetime.fromisoformat(text), zone)}"


TOOL = Tool(
    name="list_tasks",
    description="List the tasks of this conversation that are still to come, with their ids.",
    schema={"type": "object", "properties": {}, "additionalProperties": False},
    run=_run,
)

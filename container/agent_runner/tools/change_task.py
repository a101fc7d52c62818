"""change_task: change, pause, resume or cancel a task of this conversation."""

from __future__ import annotations

from agent_runner.outbox import Outbox
from agent_runner.tools import AT, CRON, TOLD_IF_NOT, Arguments, Tool, ToolRefused, optional_text, text_of, with_zone
from nanohost_protocol.actions import ActionName

CHANGES = {
    "update": ActionName.TASKS_UPDATE,
    "pause": ActionName.TASKS_PAUSE,
    "resume": ActionName.TASKS_RESUME,
    "cancel": ActionName.TASKS_CANCEL,
}
_NEW = {"prompt": "prompt", "at": "due", "cron": "recurrence", "timezone": "timezone"}
"""What may be new, and what the host calls it."""


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    id, change = text_of(arguments, "id"), text_of(arguments, "change")
    if change not in CHANGES:
        raise ToolRefused(f"change must be one of {', '.join(CHANGES)}.")
    new = {theirs: value for ours, theirs in _NEW.items() if (value := optional_text(arguments, ours)) is not None}
    if (change == "update") != bool(new):
        raise ToolRefused("Say what is new with the change update, and with no other change.")
    when = ""
    if "due" in new:
        zone = new.get("timezone")
        when = f" for {with_zone(outbox.moment(new['due'], timezone=zone), outbox.zone_of(zone))}"
    await outbox.ask_host(CHANGES[change], {"id": id, **new})
    return f"Asked for{when}. {TOLD_IF_NOT}"


TOOL = Tool(
    name="change_task",
    description="Change, pause, resume or cancel one of this conversation's tasks. list_tasks tells their ids.",
    schema={
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "The task's id."},
            "change": {"type": "string", "enum": list(CHANGES)},
            "prompt": {"type": "string", "description": "With update: what is to be done from now on."},
            "at": {"type": "string", "description": f"With update: the new time, {AT}"},
            "cron": {"type": "string", "description": f"With update: the new times, {CRON}"},
            "timezone": {"type": "string", "description": "With update: whose times these are; left out: yours."},
        },
        "required": ["id", "change"],
        "additionalProperties": False,
    },
    run=_run,
)

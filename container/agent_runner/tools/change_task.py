"""change_task: change, pause, resume or cancel a task of this conversation."""

from __future__ import annotations

from agent_runner.outbox import Outbox
from agent_runner.tools import (
    AT_HELP,
    CRON_HELP,
    FAILURE_NOTICE,
    Arguments,
    Tool,
    ToolRefused,
    format_with_zone,
    optional_text,
    require_text,
)
from nanohost_protocol.actions import ActionName

ACTION_BY_CHANGE = {
    "update": ActionName.TASKS_UPDATE,
    "pause": ActionName.TASKS_PAUSE,
    "resume": ActionName.TASKS_RESUME,
    "cancel": ActionName.TASKS_CANCEL,
}
_HOST_FIELD_NAMES = {"prompt": "prompt", "at": "due", "cron": "recurrence", "timezone": "timezone"}
"""The fields that can be changed, with the host's names for them."""


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    id, change = require_text(arguments, "id"), require_text(arguments, "change")
    if change not in ACTION_BY_CHANGE:
        raise ToolRefused(f"change must be one of {', '.join(ACTION_BY_CHANGE)}.")
    new = {
        theirs: value
        for ours, theirs in _HOST_FIELD_NAMES.items()
        if (value := optional_text(arguments, ours)) is not None
    }
    if (change == "update") != bool(new):
        raise ToolRefused("Say what is new with the change update, and with no other change.")
    when = ""
    if "due" in new:
        zone = new.get("timezone")
        when = f" for {format_with_zone(outbox.parse_moment(new['due'], timezone=zone), outbox.resolve_zone(zone))}"
    await outbox.request_action(ACTION_BY_CHANGE[change], {"id": id, **new})
    return f"Asked for{when}. {FAILURE_NOTICE}"


TOOL = Tool(
    name="change_task",
    description="Change, pause, resume or cancel one of this conversation's tasks. list_tasks tells their ids.",
    schema={
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "The task's id."},
            "change": {"type": "string", "enum": list(ACTION_BY_CHANGE)},
            "prompt": {"type": "string", "description": "With update: what is to be done from now on."},
            "at": {"type": "string", "description": f"With update: the new time, {AT_HELP}"},
            "cron": {"type": "string", "description": f"With update: the new times, {CRON_HELP}"},
            "timezone": {"type": "string", "description": "With update: whose times these are; left out: yours."},
        },
        "required": ["id", "change"],
        "additionalProperties": False,
    },
    run=_run,
)

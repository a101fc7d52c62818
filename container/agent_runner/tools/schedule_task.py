"""schedule_task: have something done later. The host schedules it; the runner passes on the request."""

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
from nanohost_protocol.payloads import TaskOut


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    prompt, at, cron = (
        require_text(arguments, "prompt"),
        optional_text(arguments, "at"),
        optional_text(arguments, "cron"),
    )
    if at is None and cron is None:
        raise ToolRefused(f"Say when: at, {AT_HELP} Or cron, {CRON_HELP}")
    timezone = optional_text(arguments, "timezone")
    when = f"by the clocks of {timezone or outbox.zone}"
    if at is not None:  # the host decides; but an invalid or past time can be reported at once
        first = format_with_zone(outbox.parse_moment(at, timezone=timezone), outbox.resolve_zone(timezone))
        when = f"for {first}" if cron is None else f"first for {first}"
    task = TaskOut(prompt=prompt, due=at or "", recurrence=cron, timezone=timezone)
    return f"Scheduled as task {await outbox.schedule_task(task)}, {when}. {FAILURE_NOTICE}"


TOOL = Tool(
    name="schedule_task",
    description=(
        "Have a task handed to you later, once or regularly: a reminder, a report, a check. When it falls due you get"
        " its prompt as a message in this conversation, and your answer goes to the chat you are answering now."
    ),
    schema={
        "type": "object",
        "properties": {
            "prompt": {
                "type": "string",
                "description": "What you are to do then, with all you need to know to do it.",
            },
            "at": {"type": "string", "description": f"When: {AT_HELP}"},
            "cron": {"type": "string", "description": f"Regularly: {CRON_HELP}"},
            "timezone": {"type": "string", "description": "Whose times these are, as Europe/Berlin; left out: yours."},
        },
        "required": ["prompt"],
        "additionalProperties": False,
    },
    run=_run,
)

"""send_message: send a message during the turn, or schedule one for later."""

from __future__ import annotations

from agent_runner.outbox import Outbox
from agent_runner.tools import (
    AT_HELP,
    CRON_HELP,
    FAILURE_NOTICE,
    RE_HELP,
    TO_HELP,
    Arguments,
    Tool,
    format_sent,
    format_with_zone,
    optional_number,
    optional_text,
    require_text,
)


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    text, to, re = require_text(arguments, "text"), optional_text(arguments, "to"), optional_number(arguments, "re")
    at, cron = optional_text(arguments, "at"), optional_text(arguments, "cron")
    if cron is not None:
        id = await outbox.schedule_message(text, cron, to=to, at=at)
        clocks = f"by the clocks of {outbox.zone}"
        return f"It will be sent again and again, {clocks}, as task {id}: change_task stops it. {FAILURE_NOTICE}"
    sent = await outbox.send_message(text, to=to, re=re, at=at)
    if not sent.is_new or at is None:
        return format_sent(sent)
    return f"It will be sent then: {format_with_zone(outbox.parse_moment(at), outbox.zone)}."


TOOL = Tool(
    name="send_message",
    description=(
        "Send a message to a person or chat now, while you are still working: progress, a first answer, a note to"
        " another destination. What is said here must not be repeated in your final answer."
    ),
    schema={
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "The message, in Markdown."},
            "to": {"type": "string", "description": TO_HELP},
            "re": {"type": "integer", "description": RE_HELP},
            "at": {"type": "string", "description": f"Send it later: {AT_HELP}"},
            "cron": {"type": "string", "description": f"Send this same text again and again: {CRON_HELP}"},
        },
        "required": ["text"],
        "additionalProperties": False,
    },
    run=_run,
)

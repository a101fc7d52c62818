"""send_message: say something while the turn is still running, or have it said later."""

from __future__ import annotations

from agent_runner.outbox import Outbox
from agent_runner.tools import (
    AT,
    CRON,
    RE,
    TO,
    TOLD_IF_NOT,
    Arguments,
    Tool,
    optional_number,
    optional_text,
    sent,
    text_of,
    with_zone,
)


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    text, to, re = text_of(arguments, "text"), optional_text(arguments, "to"), optional_number(arguments, "re")
    at, cron = optional_text(arguments, "at"), optional_text(arguments, "cron")
    if cron is not None:
        id = await outbox.repeat(text, cron, to=to, at=at)
        clocks = f"by the clocks of {outbox.zone}"
        return f"It will be sent again and again, {clocks}, as task {id}: change_task stops it. {TOLD_IF_NOT}"
    said = await outbox.say(text, to=to, re=re, at=at)
    if not said.new or at is None:
        return sent(said)
    return f"It will be sent then: {with_zone(outbox.moment(at), outbox.zone)}."


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
            "to": {"type": "string", "description": TO},
            "re": {"type": "integer", "description": RE},
            "at": {"type": "string", "description": f"Send it later: {AT}"},
            "cron": {"type": "string", "description": f"Send this same text again and again: {CRON}"},
        },
        "required": ["text"],
        "additionalProperties": False,
    },
    run=_run,
)

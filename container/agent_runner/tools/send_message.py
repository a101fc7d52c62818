"""send_message: say something while the turn is still running, or have it said later."""

from __future__ import annotations

from agent_runner.outbox import Outbox
from agent_runner.tools import AT, CRON, TOLD_IF_NOT, Arguments, Tool, ToolRefused, optional_text, text_of


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    text, to, re = text_of(arguments, "text"), optional_text(arguments, "to"), arguments.get("re")
    if not (re is None or type(re) is int):
        raise ToolRefused("re must be the id of a message.")
    at, cron = optional_text(arguments, "at"), optional_text(arguments, "cron")
    if cron is not None:
        id = await outbox.repeat(text, cron, to=to, at=at)
        return f"It will be sent again and again, as task {id}: change_task stops it. {TOLD_IF_NOT}"
    new = await outbox.say(text, to=to, re=re, at=at)
    if not new:
        return "This had been sent before this turn was interrupted; it was not sent again."
    return "Sent." if at is None else "It will be sent then."


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
            "to": {"type": "string", "description": "A destination's name; left out: where the messages came from."},
            "re": {"type": "integer", "description": "The id of the message this answers."},
            "at": {"type": "string", "description": f"Send it later: {AT}"},
            "cron": {"type": "string", "description": f"Send this same text again and again: {CRON}"},
        },
        "required": ["text"],
        "additionalProperties": False,
    },
    run=_run,
)

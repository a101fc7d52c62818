"""send_message: say something while the turn is still running."""

from __future__ import annotations

from agent_runner.outbox import Outbox
from agent_runner.tools import Arguments, Tool, ToolRefused


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    text, to, re = arguments.get("text"), arguments.get("to"), arguments.get("re")
    if not isinstance(text, str) or not text.strip():
        raise ToolRefused("text must be a text that is not empty.")
    if not (to is None or isinstance(to, str)):
        raise ToolRefused("to must be the name of a destination.")
    if not (re is None or type(re) is int):
        raise ToolRefused("re must be the id of a message.")
    new = await outbox.say(text, to=to or None, re=re)
    return "Sent." if new else "This had been sent before this turn was interrupted; it was not sent again."


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
        },
        "required": ["text"],
        "additionalProperties": False,
    },
    run=_run,
)

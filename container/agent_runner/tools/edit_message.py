"""edit_message: change the text of one of the agent's messages."""

from __future__ import annotations

from agent_runner.outbox import Outbox
from agent_runner.tools import Arguments, Tool, format_done, require_number, require_text


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    return format_done(await outbox.edit_message(require_number(arguments, "message"), require_text(arguments, "text")))


TOOL = Tool(
    name="edit_message",
    description=(
        "Change a message that you have sent: progress that goes on, a mistake. The new text takes the place of the"
        " whole old one. Where messages cannot be changed, the last text is sent by itself if nothing else follows."
    ),
    schema={
        "type": "object",
        "properties": {
            "message": {"type": "integer", "description": "Its id, as send_message told it."},
            "text": {"type": "string", "description": "What it says from now on, in Markdown."},
        },
        "required": ["message", "text"],
        "additionalProperties": False,
    },
    run=_run,
)

"""send_file: send a file that the agent has created or received."""

from __future__ import annotations

from agent_runner.outbox import Outbox
from agent_runner.tools import (
    RE_HELP,
    TO_HELP,
    Arguments,
    Tool,
    format_sent,
    optional_number,
    optional_text,
    require_text,
)


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    path, caption = require_text(arguments, "path"), optional_text(arguments, "caption") or ""
    to, re = optional_text(arguments, "to"), optional_number(arguments, "re")
    return format_sent(await outbox.send_path(path, caption=caption, to=to, re=re))


TOOL = Tool(
    name="send_file",
    description=(
        "Send a file to a person or chat now. It is sent as it is at this moment. Where a platform takes no such file,"
        " people are told its name and where it is kept."
    ),
    schema={
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "A file in your folder, relative to it, or one under /tmp."},
            "caption": {"type": "string", "description": "What is said beside it, in Markdown."},
            "to": {"type": "string", "description": TO_HELP},
            "re": {"type": "integer", "description": RE_HELP},
        },
        "required": ["path"],
        "additionalProperties": False,
    },
    run=_run,
)

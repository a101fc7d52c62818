"""react: add an emoji to a message."""

from __future__ import annotations

from agent_runner.outbox import Outbox
from agent_runner.tools import Arguments, Tool, ToolRefused, format_done, require_number, require_text

MAX_EMOJI_CHARS = 32
"""Characters: one visible emoji consists of up to a dozen."""


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    emoji = require_text(arguments, "emoji").strip()
    if emoji.isascii() or len(emoji) > MAX_EMOJI_CHARS:
        raise ToolRefused("emoji must be one emoji, such as 👍.")
    return format_done(await outbox.react(require_number(arguments, "message"), emoji))


TOOL = Tool(
    name="react",
    description=(
        "React to a message with an emoji, theirs or yours. Where a platform lacks that emoji, the nearest one is"
        " taken, or none."
    ),
    schema={
        "type": "object",
        "properties": {
            "message": {"type": "integer", "description": "The id of the message."},
            "emoji": {"type": "string", "description": "One emoji, such as 👍."},
        },
        "required": ["message", "emoji"],
        "additionalProperties": False,
    },
    run=_run,
)

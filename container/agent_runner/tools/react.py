"""react: put an emoji on a message."""

from __future__ import annotations

from agent_runner.outbox import Outbox
from agent_runner.tools import Arguments, Tool, ToolRefused, done, number_of, text_of

LONGEST_EMOJI = 32
"""Characters: what people see as one is made of up to a dozen."""


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    emoji = text_of(arguments, "emoji").strip()
    if emoji.isascii() or len(emoji) > LONGEST_EMOJI:
        raise ToolRefused("emoji must be one emoji, such as 👍.")
    return done(await outbox.react(number_of(arguments, "message"), emoji))


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

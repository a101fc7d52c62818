"""add_destination: request another chat to send to. The host knows the chats; a person approves or denies."""

from __future__ import annotations

from agent_runner.outbox import Outbox
from agent_runner.tools import DECISION_NOTICE, Arguments, Tool, require_text
from nanohost_protocol.actions import ActionName


async def _run(outbox: Outbox, arguments: Arguments) -> str:
    name, chat = require_text(arguments, "name"), require_text(arguments, "chat")
    await outbox.request_action(ActionName.DESTINATIONS_ADD, {"name": name, "chat": chat})
    return f"Asked for. {DECISION_NOTICE}"


TOOL = Tool(
    name="add_destination",
    description=(
        "Ask to be allowed to send to another chat, one that this host has heard from. As a rule a person has to say"
        " yes first; you are told when it is decided, and can send there from then on."
    ),
    schema={
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "What you will call it: small letters, digits and -."},
            "chat": {"type": "string", "description": "The chat: its name, or its id on its platform."},
        },
        "required": ["name", "chat"],
        "additionalProperties": False,
    },
    run=_run,
)

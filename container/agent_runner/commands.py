"""Recognizes chat messages that are commands of the model's own command line, such as /compact. Pure.

The host passes them to the agent from admins only. Each has a turn of its own: in a prompt among other messages the
model would read it as text.
"""

from __future__ import annotations

import re

from agent_runner.prompt import decode_row
from nanohost_protocol.payloads import ChatIn
from nanohost_protocol.rows import InKind, MessageIn

COMPACT = "compact"
COMMANDS = (COMPACT, "context", "cost")
NOTHING_TO_COMPACT = "Nothing to compact."
NO_MODEL = "There is nothing to tell: no model is at work here."

_COMMAND = re.compile(rf"\s*/({'|'.join(COMMANDS)})(?:@\w+)?(?=\s|$)(.*)", re.IGNORECASE | re.DOTALL)


def parse_command(row: MessageIn) -> str | None:
    """Returns the command that a row consists of, in the command line's form; None if it is no command.

    Only text that a person typed counts: the agent chose the label of a button, and nobody checked it.
    """
    if row.kind is not InKind.CHAT or not row.trigger or row.origin is None or "/" not in row.content:
        return None
    one = decode_row(row)
    payload = one.payload
    if not isinstance(payload, ChatIn) or payload.event != "message" or payload.answers is not None:
        return None
    pressed = payload.refers_to is not None and payload.refers_to == row.origin.platform_message_id
    found = None if pressed else _COMMAND.fullmatch(one.text)
    return None if found is None else " ".join([f"/{found[1].lower()}", *found[2].split()])


def reply_without_model(command: str) -> str:
    """Returns the answer of a provider that has nothing to compact or to count."""
    return NOTHING_TO_COMPACT if command.startswith(f"/{COMPACT}") else NO_MODEL

"""Chat lines that are commands of the model's own command line, as /compact is. Pure.

The host lets them through to the agent from admins only. They are a turn of their own: in a prompt among other messages
the model would read them as words.
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
    """The command a row consists of, as the command line takes it; None if it is none.

    Only what a person typed: the label of a button is the agent's own choice, and was checked by nobody.
    """
    if row.kind is not InKind.CHAT or not row.trigger or row.origin is None or "/" not in row.content:
        return None
    one = decode_row(row)
    said = one.payload
    if not isinstance(said, ChatIn) or said.event != "message" or said.answers is not None:
        return None
    pressed = said.refers_to is not None and said.refers_to == row.origin.platform_message_id
    found = None if pressed else _COMMAND.fullmatch(one.text)
    return None if found is None else " ".join([f"/{found[1].lower()}", *found[2].split()])


def reply_without_model(command: str) -> str:
    """What a provider answers that has nothing to compact or to count."""
    return NOTHING_TO_COMPACT if command.startswith(f"/{COMPACT}") else NO_MODEL

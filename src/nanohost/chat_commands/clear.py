"""/clear: a new conversation. The agent forgets what was said; its files and notes stay.

The row waits for the session's runner, or for the next one: it comes before whatever is written after it, so the answer
is true at once.
"""

from __future__ import annotations

from nanohost.chat_commands.command import Asked, CarryOut, ChatCommand, Effect
from nanohost.chat_commands.waiting import end_all
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.payloads import CLEAR

FRESH = "This is a fresh conversation now."


async def _prepare(_: Asked) -> CarryOut:
    return _clear


def _clear(box: InboundWriter) -> Effect:
    end_all(box)
    return Effect(answer=FRESH, for_runner=True)


COMMAND = ChatCommand(name=CLEAR, help="stop, and begin a fresh conversation", prepare=_prepare)

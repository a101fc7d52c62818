"""/clear: a new conversation. The agent forgets what was said; its files and notes stay.

The row waits for the session's runner, or for the next one: it comes before whatever is written after it, so the answer
is true at once.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from nanohost.chat_commands.command import Asked, CarryOut, ChatCommand, Effect
from nanohost.chat_commands.waiting import claimed, end_all
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.payloads import CLEAR

FRESH = "This is a fresh conversation now."


async def _prepare(asked: Asked) -> CarryOut:
    return partial(_clear, await claimed(asked))


def _clear(taken: Collection[str], box: InboundWriter) -> Effect:
    end_all(box, taken)
    return Effect(answer=FRESH, for_runner=True)


COMMAND = ChatCommand(name=CLEAR, help="stop, and begin a fresh conversation", prepare=_prepare)

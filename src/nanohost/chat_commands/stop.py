"""/stop: end what the agent is doing, and what waits behind it.

What waits is closed together with the row that says so: from then on no crash brings it back. The runner ends its turn
when it sees the row; the host says "Stopped." when it has, or when its container is gone.
"""

from __future__ import annotations

from nanohost.chat_commands.command import Asked, CarryOut, ChatCommand, Effect
from nanohost.chat_commands.waiting import end_all
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.payloads import STOP

STOPPED = "Stopped."
NOTHING = "There is nothing to stop."


async def _prepare(_: Asked) -> CarryOut:
    return _stop


def _stop(box: InboundWriter) -> Effect:
    return Effect(answer=None, for_runner=True) if end_all(box) else Effect(answer=NOTHING)


COMMAND = ChatCommand(name=STOP, help="stop what I am doing and what waits", prepare=_prepare)

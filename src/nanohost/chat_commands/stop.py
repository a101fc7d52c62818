"""/stop: end what the agent is doing, and what waits behind it.

What waits is closed together with the row that says so: from then on no crash brings it back. The runner ends its turn
when it sees the row; the host says "Stopped." when it has, or when its container is gone.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from nanohost.chat_commands.command import Asked, CarryOut, ChatCommand, Effect
from nanohost.chat_commands.waiting import claimed, end_all
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.payloads import STOP, ControlIn, decode_in

STOPPED = "Stopped."
NOTHING = "There is nothing to stop."


async def _prepare(asked: Asked) -> CarryOut:
    return partial(_stop, await claimed(asked))


def _stop(taken: Collection[str], box: InboundWriter) -> Effect:
    if end_all(box, taken) or _is_under_way(box):
        return Effect(answer=None, for_runner=True)
    return Effect(answer=NOTHING)


def _is_under_way(box: InboundWriter) -> bool:
    """Whether an earlier one is not done yet: who gave it reads "Stopped." next, and nothing else before that."""
    orders = (decode_in(row.kind, row.content) for row in box.orders())
    return any(isinstance(order, ControlIn) and order.command == STOP for order in orders)


COMMAND = ChatCommand(name=STOP, help="stop what I am doing and what waits", prepare=_prepare)

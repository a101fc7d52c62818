"""/stop: interrupt the agent, and close what waits behind its turn.

What waits is closed together with the row that says so: from then on no crash brings it back. The runner ends its turn
when it sees the row; the host says "Stopped." when it has, or when its container is gone.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from nanohost.chat_commands.command import ApplyCommand, ChatCommand, ChatCommandInvocation, Effect
from nanohost.chat_commands.open_messages import close_open_messages, read_claimed_ids
from nanohost.text.translation import _, gettext_noop
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.payloads import STOP, ControlIn, decode_in

STOPPED_TEXT = gettext_noop("Stopped.")
NOTHING_TO_STOP = gettext_noop("There is nothing to stop.")


async def _prepare(invocation: ChatCommandInvocation) -> ApplyCommand:
    return partial(_stop, await read_claimed_ids(invocation))


def _stop(claimed_ids: Collection[str], box: InboundWriter) -> Effect:
    if close_open_messages(box, claimed_ids) or _is_stop_pending(box):
        return Effect(answer=None, needs_runner=True)
    return Effect(answer=_(NOTHING_TO_STOP))


def _is_stop_pending(box: InboundWriter) -> bool:
    """Whether an earlier one is not done yet: who gave it reads "Stopped." next, and nothing else before that."""
    orders = (decode_in(row.kind, row.content) for row in box.control_messages())
    return any(isinstance(order, ControlIn) and order.command == STOP for order in orders)


COMMAND = ChatCommand(name=STOP, help=gettext_noop("stop what I am doing and what waits"), prepare=_prepare)

"""/stop: interrupt the agent, and close the messages that wait behind its turn.

Waiting messages are closed in the same transaction as the command's row, so that no crash brings them back. The runner
ends its turn when it reads the row; the host replies "Stopped." when that is done, or when the container is gone.
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
    """Returns whether an earlier /stop is not done yet: its sender must read "Stopped." next, and nothing before."""
    orders = (decode_in(row.kind, row.content) for row in box.control_messages())
    return any(isinstance(order, ControlIn) and order.command == STOP for order in orders)


COMMAND = ChatCommand(name=STOP, help=gettext_noop("stop what I am doing and what waits"), prepare=_prepare)

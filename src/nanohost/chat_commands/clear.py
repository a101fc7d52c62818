"""/clear: start a new conversation. The agent forgets the conversation; its files and notes stay.

The row waits for the session's runner, or for the next one. It is handled before later rows, so the reply can be sent
at once.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from nanohost.chat_commands.command import ApplyCommand, ChatCommand, ChatCommandInvocation, Effect
from nanohost.chat_commands.open_messages import close_open_messages, read_claimed_ids
from nanohost.text.translation import _, gettext_noop
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.payloads import CLEAR

CLEARED_TEXT = gettext_noop("This is a fresh conversation now.")


async def _prepare(invocation: ChatCommandInvocation) -> ApplyCommand:
    return partial(_clear, await read_claimed_ids(invocation))


def _clear(claimed_ids: Collection[str], box: InboundWriter) -> Effect:
    close_open_messages(box, claimed_ids)
    return Effect(answer=_(CLEARED_TEXT), needs_runner=True)


COMMAND = ChatCommand(name=CLEAR, help=gettext_noop("stop, and begin a fresh conversation"), prepare=_prepare)

"""Finds and closes the messages that a session's agent still has to handle."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator

from nanohost.chat_commands.command import ChatCommandInvocation
from nanohost.errors import MailboxError
from nanohost.mailbox import queries
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import InKind, MessageIn

READ_TIMEOUT_S = 0.3
"""Seconds to read the container's file, which may be slow: /stop has two (see containers/control_messages.py)."""


async def read_claimed_ids(invocation: ChatCommandInvocation) -> Collection[str]:
    """Returns the ids of the messages that a container has claimed; empty if that cannot be read in time."""
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            claims = await invocation.mailboxes.read_outbound(invocation.session, queries.open_claims())
    except (MailboxError, TimeoutError):
        return ()
    return {claim.message_id for claim in claims or ()}


def open_messages(box: InboundWriter, claimed_ids: Collection[str] = ()) -> Iterator[MessageIn]:
    """Yields messages that are claimed, wait, or are to be retried. Not control messages, and not messages for the next
    container, unless their ids are in `claimed_ids`."""
    for message in box.pending():
        is_for_the_next = message.on_wake and not message.tries and message.id not in claimed_ids
        if message.kind is not InKind.CONTROL and not is_for_the_next:
            yield message


def close_open_messages(box: InboundWriter, claimed_ids: Collection[str]) -> bool:
    """Closes all open messages for good: no runner claims them, and no failure opens them again.

    Returns False if there was no message that a person waits for.
    """
    messages = list(open_messages(box, claimed_ids))
    for message in messages:
        box.close(message.id, "failed")
    return any(message.trigger for message in messages)

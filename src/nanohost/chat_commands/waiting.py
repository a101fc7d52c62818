"""What a session's agent still has to do, and how to keep it from doing it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator

from nanohost.chat_commands.command import Asked
from nanohost.errors import MailboxError
from nanohost.mailbox import queries
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import InKind, MessageIn

LOOK_WITHIN_S = 0.3
"""At the container's file, which may be slow to read: a /stop has two seconds (see keeper/orders.py)."""


async def claimed(asked: Asked) -> Collection[str]:
    """The messages that a container is working on, as far as that can be seen."""
    try:
        async with asyncio.timeout(LOOK_WITHIN_S):
            claims = await asked.mailboxes.outbound(asked.session, queries.open_claims())
    except (MailboxError, TimeoutError):
        return ()
    return {claim.message_id for claim in claims or ()}


def waiting(box: InboundWriter, taken: Collection[str] = ()) -> Iterator[MessageIn]:
    """Messages that are being worked on, wait, or are to be tried again; not what is for the runner, or for its next
    container and not `taken` by this one."""
    for message in box.pending():
        is_for_the_next = message.on_wake and not message.tries and message.id not in taken
        if message.kind is not InKind.CONTROL and not is_for_the_next:
            yield message


def end_all(box: InboundWriter, taken: Collection[str]) -> bool:
    """Close all of that, for good: no runner takes a closed message, and no failure opens it again. False if there was
    nothing that anybody waits for."""
    messages = list(waiting(box, taken))
    for message in messages:
        box.close(message.id, "failed")
    return any(message.trigger for message in messages)

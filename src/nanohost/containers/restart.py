"""Replaces a session's container, with an optional message to the next one.

The message is a row for a fresh container: the running one never sees it, and it survives a crash. The next container
runs the interrupted turn again, and the attempt does not count.
"""

from __future__ import annotations

from nanohost.chat_commands.command import ContainerState
from nanohost.clock import Clock
from nanohost.containers.manager import ContainerManager
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import Session
from nanohost_protocol.ids import random_id
from nanohost_protocol.payloads import SystemIn, encode
from nanohost_protocol.rows import InKind, NewMessageIn


async def restart_container(
    manager: ContainerManager, mailboxes: Mailboxes, clock: Clock, session: Session, *, now: bool, message: str | None
) -> bool:
    """Restart the session's container. Returns False if it has none. Raises MailboxError; then nothing is stopped."""
    if manager.status(session.id).state not in (ContainerState.STARTING, ContainerState.RUNNING):
        return False
    if message is not None:
        await mailboxes.put(session, [_restart_message(message, clock)])
    return manager.restart(session.id, now=now)


def _restart_message(text: str, clock: Clock) -> NewMessageIn:
    return NewMessageIn(
        id=random_id("m"),
        kind=InKind.SYSTEM,
        timestamp=clock.now(),
        content=encode(SystemIn(text=text, about="restart")),
        on_wake=True,
    )

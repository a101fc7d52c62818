"""A router on paper: real commands, and containers of which there are none."""

from __future__ import annotations

from datetime import UTC

from nanohost.chat_commands.command import ContainerState, Look, Shop
from nanohost.chat_commands.executor import CommandExecutor
from nanohost.clock import Clock
from nanohost.fair_share import FairShare
from nanohost.keeper.orders import answer_to
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.writer import MailboxWriter
from nanohost.model import SessionId
from nanohost.routing.attachments import Attachments
from nanohost.routing.router import EventHandler, Router
from nanohost.routing.writer import RouteWriter
from nanohost.store.database import Store


class NoContainers:
    """Satisfies nanohost.chat_commands.command.Containers."""

    def look(self, session: SessionId) -> Look:
        return Look(state=ContainerState.NONE)


def router_of(
    store: Store,
    mailboxes: Mailboxes,
    clock: Clock,
    *,
    writer: type[RouteWriter] = RouteWriter,
    requests: EventHandler | None = None,
    attachments: Attachments | None = None,
    fair: FairShare | None = None,
) -> Router:
    """A router; what it did is told by the store's bus."""
    shop = Shop(store=store, mailboxes=mailboxes, clock=clock, containers=NoContainers(), zone=UTC)
    mailbox = MailboxWriter(mailboxes)
    return Router(
        store=store,
        mailbox=mailbox,
        commands=CommandExecutor(shop, answer_to, mailbox),
        clock=clock,
        requests=requests,
        writer=writer,
        attachments=attachments,
        fair=fair,
    )

"""A router with real commands and without containers."""

from __future__ import annotations

from datetime import UTC

from nanohost.chat_commands.command import ChatCommandContext, ContainerState, ContainerStatus
from nanohost.chat_commands.executor import CommandExecutor
from nanohost.clock import Clock
from nanohost.containers.control_messages import command_answer
from nanohost.db.database import Store
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.writer import MailboxWriter
from nanohost.model import SessionId
from nanohost.routing.attachments import AttachmentFetcher
from nanohost.routing.route_writer import RouteWriter
from nanohost.routing.router import EventHandler, Router
from nanohost.work.fair_share import FairShare


class NoContainers:
    """Satisfies nanohost.chat_commands.command.Containers."""

    def status(self, session: SessionId) -> ContainerStatus:
        return ContainerStatus(state=ContainerState.NONE)


def make_router(
    store: Store,
    mailboxes: Mailboxes,
    clock: Clock,
    *,
    writer: type[RouteWriter] = RouteWriter,
    requests: EventHandler | None = None,
    attachments: AttachmentFetcher | None = None,
    fair: FairShare | None = None,
) -> Router:
    """A router; its effects are visible as events on the store's bus."""
    shop = ChatCommandContext(store=store, mailboxes=mailboxes, clock=clock, containers=NoContainers(), zone=UTC)
    mailbox = MailboxWriter(mailboxes)
    return Router(
        store=store,
        mailbox=mailbox,
        commands=CommandExecutor(shop, command_answer, mailbox),
        clock=clock,
        host_request_handler=requests,
        writer_type=writer,
        attachments=attachments,
        fair_share=fair,
    )

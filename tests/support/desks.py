"""A router on paper: a real desk, and containers of which there are none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC

from nanohost.aftermath import Follows
from nanohost.chat_commands.command import ContainerState, Look, Shop
from nanohost.chat_commands.desk import Desk
from nanohost.clock import Clock
from nanohost.fair_share import FairShare
from nanohost.keeper.orders import answer_to
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost.routing.attachments import Attachments
from nanohost.routing.router import Receives, Router
from nanohost.store.database import Store
from nanohost.store.deliveries import LaneKey


class NoContainers:
    """Satisfies nanohost.chat_commands.command.Containers."""

    def look(self, session: SessionId) -> Look:
        return Look(state=ContainerState.NONE)


def nothing(_: object) -> None:
    """Nobody wants to know."""


def router_of(
    store: Store,
    mailboxes: Mailboxes,
    clock: Clock,
    *,
    kind: type[Router] = Router,
    wake: Callable[[SessionId], None] = nothing,
    obey: Callable[[SessionId], None] = nothing,
    on_answer: Callable[[LaneKey], None] = nothing,
    reception: Receives | None = None,
    follows: Follows | None = None,
    attachments: Attachments | None = None,
    fair: FairShare | None = None,
) -> Router:
    """A router that tells these of what it did."""
    shop = Shop(store=store, mailboxes=mailboxes, clock=clock, containers=NoContainers(), zone=UTC)
    desk = Desk(shop, answer_to)
    return kind(
        store=store,
        desk=desk,
        clock=clock,
        wake=wake,
        obey=obey,
        on_answer=on_answer,
        reception=reception,
        follows=follows,
        attachments=attachments,
        fair=fair,
    )

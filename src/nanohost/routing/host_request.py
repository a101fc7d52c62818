"""Holds the context of one event that is for the host itself: its sender, their roles, and how to reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from nanohost.channel_api import EventKind
from nanohost.chat_commands.host_command import Actor
from nanohost.db import audit, host_messages
from nanohost.db.database import Transaction
from nanohost.db.events import StoredEvent
from nanohost.db.roles import RoleGrant
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.rows import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRequest:
    """One event for the host. `user_id`: the sender as <channel>:<handle>. `grants`: the roles of all their identities.

    Every effect goes through `tx`, which also marks the event as handled, so it happens once. `prefetched`: data that
    was read before the transaction began.
    """

    tx: Transaction
    stored: StoredEvent
    user_id: str
    grants: Sequence[RoleGrant]
    now: datetime
    zone: tzinfo
    prefetched: object = None

    @property
    def name(self) -> str:
        """The sender's display name, else their handle."""
        return self.stored.event.sender.name or self.stored.event.sender.handle

    @property
    def is_private(self) -> bool:
        """Whether it is a direct message, which nobody else reads."""
        return not self.stored.event.is_group

    @property
    def actor(self) -> Actor:
        """The sender as the actor of a command or a decision."""
        return Actor(id=self.user_id, name=self.name, grants=self.grants, chat=self.reply_to, is_direct=self.is_private)

    @property
    def origin(self) -> str:
        """The chat, as the audit log names it."""
        return audit.chat_origin(self.stored.chat)

    @property
    def reply_to(self) -> Origin:
        """The address of the reply to the sender."""
        chat, event = self.stored.chat, self.stored.event
        return Origin(
            channel_type=chat.channel_type,
            instance=chat.instance,
            platform_id=chat.platform_id,
            thread_id=event.thread_id,
            platform_message_id=event.platform_message_id if event.kind is EventKind.MESSAGE else None,
        )

    async def reply(self, text: str, *, once_key: str | None = None) -> None:
        """Replies to the sender in this chat. `once_key`: the same text is sent to them once per key."""
        cause = [str(self.stored.id)] if once_key is None else ["once", once_key, self.user_id]
        out_id = derive_id("h", *cause, text)
        await host_messages.enqueue(self.tx, self.reply_to, ChatOut(text=text), out_id=out_id, now=self.now)

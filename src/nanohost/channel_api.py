"""The only module a channel file imports: what a channel is given, what it must do, what it may say went wrong.

A channel is one file with a header that is read without importing it:

    # /// script
    # dependencies = ["httpx>=0.28"]
    # [tool.nanohost]
    # kind = "channel"
    # name = "example"
    # api = 1
    # ///

and a function `create(context: ChannelContext) -> Channel`. It holds no durable state: the host keeps what must
survive. Abilities beyond plain text are separate small protocols that a channel may also satisfy. A channel that
opens a Unix socket wraps its path in `short_path`: a home may lie deeper than the kernel lets a socket's path be.

    ChannelError                    raised by `send` and nothing else is
    ├── NotSent                     surely not sent; the host tries again, a bounded number of times
    │   ├── ChannelDown             the platform, or the person's end of it, is not there: the message waits
    │   └── RateLimited             the same, not before `retry_after_s`
    ├── Ambiguous                   may have been sent; the host uses the idempotency key or the chat's policy
    ├── Refused                     the platform will never take this message as it is
    └── AuthFailed                  the platform does not know us any more; the channel is paused
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from nanohost.short_socket import short_path as short_path

API_VERSION = 1
"""What `api` in a channel's header must say. Raised when a channel written for the old number would break."""


class EventKind(StrEnum):
    """What happened on the platform."""

    MESSAGE = "message"
    EDIT = "edit"
    REACTION = "reaction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who wrote. `handle` is the platform's unchangeable id, `name` is what people read."""

    handle: str
    name: str
    is_bot: bool = False
    is_self: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundEvent:
    """One thing that happened on the platform. Ids are opaque strings; the host never parses them.

    (channel type, instance, `platform_id`, `platform_message_id`, `kind`) names the event for ever: the same event
    delivered twice must carry the same five. Edits and reactions that can repeat for one message put what tells
    them apart (an edit time, an emoji) into `platform_message_id` and name the message in `refers_to`.
    """

    platform_id: str
    platform_message_id: str
    sender: Sender
    text: str
    sent_at: datetime
    kind: EventKind = EventKind.MESSAGE
    thread_id: str | None = None
    is_group: bool = False
    mentions_bot: bool = False
    refers_to: str | None = None
    chat_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The event is committed. `new` is False when it had been accepted before."""

    new: bool


class Inbox(Protocol):
    """Where a channel hands in what it received."""

    async def accept(self, event: InboundEvent) -> Accepted:
        """Commit the event. Only after this returned may the channel acknowledge its platform.

        An event that can never be used (no ids, wrong types) is recorded as dropped and counts as accepted, so that
        the platform does not send it for ever. If the event could not be committed this raises, and the channel
        must not acknowledge.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a message goes: a chat on the channel's own platform, and a thread in it."""

    platform_id: str
    thread_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundText:
    """A plain message. `reply_to` is the platform's id of the message being answered, where known."""

    text: str
    reply_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The platform has it. The ids are the platform's own, in the order of the parts."""

    platform_message_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the platform can do, as data.

    `threads`: chats have threads that replies belong to. `idempotent_send`: two sends with one key give one message.
    """

    threads: bool = False
    idempotent_send: bool = False


class Channel(Protocol):
    """The adapter of one platform. One object serves one instance (one bot account) for one life of the host."""

    @property
    def capabilities(self) -> Capabilities: ...

    def connected(self) -> AbstractAsyncContextManager[None]:
        """Be able to send while entered. Never raises because the network is down: `send` says so then."""
        ...

    async def receive(self, inbox: Inbox) -> None:
        """Read the platform until cancelled, inside `connected`. Returning or raising makes the host call it again,
        after a pause that grows; the channel need not loop over failures by itself."""
        ...

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        """Hand one message to the platform. Returning means the platform has it; anything else raises a ChannelError.

        Never sleeps on a rate limit and never retries a request that may have taken effect: the host does both.
        """
        ...


@runtime_checkable
class ShowsTyping(Protocol):
    """A channel that can show that an answer is being made."""

    async def typing(self, address: Address) -> None:
        """Show it once; the platform lets it fade. Failures are ignored."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelContext:
    """What a channel is made from.

    `settings` is the table [channels.NAME] of nanohost.toml with secrets already resolved; `runtime_dir` is a folder
    for sockets that is emptied between runs.
    """

    instance: str
    settings: Mapping[str, Any]
    runtime_dir: Path
    home: Path


class ChannelError(Exception):
    """Why a message was not surely sent. `reason` is a short stable word, the text is for the operator."""

    reason = "error"


class NotSent(ChannelError):
    """Surely not sent: no connection, refused before the request left. Trying again is safe."""

    reason = "not_sent"


class ChannelDown(NotSent):
    """Not sent because nothing is at the other end now. Waits as long as it takes, and counts as no try."""

    reason = "down"


class RateLimited(NotSent):
    """Not sent; the platform asks to wait `retry_after_s` seconds."""

    reason = "rate_limited"

    def __init__(self, text: str, *, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class Ambiguous(ChannelError):
    """The answer was lost: it may have been sent."""

    reason = "ambiguous"


class Refused(ChannelError):
    """The platform will never take this message: too long, bad format, blocked, chat gone."""

    reason = "refused"


class AuthFailed(ChannelError):
    """The platform does not accept our credentials."""

    reason = "auth"

"""A platform and its channel in one object, for tests of everything behind the channel.

The test plays the people (`person_writes`) and reads what reached them (`sent`). Its character is set with plain
attributes, at any moment:

    down                        ChannelDown, whatever is sent
    rate_limited_after_s        RateLimited with that many seconds
    refuses                     Refused
    credentials_revoked         AuthFailed
    ambiguous_after_effect      that many sends take effect and then lose their answer (Ambiguous)
    ambiguous_without_effect    that many sends are lost on the way, and nobody can tell (Ambiguous)
    limited_chats               a chat's id and seconds: RateLimited in that chat alone
    is_limit_channel_wide       whatever is RateLimited is meant for all chats
    errors_by_attempt                    the number of a send, from 1, and the error it raises before it takes effect
    should_hang_typing                typing is asked for and never returns
    hold() / release()          sends arrive and hang, before they take effect

A text above the `text_limit` of its capabilities is Refused. It keeps nothing beyond its life and opens nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from nanohost.channel_api import (
    Accepted,
    Address,
    Ambiguous,
    AuthFailed,
    Button,
    Capabilities,
    ChannelContext,
    ChannelDown,
    ChannelError,
    InboundEvent,
    Inbox,
    OutboundText,
    RateLimited,
    Receipt,
    Refused,
    Sender,
)
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

PERSON = Sender(handle="u1", name="Ann")
"""Who writes when a test does not care."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentMessage:
    """A message that people can see. `order` counts from 1 over all chats of one fake."""

    address: Address
    text: str
    reply_to: str | None
    key: str
    order: int
    plain: str | None = None
    buttons: tuple[Button, ...] = ()
    file_name: str | None = None
    content: bytes = b""
    agent: str = ""
    is_failure: bool = False


class FakeChannel:
    """A Channel that also ShowsTyping. Hand it to the host as an object, or `fake.create` as a file's `create`."""

    def __init__(self, *, capabilities: Capabilities | None = None) -> None:
        self.capabilities = capabilities or Capabilities()
        self.context: ChannelContext | None = None
        self.sent: list[SentMessage] = []
        """What people see, in the order it took effect."""
        self.attempts: Counter[str] = Counter()
        """How often each key was sent, whatever the outcome."""
        self.acknowledged: list[str] = []
        """Ids of the messages that the host accepted, once for each time."""
        self.typing_addresses: list[Address] = []
        self.connection_count = 0
        self.is_down = False
        self.rate_limited_after_s: float | None = None
        self.limited_chats: dict[str, float] = {}
        self.is_limit_channel_wide = False
        self.errors_by_attempt: dict[int, ChannelError] = {}
        self.should_hang_typing = False
        self.should_refuse = False
        self.credentials_revoked = False
        self.ambiguous_after_effect = 0
        self.ambiguous_without_effect = 0
        self._message_count = 0
        self._by_key: dict[str, SentMessage] = {}
        self._is_connected = False
        self._send_gate = asyncio.Event()
        self._send_gate.set()
        self._inbox: Inbox | None = None
        self._receive_failure: asyncio.Future[None] | None = None
        self._changed = asyncio.Condition()

    def create(self, context: ChannelContext) -> FakeChannel:
        """What a channel file's `create` is: remembers the context and returns this very object."""
        self.context = context
        return self

    # The people

    async def person_writes(
        self,
        text: str,
        *,
        chat: str = "c1",
        thread: str | None = None,
        message_id: str | None = None,
        group: bool = False,
        mentions: bool = False,
        sender: Sender = PERSON,
        timeout_s: float = HANG_TIMEOUT_S,
    ) -> Accepted:
        """Someone writes; returns what `accept` returned, or raises what it raised.

        The same `message_id` again is the platform delivering the same message again. Raises AssertionError when
        nobody receives for `timeout_s` seconds.
        """
        event = InboundEvent(
            platform_id=chat,
            platform_message_id=message_id or f"m{self._next_message_number()}",
            sender=sender,
            text=text,
            sent_at=datetime.now(UTC),
            thread_id=thread,
            is_group=group,
            mentions_bot=mentions,
            chat_name=chat,
        )
        return await self.emit_event(event, timeout_s=timeout_s)

    async def emit_event(self, event: InboundEvent, *, timeout_s: float = HANG_TIMEOUT_S) -> Accepted:
        """Anything else on the platform: an edit, a reaction, an event that makes no sense."""
        await self._wait(lambda: self._inbox is not None, "receive", timeout_s)
        assert self._inbox is not None
        accepted = await self._inbox.accept(event)
        self.acknowledged.append(event.platform_message_id)
        await self._notify()
        return accepted

    async def wait_for_sent(self, count: int, timeout_s: float = HANG_TIMEOUT_S) -> list[SentMessage]:
        """All that was sent, once that is at least `count`. Raises AssertionError after `timeout_s` seconds."""
        await self._wait(lambda: len(self.sent) >= count, f"send message {count}", timeout_s)
        return list(self.sent)

    async def wait_for_attempts(self, count: int, timeout_s: float = HANG_TIMEOUT_S) -> None:
        """Until `send` was called `count` times over all keys, whatever the outcome."""
        await self._wait(lambda: self.attempts.total() >= count, f"try {count} times", timeout_s)

    async def wait_for_typings(self, count: int, timeout_s: float = HANG_TIMEOUT_S) -> list[Address]:
        """Where typing was shown, once that is at least `count` times."""
        await self._wait(lambda: len(self.typing_addresses) >= count, f"show typing {count} times", timeout_s)
        return list(self.typing_addresses)

    async def wait_for_acknowledged(self, count: int, timeout_s: float = HANG_TIMEOUT_S) -> None:
        """Until `count` messages of people were accepted."""
        await self._wait(lambda: len(self.acknowledged) >= count, f"accept message {count}", timeout_s)

    # The platform's moods

    def hold(self) -> None:
        """Sends hang from now on, before they take effect."""
        self._send_gate.clear()

    def release(self) -> None:
        """Held sends go on."""
        self._send_gate.set()

    def fail_receive(self, error: Exception) -> None:
        """The running `receive` raises `error`; the host calls it again. Does nothing when nobody receives."""
        if self._receive_failure is not None and not self._receive_failure.done():
            self._receive_failure.set_exception(error)

    # The channel

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        self.connection_count += 1
        self._is_connected = True
        try:
            yield
        finally:
            self._is_connected = False

    async def receive(self, inbox: Inbox) -> None:
        self._receive_failure = asyncio.get_running_loop().create_future()
        self._inbox = inbox
        try:
            await self._notify()
            await self._receive_failure
        finally:
            self._inbox = None

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        self.attempts[idempotency_key] += 1
        await self._notify()
        await self._send_gate.wait()
        self._raise_configured_error(address)
        self._check_length(message)
        if (failure := self.errors_by_attempt.pop(self.attempts.total(), None)) is not None:
            raise failure
        if self.ambiguous_without_effect > 0:
            self.ambiguous_without_effect -= 1
            raise Ambiguous("the request was lost, or its answer was")
        shown = await self._deliver(address, message, idempotency_key)
        if self.ambiguous_after_effect > 0:
            self.ambiguous_after_effect -= 1
            raise Ambiguous("the request was lost, or its answer was")
        return Receipt(platform_message_ids=(f"fake-{shown.order}",))

    async def typing(self, address: Address) -> None:
        self.typing_addresses.append(address)
        await self._notify()
        if self.should_hang_typing:
            await asyncio.get_running_loop().create_future()

    def _check_length(self, message: OutboundText) -> None:
        limit = self.capabilities.text_limit
        if limit is not None and len(message.text) > limit:
            raise Refused(f"a message may have {limit} characters, and this one has {len(message.text)}")

    def _raise_configured_error(self, address: Address) -> None:
        if not self._is_connected:
            raise ChannelDown("the fake platform is not connected")
        if self.is_down:
            raise ChannelDown("the fake platform is down")
        if self.credentials_revoked:
            raise AuthFailed("the fake platform revoked the credentials")
        limit_s = self.limited_chats.get(address.platform_id, self.rate_limited_after_s)
        if limit_s is not None:
            whole = self.is_limit_channel_wide
            raise RateLimited("the fake platform is busy", retry_after_s=limit_s, whole_channel=whole)
        if self.should_refuse:
            raise Refused("the fake platform does not take this message")

    async def _deliver(self, address: Address, message: OutboundText, key: str) -> SentMessage:
        if self.capabilities.idempotent_send and key in self._by_key:
            return self._by_key[key]
        shown = SentMessage(
            address=address,
            text=message.text,
            agent=message.agent,
            is_failure=message.is_trouble,
            reply_to=message.reply_to,
            key=key,
            order=len(self.sent) + 1,
            plain=message.plain,
        )
        self.sent.append(shown)
        self._by_key[key] = shown
        await self._notify()
        return shown

    def _next_message_number(self) -> int:
        self._message_count += 1
        return self._message_count

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _wait(self, happened: Callable[[], bool], what: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(scaled_timeout(timeout_s)), self._changed:
                await self._changed.wait_for(happened)
        except TimeoutError:
            seen = [message.text[:80] for message in self.sent]
            raise AssertionError(
                f"after {timeout_s} s the host still does not {what}; tried: {dict(self.attempts)}, sent: {seen}"
            ) from None

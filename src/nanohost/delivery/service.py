"""The delivery stage: runs the collector and the sender."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from nanohost.chat_mover import MoveHandler, ignore_move
from nanohost.clock import Clock
from nanohost.db.database import Store
from nanohost.db.domain_events import (
    ChannelActive,
    ChannelConnected,
    DeliveryDecided,
    OutboxChanged,
    OutboxNeedsRead,
    QueueHasWork,
    QueueSending,
    SessionWorking,
)
from nanohost.delivery.budget import RateLimits
from nanohost.delivery.collector import Collector
from nanohost.delivery.late_failures import LateFailureHandler
from nanohost.delivery.outcome_writer import DeliveryProjection
from nanohost.delivery.sender import ChannelRegistry, Sender, send_timeout_s
from nanohost.delivery.typing_indicator import TypingIndicator
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.outbox_reader import OutboxReader
from nanohost.model import SessionId
from nanohost.work.event_bus import Subscription
from nanohost.work.fair_share import FairShare
from nanohost.work.keyed_workers import KeyedWorkers


class DeliveryService:
    """The delivery stage. One per host. The event bus notifies it of sessions and queues with work."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        channels: ChannelRegistry,
        hold_ambiguous: bool = False,
        rate_limits: RateLimits | None = None,
        fair_share: FairShare | None = None,
        timeout_s: Callable[[int], float] = send_timeout_s,
        on_chat_moved: MoveHandler = ignore_move,
        outbox: OutboxReader | None = None,
    ) -> None:
        """`hold_ambiguous`: hold messages that may have been sent until an operator decides; see Sender. `rate_limits`:
        how much of a session is recorded per hour. `fair_share` holds back a long queue. `timeout_s`: the time limit of
        one send by the size of its file. `on_chat_moved`: awaited when a chat has a new id. `outbox`: the reader that
        is shared with other stages."""
        self._bus = store.bus
        projection = DeliveryProjection(store=store, mailboxes=mailboxes, clock=clock)
        self._late_failures = LateFailureHandler(store=store, mailboxes=mailboxes, clock=clock, projection=projection)
        self._typing = TypingIndicator(store=store, mailboxes=mailboxes, clock=clock, channels=channels)
        self._sender = Sender(
            store=store,
            mailboxes=mailboxes,
            clock=clock,
            channels=channels,
            projection=projection,
            late_failures=self._late_failures,
            hold_ambiguous=hold_ambiguous,
            fair_share=fair_share,
            timeout_s=timeout_s,
            on_chat_moved=on_chat_moved,
        )
        self._collector = Collector(
            store=store,
            mailboxes=mailboxes,
            clock=clock,
            wait=lambda seconds: self._collector_workers.sleep(seconds),
            rate_limits=rate_limits,
            outbox=outbox,
        )
        self._collector_workers = KeyedWorkers[SessionId]("collecting", self._collector.collect, clock)

    async def record_late_failure(
        self, channel: tuple[str, str], *, key: str, platform_message_id: str, reason: str
    ) -> None:
        """Records that a platform failed to deliver an accepted message; see Inbox.failed_later. Raises StoreError."""
        await self._late_failures.record(channel, key=key, platform_message_id=platform_message_id, reason=reason)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Delivers while entered, beginning with unfinished deliveries. On leaving, running sends may finish."""
        async with (
            self._typing.opened(),
            self._sender.outbox_cleaner.opened(),
            self._sender.workers.opened(grace_s=10.0),
            self._collector_workers.opened(),
        ):
            with self._bus.subscribed(*self._subscriptions()):
                await self._sender.resume()
                yield

    def _subscriptions(self) -> tuple[Subscription[Any], ...]:
        return (
            Subscription(OutboxChanged, lambda event: self._collector_workers.notify(event.session)),
            Subscription(OutboxNeedsRead, lambda event: self._collector_workers.notify(event.session)),
            Subscription(QueueHasWork, lambda event: self._sender.workers.notify(event.queue)),
            Subscription(QueueSending, lambda event: self._typing.on_sending(event.queue)),
            Subscription(DeliveryDecided, lambda event: self._sender.on_decided(event.queue)),
            Subscription(SessionWorking, self._on_working),
            Subscription(ChannelConnected, lambda one: self._sender.on_channel_back(one.channel_type, one.instance)),
            Subscription(ChannelActive, lambda one: self._sender.on_channel_heard(one.channel_type, one.instance)),
        )

    def throttled(self) -> dict[SessionId, str]:
        """Returns the sessions that are over their budget, with the limit that each exceeds."""
        return self._collector.throttled()

    def pause_collecting(self) -> None:
        """Stops collecting while the disk is nearly full: rows stay in outbound.db until `resume_collecting`."""
        self._collector.pause()

    def resume_collecting(self) -> None:
        """Collects again when the disk has room."""
        for session in self._collector.resume():
            self._collector_workers.notify(session)

    async def resume(self) -> None:
        """Sends what waits after a pause. Raises StoreError."""
        await self._sender.notify_open_queues()

    def _on_working(self, event: SessionWorking) -> None:
        self._sender.on_working(event.session, is_working=bool(event.messages))
        self._typing.on_working(event.session, event.messages)

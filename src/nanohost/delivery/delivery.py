"""Delivery: what agents say, on its way to people. Puts the collector and the sender together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from nanohost.clock import Clock
from nanohost.delivery.budget import Rates
from nanohost.delivery.collector import Collector
from nanohost.delivery.late_failures import LateFailures
from nanohost.delivery.projection import Projection
from nanohost.delivery.sender import Channels, Sender, send_limit_s
from nanohost.delivery.typing import Typing
from nanohost.event_bus import Subscription
from nanohost.fair_share import FairShare
from nanohost.lanes import Lanes
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.outbox_reader import OutboxReader
from nanohost.model import SessionId
from nanohost.moving import Move, nobody_moves
from nanohost.store.database import Store
from nanohost.store.domain_events import (
    ChannelHeard,
    ChannelReached,
    DeliveryDecided,
    LaneHasWork,
    LaneSending,
    OutboxChanged,
    OutboxToRead,
    SessionWorking,
)


class Delivery:
    """One per host. It hears by the event bus which sessions and lanes have something for it."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        channels: Channels,
        ask: bool = False,
        rates: Rates | None = None,
        fair: FairShare | None = None,
        limit_s: Callable[[int], float] = send_limit_s,
        move: Move = nobody_moves,
        outbox: OutboxReader | None = None,
    ) -> None:
        """`ask`: what may have been sent waits for an operator's word; see Sender. `rates`: how much a session may have
        entered in an hour. `fair` holds back a long queue. `limit_s`: for one send, by the bytes of its file.
        `move`: a platform calls a chat otherwise. `outbox`: shared with others who read the same files."""
        self._bus = store.bus
        projection = Projection(store=store, mailboxes=mailboxes, clock=clock)
        self._late = LateFailures(store=store, mailboxes=mailboxes, clock=clock, projection=projection)
        self._typing = Typing(store=store, mailboxes=mailboxes, clock=clock, channels=channels)
        self._sender = Sender(
            store=store,
            mailboxes=mailboxes,
            clock=clock,
            channels=channels,
            projection=projection,
            late=self._late,
            ask=ask,
            fair=fair,
            limit_s=limit_s,
            move=move,
        )
        self._collector = Collector(
            store=store,
            mailboxes=mailboxes,
            clock=clock,
            pause=lambda seconds: self._collecting.nap(seconds),
            rates=rates,
            outbox=outbox,
        )
        self._collecting = Lanes[SessionId]("collecting", self._collector.collect, clock)

    async def failed_later(self, channel: tuple[str, str], *, key: str, platform_message_id: str, reason: str) -> None:
        """A platform gave up on what it had taken; see Inbox.failed_later. Raises StoreError."""
        await self._late.take(channel, key=key, platform_message_id=platform_message_id, reason=reason)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Deliver while entered, beginning with what was left; on leaving, sends under way may finish."""
        async with (
            self._typing.opened(),
            self._sender.removals.opened(),
            self._sender.lanes.opened(grace_s=10.0),
            self._collecting.opened(),
        ):
            with self._bus.subscribed(*self._subscriptions()):
                await self._sender.resume()
                yield

    def _subscriptions(self) -> tuple[Subscription[Any], ...]:
        return (
            Subscription(OutboxChanged, lambda event: self._collecting.poke(event.session)),
            Subscription(OutboxToRead, lambda event: self._collecting.poke(event.session)),
            Subscription(LaneHasWork, lambda event: self._sender.lanes.poke(event.lane)),
            Subscription(LaneSending, lambda event: self._typing.on_saying(event.lane)),
            Subscription(DeliveryDecided, lambda event: self._sender.decided(event.lane)),
            Subscription(SessionWorking, self._on_working),
            Subscription(ChannelReached, lambda one: self._sender.channel_is_back(one.channel_type, one.instance)),
            Subscription(ChannelHeard, lambda one: self._sender.heard(one.channel_type, one.instance)),
        )

    def slowed(self) -> dict[SessionId, str]:
        """The sessions that write more than they may, and what they have too much of."""
        return self._collector.slowed()

    def stop_taking(self) -> None:
        """The disk is nearly full: what agents say stays in their outbound.db until `take_again`."""
        self._collector.stop_taking()

    def take_again(self) -> None:
        """There is room again."""
        for session in self._collector.take_again():
            self._collecting.poke(session)

    async def go_on(self) -> None:
        """All was paused: send what waits. Raises StoreError."""
        await self._sender.go_on()

    def _on_working(self, event: SessionWorking) -> None:
        self._sender.on_working(event.session, works=bool(event.messages))
        self._typing.on_working(event.session, event.messages)

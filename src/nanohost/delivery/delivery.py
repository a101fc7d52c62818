"""Delivery: what agents say, on its way to people. Puts the collector and the sender together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

from nanohost.clock import Clock
from nanohost.delivery.budget import Rates
from nanohost.delivery.collector import Collector
from nanohost.delivery.late_failures import LateFailures
from nanohost.delivery.projection import Projection
from nanohost.delivery.sender import Channels, Sender, send_limit_s
from nanohost.delivery.typing import Typing
from nanohost.fair_share import FairShare
from nanohost.lanes import Lanes
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost.moving import Move, nobody_moves
from nanohost.store.database import Store
from nanohost.store.deliveries import Delivery as LedgerEntry
from nanohost.store.deliveries import LaneKey


class Delivery:
    """Told which sessions have news, it sees to the rest."""

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
        on_moved: Move = nobody_moves,
    ) -> None:
        """`ask`: what may have been sent waits for an operator's word; see Sender. `rates`: how much a session may have
        entered in an hour. `fair` holds back a long queue. `limit_s`: for one send, by the bytes of its file.
        `on_moved`: a platform calls a chat otherwise."""
        self._on_request: Callable[[SessionId], None] = lambda _: None
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
            on_saying=self._typing.on_saying,
            fair=fair,
            limit_s=limit_s,
            on_moved=on_moved,
        )
        self._collector = Collector(
            store=store,
            mailboxes=mailboxes,
            clock=clock,
            on_entry=self._sender.lanes.poke,
            on_request=lambda session: self._on_request(session),
            pause=lambda seconds: self._collecting.nap(seconds),
            rates=rates,
        )
        self._collecting = Lanes[SessionId]("collecting", self._collector.collect, clock)

    def tell(self, on_request: Callable[[SessionId], None]) -> None:
        """Call this for a session whose agent asked the host for something, after that is on record."""
        self._on_request = on_request

    def tell_failed(self, on_failed: Callable[[LedgerEntry], None]) -> None:
        """Call this for a message that its platform took and gave up on, after that is on record."""
        self._late.call(on_failed)

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
            await self._sender.resume()
            yield

    def on_news(self, session: SessionId) -> None:
        """The session's outbound.db may hold something new."""
        self._collecting.poke(session)

    def on_entry(self, lane: LaneKey) -> None:
        """The ledger got an entry from elsewhere: the lane looks again at once."""
        self._sender.lanes.poke(lane)

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

    def on_decision(self, lane: LaneKey) -> None:
        """An operator decided on an entry: the lane looks again at once, and does not wait for its platform."""
        self._sender.decided(lane)

    def on_working(self, session: SessionId, messages: Collection[str]) -> None:
        """The session's turn is over these messages; over none when it has ended. Those who wrote them see it."""
        self._sender.on_working(session, works=bool(messages))
        self._typing.on_working(session, messages)

    def on_reached(self, channel_type: str, instance: str) -> None:
        """Somebody can be reached by this channel: what waited for it is tried at once."""
        self._sender.channel_is_back(channel_type, instance)

    def on_sign_of_life(self, channel_type: str, instance: str) -> None:
        """Somebody wrote on this channel, so it is back: what waited for it is tried at once."""
        self._sender.heard(channel_type, instance)

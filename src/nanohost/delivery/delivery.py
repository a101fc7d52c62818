"""Delivery: what agents say, on its way to people. Puts the collector and the sender together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nanohost.clock import Clock
from nanohost.delivery.collector import Collector
from nanohost.delivery.projection import Projection
from nanohost.delivery.sender import Channels, Sender
from nanohost.lanes import Lanes
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost.store.database import Store
from nanohost.store.deliveries import LaneKey


class Delivery:
    """Told which sessions have news, it sees to the rest."""

    def __init__(
        self, *, store: Store, mailboxes: Mailboxes, clock: Clock, channels: Channels, ask: bool = False
    ) -> None:
        """`ask`: what may have been sent waits for an operator's word; see Sender."""
        projection = Projection(store=store, mailboxes=mailboxes, clock=clock)
        self._sender = Sender(
            store=store, mailboxes=mailboxes, clock=clock, channels=channels, projection=projection, ask=ask
        )
        collector = Collector(store=store, mailboxes=mailboxes, clock=clock, on_entry=self._sender.lanes.poke)
        self._collecting = Lanes[SessionId]("collecting", collector.collect, clock)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Deliver while entered, beginning with what was left; on leaving, sends under way may finish."""
        async with self._sender.lanes.opened(grace_s=10.0), self._collecting.opened():
            await self._sender.resume()
            yield

    def on_news(self, session: SessionId) -> None:
        """The session's outbound.db may hold something new."""
        self._collecting.poke(session)

    def on_entry(self, lane: LaneKey) -> None:
        """The ledger got an entry from elsewhere, or an operator decided on one: the lane looks again at once."""
        self._sender.lanes.poke(lane)

    def on_sign_of_life(self, channel_type: str, instance: str) -> None:
        """Somebody wrote on this channel, so it is back: what waited for it is tried at once."""
        self._sender.lanes.poke_napping(lambda lane: (lane.channel_type, lane.instance) == (channel_type, instance))

"""From the ledger to the platform.

Promises: intent is on disk before the channel is asked, the outcome after; one session's messages on one platform keep
their order, and nothing else waits for them. A message found `sending` without an outcome may have been sent: it is
sent again under the same idempotency key. Where the platform knows no such key and the operator wants to be asked, it
is held as unknown instead, and what comes after it goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

import structlog

from nanohost.channel_api import Address, Ambiguous, Channel, ChannelDown, ChannelError, OutboundText, Receipt
from nanohost.clock import Clock
from nanohost.delivery import files
from nanohost.delivery.outcome import failed, sent, unknown
from nanohost.delivery.projection import LATEST, Projection
from nanohost.delivery.render import render
from nanohost.lanes import Lanes, is_cancelled
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.store import deliveries, sessions
from nanohost.store.database import Store
from nanohost.store.deliveries import Delivery, DeliveryStatus, LaneKey, Outcome
from nanohost_protocol.crash_points import reach
from nanohost_protocol.ids import derive
from nanohost_protocol.rows import OutKind

SEND_LIMIT_S = 60.0
"""A channel that has not answered by then may have sent or not."""

Channels = Mapping[tuple[str, str], Channel]

_log = structlog.get_logger()


class Sender:
    """`channels` is looked up at each attempt by (channel type, instance): one may come and go.

    `ask`: hold what may have been sent until an operator decides, unless the platform knows a repeat by itself.
    """

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        channels: Channels,
        projection: Projection,
        ask: bool = False,
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._clock = clock
        self._channels = channels
        self._projection = projection
        self._ask = ask
        self.lanes = Lanes[LaneKey]("delivery", self._serve, clock)

    async def resume(self) -> None:
        """Go on with what the last host left open."""
        for lane in await deliveries.open_lanes(self._store):
            self.lanes.poke(lane)

    async def _serve(self, lane: LaneKey) -> None:
        to_tell, poked = 0, False
        while (delivery := await deliveries.next_in_lane(self._store, lane)) is not None:
            wait = (delivery.next_try_at - self._clock.now()).total_seconds() if delivery.next_try_at else 0.0
            if wait > 0 and not (poked and _waits_for_its_channel(delivery)):
                poked = not await self.lanes.light_nap(lane, wait)
                if poked and self.lanes.closing:
                    return
                if poked:
                    continue  # somebody may have decided on it, or its channel may be back
            poked = False
            await self._attempt(delivery)
            # What an operator sent again may be older than the latest few.
            to_tell = LATEST if delivery.tries_from else to_tell + 1
        if to_tell:
            await self._projection.refresh(lane.session_id, limit=to_tell)

    async def _attempt(self, delivery: Delivery) -> None:
        if delivery.status is DeliveryStatus.SENDING and not await self._close_cut_off(delivery):
            return
        async with self._store.transaction() as tx:
            if not await deliveries.begin(tx, delivery, self._clock.now()):
                return
        reach("sender.intended")
        outcome = await self._outcome(delivery)
        reach("sender.sent")
        async with self._store.transaction() as tx:
            await deliveries.end(tx, delivery, outcome, self._clock.now())
            reach("sender.open")
        reach("sender.settled")
        if outcome.status is not DeliveryStatus.SENT:
            _report(delivery, outcome, attempt=delivery.attempts + 1)

    async def _close_cut_off(self, delivery: Delivery) -> bool:
        """The last host was killed between asking the channel and writing down what it said. True: send it again."""
        outcome = Outcome(status=DeliveryStatus.PENDING, outcome=Ambiguous.reason, reason="sent again after a crash")
        if held := self._holds_ambiguous(delivery.lane):
            outcome = unknown(Ambiguous("the host ended before it knew the answer"))
            _report(delivery, outcome, attempt=delivery.attempts)
        async with self._store.transaction() as tx:
            await deliveries.end(tx, delivery, outcome, self._clock.now())
        return not held

    def _holds_ambiguous(self, lane: LaneKey) -> bool:
        """Of a channel that is not here nobody can say what its platform knows."""
        channel = self._channels.get((lane.channel_type, lane.instance))
        return self._ask and not (channel is not None and channel.capabilities.idempotent_send)

    async def _outcome(self, delivery: Delivery) -> Outcome:
        try:
            return sent(await self._send(delivery))
        except ChannelError as error:
            return await self._failed(delivery, error)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return await self._failed(delivery, Ambiguous("the channel cancelled the send by itself"))
        except Exception as error:
            _log.error("channel_broke_its_promise", channel=delivery.lane.channel_type, exc_info=error)
            return await self._failed(delivery, Ambiguous(f"the channel failed in a way it should not: {error}"))

    async def _failed(self, delivery: Delivery, error: ChannelError) -> Outcome:
        tries = await deliveries.tries(self._store, delivery)
        return failed(
            error,
            attempts=delivery.attempts + 1 - delivery.tries_from,
            tries=tries,
            now=self._clock.now(),
            hold_ambiguous=self._holds_ambiguous(delivery.lane),
        )

    async def _send(self, delivery: Delivery) -> Receipt:
        lane = delivery.lane
        channel = self._channels.get((lane.channel_type, lane.instance))
        if channel is None:
            raise ChannelDown(f"there is no channel {lane.channel_type}:{lane.instance} in this host")
        text = await self._text(delivery)
        try:
            async with asyncio.timeout(SEND_LIMIT_S):
                return await channel.send(
                    Address(platform_id=delivery.platform_id, thread_id=delivery.thread_id),
                    OutboundText(text=text, reply_to=delivery.reply_to),
                    idempotency_key=derive("k", lane.session_id, delivery.out_id),
                )
        except TimeoutError:
            raise Ambiguous(f"{lane.channel_type} did not answer within {SEND_LIMIT_S:.0f} s") from None

    async def _text(self, delivery: Delivery) -> str:
        if delivery.kind == OutKind.FILE:
            layout = self._mailboxes.layout(await sessions.get(self._store, delivery.lane.session_id))
            about_file = partial(files.in_words, layout, delivery.out_id)
            text = await asyncio.to_thread(render, delivery.kind, delivery.content, about_file)
        else:
            text = render(delivery.kind, delivery.content)
        assert text is not None, "rows without words do not enter the ledger as pending"
        return text


def _report(delivery: Delivery, outcome: Outcome, *, attempt: int) -> None:
    _log.warning(
        "not_delivered",
        session=delivery.lane.session_id,
        channel=delivery.lane.channel_type,
        message=delivery.out_id,
        attempt=attempt,
        status=outcome.status,
        reason=outcome.reason,
    )


def _waits_for_its_channel(delivery: Delivery) -> bool:
    """It was not sent because nobody was there: asking too early costs nothing, waiting keeps a person waiting."""
    return (delivery.reason or "").startswith(f"{ChannelDown.reason}:")

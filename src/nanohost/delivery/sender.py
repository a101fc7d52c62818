"""From the ledger to the platform.

Promises: intent is on disk before the channel is asked, the outcome after; one session's messages in one chat keep
their order, and nothing else waits for them. A message found `sending` that nobody here is sending may have been sent:
it is sent again under the same idempotency key. Where the platform knows no such key and the operator wants to be
asked, it is held as unknown instead, and what comes after it goes on. A message longer than its platform takes goes out
part by part, an attempt each, and goes on at the first part that is not sent, whatever came between.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from nanohost.channel_api import (
    SLOWEST_UPLOAD,
    Address,
    Ambiguous,
    AuthFailed,
    Channel,
    ChannelDown,
    ChannelError,
    Edits,
    FindsSent,
    NotSent,
    RateLimited,
    Receipt,
    Refused,
)
from nanohost.clock import Clock
from nanohost.delivery.health import Health
from nanohost.delivery.kinds import Kinds
from nanohost.delivery.late_failures import LateFailures
from nanohost.delivery.outcome import failed, left_off, sent, unknown, waits_for_its_channel
from nanohost.delivery.pacing import Pacing
from nanohost.delivery.projection import LATEST, Projection
from nanohost.delivery.removals import Removals
from nanohost.fair_share import FairShare
from nanohost.lanes import Lanes, OneAtATime, is_cancelled
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost.moving import Move, nobody_moves
from nanohost.store import deliveries, late_failures, messaging_groups, moved_chats
from nanohost.store.database import Store, Transaction
from nanohost.store.deliveries import Delivery, DeliveryStatus, LaneKey, Outcome, StoredPart
from nanohost.store.domain_events import LaneSending
from nanohost_protocol.crash_points import reach
from nanohost_protocol.ids import derive
from nanohost_protocol.rows import OutKind

SEND_LIMIT_S = 60.0
"""A channel that has not answered by then may have sent or not. A file has the time of its upload besides."""
BACKLOG = 16
"""Messages that a lane sends in one go before others come first; see FairShare."""
OF_OURS_S = 0.02
"""The most that a message costs this process; the rest of the time it waits for the platform."""
TURN_PAUSE = timedelta(seconds=2)
"""How often it is looked whether a turn is over that only then tells what is to be sent."""

_ON_TOP = (OutKind.EDIT, OutKind.REACTION)
"""Nothing that a person waits for is missing without them."""
Channels = Mapping[tuple[str, str], Channel]


def send_limit_s(size: int) -> float:
    """For one send. `size`: bytes of the file that goes with it."""
    return SEND_LIMIT_S + size / SLOWEST_UPLOAD


_log = structlog.get_logger()


class Sender:
    """`channels` is looked up at each attempt by (channel type, instance): one may come and go.

    `ask`: hold what may have been sent until an operator decides, unless the platform knows a repeat by itself.
    `move` is awaited for a chat that the platform calls otherwise now. `limit_s`: for one send, by the bytes of its
    file. Publishes LaneSending for a lane when something is about to be sent, and again when the platform has it.
    """

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        channels: Channels,
        projection: Projection,
        late: LateFailures,
        ask: bool = False,
        fair: FairShare | None = None,
        limit_s: Callable[[int], float] = send_limit_s,
        move: Move = nobody_moves,
    ) -> None:
        self._limit_s = limit_s
        self._store = store
        self._clock = clock
        self._move = move
        self._channels = channels
        self._projection = projection
        self._late = late
        self._ask = ask
        self._fair = fair or FairShare()
        self._pacing = Pacing(clock)
        self._health = Health()
        self.removals = Removals(clock)
        self._kinds = Kinds(store, mailboxes, self.removals)
        self._working: set[SessionId] = set()
        self._without_channel: dict[tuple[str, str], set[LaneKey]] = defaultdict(set)
        """The lanes that wait for a channel."""
        self._attempting = OneAtATime[tuple[SessionId, int]]()
        self.lanes = Lanes[LaneKey]("delivery", self._serve, clock)

    def on_working(self, session: SessionId, *, works: bool) -> None:
        """Whether a turn of this session runs."""
        if works:
            self._working.add(session)
        else:
            self._working.discard(session)

    async def resume(self) -> None:
        """Go on with what the last host left open. Raises StoreError."""
        await self._kinds.tidy()
        await self._late.tell()
        await self.go_on()

    async def go_on(self) -> None:
        """Look at every lane that has something to send. Raises StoreError."""
        for lane in await deliveries.open_lanes(self._store):
            self.lanes.poke(lane)

    def heard(self, channel_type: str, instance: str) -> None:
        """Somebody wrote on this channel."""
        self._health.heard((channel_type, instance), self._clock.monotonic())
        self.channel_is_back(channel_type, instance)

    def channel_is_back(self, channel_type: str, instance: str) -> None:
        """Those who wait for it look again. Others, who may be many, do not: every message of a person says so."""
        for lane in list(self._without_channel.get((channel_type, instance), ())):
            self.lanes.poke(lane)

    def decided(self, lane: LaneKey) -> None:
        """An operator decided on a message of this lane: the lane looks again, and tries at once what it finds."""
        self._pacing.lift(lane)
        self.lanes.hurry(lane)

    async def _serve(self, lane: LaneKey) -> None:
        if (chat := await moved_chats.current(self._store, lane.chat)) != lane.chat:
            self.lanes.poke(replace(lane, platform_id=chat.platform_id))  # what is entered for it goes there
        else:
            await self._send_all(lane)

    async def _send_all(self, lane: LaneKey) -> None:
        to_tell, poked, has_turn, in_one_go = 0, False, False, 0
        while True:
            delivery = await deliveries.next_in_lane(self._store, lane, self._clock.now())
            if delivery is None:
                if not await self._rest(lane, to_tell):
                    return
                to_tell = in_one_go = 0
                continue
            wait = (delivery.next_try_at - self._clock.now()).total_seconds() if delivery.next_try_at else 0.0
            if wait > 0 and not (poked and waits_for_its_channel(delivery.reason)):
                poked = not await self._nap(delivery, wait)
                if poked and self.lanes.closing:
                    return
                if poked:
                    continue  # somebody may have decided on it, or its channel may be back
            poked = False
            if await self._leave_out(delivery):
                to_tell += 1
                continue
            if not has_turn and not await self._may_send(lane):
                return
            # What came meanwhile may have made an edit needless; its turn is then the next one's.
            if has_turn := delivery.kind == OutKind.EDIT and await self._leave_out(delivery):
                to_tell += 1
                continue
            in_one_go += 1
            await self._attempt_in_turn(delivery, in_one_go)
            # What an operator sent again may be older than the latest few.
            to_tell = LATEST if delivery.tries_from else to_tell + 1

    async def _nap(self, delivery: Delivery, seconds: float) -> bool:
        """Wait until it is tried again. False: look again at what there is to do."""
        lane = delivery.lane
        waiting = self._without_channel[lane.channel_type, lane.instance]
        if waits_for_its_channel(delivery.reason):
            waiting.add(lane)
        try:
            return await self.lanes.light_nap(lane, seconds)
        finally:
            waiting.discard(lane)

    async def _attempt_in_turn(self, delivery: Delivery, in_one_go: int) -> None:
        began = time.monotonic()
        await self._attempt(delivery)
        self._pacing.answered(delivery.lane)
        if in_one_go >= BACKLOG:
            await self._fair.give_way(delivery.lane.chat, min(time.monotonic() - began, OF_OURS_S))

    async def _leave_out(self, delivery: Delivery) -> bool:
        """Whether it is not to be sent any more, or not before the turn is over: what comes after it goes on."""
        channel = self._channel(delivery.lane)
        if channel is None or delivery.status is not DeliveryStatus.PENDING or delivery.kind == OutKind.CHAT:
            return False
        now = self._clock.now()
        reason = await self._kinds.left_out(delivery, channel)
        if reason is not None:
            async with self._store.transaction() as tx:
                await deliveries.leave_out(tx, delivery, reason, now)
            return True
        if delivery.lane.session_id in self._working and self._kinds.waits_for_the_end(delivery, channel):
            async with self._store.transaction() as tx:
                await deliveries.postpone(tx, delivery, now + TURN_PAUSE)
            return True
        return False

    async def _rest(self, lane: LaneKey, to_tell: int) -> bool:
        """Nothing is to be sent now: tell the runner what was. False: nothing is to be sent later, either."""
        if to_tell:
            await self._projection.refresh(lane.session_id, limit=to_tell)
        later = await deliveries.lane_goes_on(self._store, lane)
        if later is None:
            return False
        await self.lanes.light_nap(lane, (later - self._clock.now()).total_seconds())
        return not self.lanes.closing

    async def _may_send(self, lane: LaneKey) -> bool:
        """Wait for the chat's turn. False: the host is closing."""
        channel = self._channel(lane)
        if channel is None:
            return True
        pace = channel.capabilities.pace
        is_group = pace.a_minute_in_a_group is not None and await self._is_group(lane)
        return await self._pacing.turn(lane, pace, is_group=is_group, nap=self.lanes.nap)

    async def _is_group(self, lane: LaneKey) -> bool:
        chat = await messaging_groups.find(
            self._store, channel_type=lane.channel_type, instance=lane.instance, platform_id=lane.platform_id
        )
        return chat is not None and chat.is_group

    def _channel(self, lane: LaneKey) -> Channel | None:
        return self._channels.get((lane.channel_type, lane.instance))

    async def _attempt(self, delivery: Delivery) -> None:
        """If it stands otherwise by now, nothing is done: it is to be looked at again. A chat that moves takes along
        what is being sent, and the lane of its new name waits for how that ends."""
        session, seq = delivery.lane.session_id, delivery.seq
        async with self._attempting.turn((session, seq)):
            if await deliveries.find(self._store, session, seq) == delivery:
                await self._attempt_alone(delivery)

    async def _attempt_alone(self, delivery: Delivery) -> None:
        if delivery.status is DeliveryStatus.SENDING and not await self._close_cut_off(delivery):
            return
        part, *others = await self._parts(delivery)
        async with self._store.transaction() as tx:
            if not await deliveries.begin(tx, delivery, self._clock.now()):
                return
            if others:
                await deliveries.add_parts(tx, delivery, [part, *others])
            if self._fails_later(delivery.lane):
                await late_failures.expect(tx, delivery, _key(delivery, part))
        reach("sender.intended")
        self._store.bus.publish(LaneSending(delivery.lane))
        answer = await self._answer(delivery, part)
        reach("sender.sent")
        async with self._store.transaction() as tx:
            is_given_up = await self._end(tx, delivery, part, answer)
            reach("sender.open")
        reach("sender.settled")
        if is_given_up:
            await self._late.tell()
        works = isinstance(answer, Receipt) or answer.platform_refused
        if works and self._health.passed(delivery.lane):
            self.channel_is_back(delivery.lane.channel_type, delivery.lane.instance)
        _say(delivery, part, answer)
        if isinstance(answer, Receipt) and part.is_last:
            await self._kinds.sent(delivery, self._channel(delivery.lane))
        if isinstance(answer, Outcome):
            _report(delivery, answer, attempt=delivery.attempts + 1)
            if answer.moved_to is not None:
                await self._move(delivery.lane.chat, answer.moved_to)

    async def _parts(self, delivery: Delivery) -> Sequence[StoredPart]:
        """What is to be sent next, first: a part on record alone, or all of a message that was not cut so far."""
        if delivery.attempts and (part := await deliveries.next_part(self._store, delivery)) is not None:
            return [part]
        return await self._kinds.parts(delivery, self._channel(delivery.lane))

    def _fails_later(self, lane: LaneKey) -> bool:
        channel = self._channel(lane)
        return channel is not None and channel.capabilities.fails_later

    async def _end(self, tx: Transaction, delivery: Delivery, part: StoredPart, answer: Receipt | Outcome) -> bool:
        """True: it is given up, before it was taken or in the meantime, and its agent is to be told."""
        now = self._clock.now()
        match answer:
            case Outcome():
                await deliveries.end(tx, delivery, answer, now)
                if answer.thread_gone:
                    await deliveries.leave_thread(tx, delivery)
                if answer.status is DeliveryStatus.DEAD and delivery.is_agents and delivery.kind not in _ON_TOP:
                    await late_failures.add_not_taken(tx, delivery, answer.error or "", now)
                    return True
            case Receipt() if part.of == 1:
                await deliveries.end(tx, delivery, sent(answer), now)
            case Receipt():
                await deliveries.end_part(tx, delivery, part, answer.platform_message_ids, now)
        lane = delivery.lane
        return self._fails_later(lane) and await late_failures.settle(tx, lane.session_id, delivery.seq, now)

    async def _close_cut_off(self, delivery: Delivery) -> bool:
        """The last host was killed between asking the channel and writing down what it said. True: send it again."""
        outcome = Outcome(status=DeliveryStatus.PENDING, outcome=Ambiguous.reason, reason="sent again after a crash")
        if held := self._holds_ambiguous(delivery):
            outcome = unknown(Ambiguous("the host ended before it knew the answer"))
            _report(delivery, outcome, attempt=delivery.attempts)
        async with self._store.transaction() as tx:
            await deliveries.end(tx, delivery, outcome, self._clock.now())
        return not held

    def _holds_ambiguous(self, delivery: Delivery) -> bool:
        """Of a channel that is not here nobody can say what its platform knows. To edit or react twice is harmless."""
        channel = self._channel(delivery.lane)
        if delivery.kind == OutKind.REACTION or (delivery.kind == OutKind.EDIT and isinstance(channel, Edits)):
            return False
        can_tell = channel is not None and (channel.capabilities.idempotent_send or isinstance(channel, FindsSent))
        return self._ask and not can_tell

    async def _answer(self, delivery: Delivery, part: StoredPart) -> Receipt | Outcome:
        """The platform has it, or what becomes of it otherwise."""
        try:
            return await self._send(delivery, part)
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
        if isinstance(error, Refused) and delivery.kind in _ON_TOP:
            self._health.settled(delivery.lane)
            return left_off(error)
        tries = await deliveries.tries(self._store, delivery)
        now = self._clock.now()
        outcome = failed(
            error,
            attempts=delivery.attempts + 1 - delivery.tries_from,
            tries=tries,
            now=now,
            hold_ambiguous=self._holds_ambiguous(delivery),
            platform_failures=self._health.failed(delivery.lane, self._clock.monotonic()) if error.server_error else 0,
        )
        if outcome.status is not DeliveryStatus.PENDING:
            self._health.settled(delivery.lane)
        if isinstance(error, RateLimited) and outcome.next_try_at is not None:
            pause_s = (outcome.next_try_at - now).total_seconds()
            self._pacing.pause(delivery.lane, pause_s, whole_channel=error.whole_channel)
        return outcome

    async def _send(self, delivery: Delivery, part: StoredPart) -> Receipt:
        lane = delivery.lane
        channel = self._channel(lane)
        if channel is None:
            raise ChannelDown(f"there is no channel {lane.channel_type}:{lane.instance} in this host")
        key = _key(delivery, part)
        limit_s = self._limit_s(await self._kinds.file_bytes(delivery, channel))
        try:
            async with asyncio.timeout(limit_s):
                receipt = await self._found(delivery, channel, key)
                if receipt is None:
                    receipt = await self._kinds.send(channel, delivery, part, key)
        except TimeoutError:
            raise Ambiguous(f"{lane.channel_type} did not answer within {limit_s:.0f} s") from None
        self._store.bus.publish(LaneSending(lane))
        return receipt

    async def _found(self, delivery: Delivery, channel: Channel, key: str) -> Receipt | None:
        """What the platform has of an earlier attempt. Raises NotSent while it cannot be asked."""
        if not isinstance(channel, FindsSent) or not await deliveries.may_be_sent(self._store, delivery):
            return None
        address = Address(platform_id=delivery.platform_id, thread_id=delivery.thread_id)
        try:
            return await channel.find_sent(address, idempotency_key=key)
        except (NotSent, AuthFailed):
            raise
        except ChannelError as error:
            raise NotSent(f"it cannot be found out whether it was sent: {error}") from error


def _key(delivery: Delivery, part: StoredPart) -> str:
    """What the platform is to know a repeat by."""
    return derive("k", delivery.lane.session_id, delivery.out_id, *([str(part.number)] if part.number else []))


def _say(delivery: Delivery, part: StoredPart, answer: Receipt | Outcome) -> None:
    if not isinstance(answer, Receipt):
        return
    lane = delivery.lane
    _log.info(
        "message_sent" if part.is_last else "part_sent",
        session=lane.session_id,
        seq=delivery.seq,
        kind=delivery.kind,
        channel=lane.channel_type,
        chat=delivery.platform_id,
        attempt=delivery.attempts + 1,
    )
    _log.debug("message_sent", session=lane.session_id, seq=delivery.seq, text=part.text)


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

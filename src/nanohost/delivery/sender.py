"""Sends the entries of the ledger to the platforms.

Promises: the intent is committed before the channel is called, the outcome after it. Messages of one session in one
chat keep their order, and nothing else waits for them. A message that a killed host left in `sending` may have been
sent: it is sent again under the same idempotency key. If the platform has no such keys and the setting says so, it is
held as unknown instead, and later messages are sent. A message too long for its platform is sent in parts, one attempt
each, and continues with the first part that is not sent.
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
from nanohost.chat_mover import MoveHandler, ignore_move
from nanohost.clock import Clock
from nanohost.db import deliveries, late_failures, messaging_groups, moved_chats
from nanohost.db.database import Store, Transaction
from nanohost.db.deliveries import AttemptOutcome, Delivery, DeliveryPart, DeliveryQueueKey, DeliveryStatus
from nanohost.db.domain_events import QueueSending
from nanohost.delivery.channel_health import ChannelHealth
from nanohost.delivery.kind_handlers import KindHandlers
from nanohost.delivery.late_failures import LateFailureHandler
from nanohost.delivery.outbox_cleaner import OutboxCleaner
from nanohost.delivery.outcome import (
    dropped_outcome,
    failure_outcome,
    is_waiting_for_channel,
    sent_outcome,
    unknown_outcome,
)
from nanohost.delivery.outcome_writer import MAX_PROJECTED, DeliveryProjection
from nanohost.delivery.rate_limiter import RateLimiter
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost.work.fair_share import FairShare
from nanohost.work.keyed_workers import KeyedLock, KeyedWorkers, is_cancelled
from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.ids import derive_id
from nanohost_protocol.rows import OutKind

SEND_TIMEOUT_S = 60.0
"""Seconds. If a channel has not answered by then, the message may or may not be sent. A file gets its upload time on
top."""
MAX_BURST = 16
"""Messages that a queue sends in a row before it yields to others; see FairShare."""
MAX_PROCESS_TIME_S = 0.02
"""Seconds of this process's time that a message is charged at most; the rest of its time is waiting."""
TURN_POLL_INTERVAL = timedelta(seconds=2)
"""How often to check whether a turn has ended, for edits that wait for it."""

_SUPPLEMENTARY_KINDS = (OutKind.EDIT, OutKind.REACTION)
"""Kinds that no person waits for."""
ChannelRegistry = Mapping[tuple[str, str], Channel]


def send_timeout_s(size_bytes: int) -> float:
    """Returns the time limit of one send. `size_bytes`: the size of its file."""
    return SEND_TIMEOUT_S + size_bytes / SLOWEST_UPLOAD


_log = structlog.get_logger()


class Sender:
    """Sends deliveries, queue by queue. Publishes QueueSending before a send, and again when the platform has it.

    `channels` is looked up at each attempt by (channel type, instance): a channel may connect and disconnect.
    `hold_ambiguous`: hold a message that may have been sent until an operator decides, unless the platform recognizes
    a repetition. `on_chat_moved` is awaited when a platform reports a new id of a chat. `timeout_s`: the time limit of
    one send by the size of its file.
    """

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes,
        clock: Clock,
        channels: ChannelRegistry,
        projection: DeliveryProjection,
        late_failures: LateFailureHandler,
        hold_ambiguous: bool = False,
        fair_share: FairShare | None = None,
        timeout_s: Callable[[int], float] = send_timeout_s,
        on_chat_moved: MoveHandler = ignore_move,
    ) -> None:
        self._timeout_s = timeout_s
        self._store = store
        self._clock = clock
        self._on_chat_moved = on_chat_moved
        self._channels = channels
        self._projection = projection
        self._late_failures = late_failures
        self._hold_ambiguous = hold_ambiguous
        self._fair_share = fair_share or FairShare()
        self._rate_limiter = RateLimiter(clock)
        self._channel_health = ChannelHealth()
        self.outbox_cleaner = OutboxCleaner(clock)
        self._kind_handlers = KindHandlers(store, mailboxes, self.outbox_cleaner)
        self._working_sessions: set[SessionId] = set()
        self._waiting_for_channel: dict[tuple[str, str], set[DeliveryQueueKey]] = defaultdict(set)
        """The queues that wait for a channel to connect."""
        self._attempt_locks = KeyedLock[tuple[SessionId, int]]()
        self.workers = KeyedWorkers[DeliveryQueueKey]("delivery", self._process, clock)

    def on_working(self, session: SessionId, *, is_working: bool) -> None:
        """Records whether a turn of this session is running."""
        if is_working:
            self._working_sessions.add(session)
        else:
            self._working_sessions.discard(session)

    async def resume(self) -> None:
        """Resumes deliveries that the last host left unfinished. Raises StoreError."""
        await self._kind_handlers.clean_up_copies()
        await self._late_failures.notify_pending()
        await self.notify_open_queues()

    async def notify_open_queues(self) -> None:
        """Notifies every queue that has something to send. Raises StoreError."""
        for queue in await deliveries.list_open_queues(self._store):
            self.workers.notify(queue)

    def on_channel_heard(self, channel_type: str, instance: str) -> None:
        """Records that an event arrived on this channel, and notifies queues that wait for it."""
        self._channel_health.record_inbound((channel_type, instance), self._clock.monotonic())
        self.on_channel_back(channel_type, instance)

    def on_channel_back(self, channel_type: str, instance: str) -> None:
        """Notifies the queues that wait for this channel. Not all queues: this is called for every inbound event."""
        for queue in list(self._waiting_for_channel.get((channel_type, instance), ())):
            self.workers.notify(queue)

    def on_decided(self, queue: DeliveryQueueKey) -> None:
        """Wakes the queue to send at once, because an operator decided on one of its messages."""
        self._rate_limiter.reset(queue)
        self.workers.notify_now(queue)

    async def _process(self, queue: DeliveryQueueKey) -> None:
        unprojected, is_notified, has_turn, burst_count, is_empty = 0, False, False, 0, False
        while True:
            delivery = None if is_empty else await deliveries.next_in_queue(self._store, queue, self._clock.now())
            if delivery is None:
                if not await self._wait_for_scheduled(queue, unprojected, is_empty=is_empty):
                    return
                unprojected = burst_count = 0
                continue
            wait = (delivery.next_attempt_at - self._clock.now()).total_seconds() if delivery.next_attempt_at else 0.0
            if wait > 0 and not (is_notified and is_waiting_for_channel(delivery.reason)):
                is_notified = not await self._wait_for_retry(delivery, wait)
                if is_notified and self.workers.is_closing:
                    return
                if is_notified:
                    continue  # an operator may have decided on it, or its channel may be connected again
            is_notified = False
            if await self._skip_or_postpone(delivery):
                unprojected += 1
                continue
            if not has_turn and not await self._acquire_send_slot(queue):
                return
            # A newer message may have made an edit needless; then the next delivery uses the slot.
            if has_turn := delivery.kind == OutKind.EDIT and await self._skip_or_postpone(delivery):
                unprojected += 1
                continue
            burst_count += 1
            is_sent = await self._attempt_fairly(delivery, burst_count)
            # A message that an operator resent may be older than the latest few.
            unprojected = MAX_PROJECTED if delivery.attempts_before_resend else unprojected + 1
            is_empty = is_sent and delivery.is_last_in_queue  # what is entered after that look notifies this worker

    async def _wait_for_retry(self, delivery: Delivery, seconds: float) -> bool:
        """Waits until the next attempt. Returns False if the queue was notified: the caller reads it again."""
        queue = delivery.queue
        waiting = self._waiting_for_channel[queue.channel_type, queue.instance]
        if is_waiting_for_channel(delivery.reason):
            waiting.add(queue)
        try:
            return await self.workers.wait(queue, seconds)
        finally:
            waiting.discard(queue)

    async def _attempt_fairly(self, delivery: Delivery, burst_count: int) -> bool:
        """Whether the platform has all of it."""
        began = time.monotonic()
        is_sent = await self._attempt(delivery)
        self._rate_limiter.record_response(delivery.queue)
        if burst_count >= MAX_BURST:
            await self._fair_share.yield_to_others(
                delivery.queue.chat, min(time.monotonic() - began, MAX_PROCESS_TIME_S)
            )
        return is_sent

    async def _skip_or_postpone(self, delivery: Delivery) -> bool:
        """Returns whether it was skipped, or postponed until the turn ends: later deliveries are sent."""
        channel = self._find_channel(delivery.queue)
        if channel is None or delivery.status is not DeliveryStatus.PENDING or delivery.kind == OutKind.CHAT:
            return False
        now = self._clock.now()
        reason = await self._kind_handlers.skip_reason(delivery, channel)
        if reason is not None:
            async with self._store.transaction() as tx:
                await deliveries.skip(tx, delivery, reason, now)
            return True
        if delivery.queue.session_id in self._working_sessions and self._kind_handlers.waits_for_turn_end(
            delivery, channel
        ):
            async with self._store.transaction() as tx:
                await deliveries.postpone(tx, delivery, now + TURN_POLL_INTERVAL)
            return True
        return False

    async def _wait_for_scheduled(self, queue: DeliveryQueueKey, unprojected: int, *, is_empty: bool) -> bool:
        """Writes the projection, then waits for the next scheduled delivery. Returns False if there is none.
        `is_empty`: that is known."""
        if unprojected:
            await self._projection.refresh(queue.session_id, limit=unprojected)
        if is_empty:
            return False
        later = await deliveries.next_scheduled_at(self._store, queue)
        if later is None:
            await self._follow_moved_chat(queue)
            return False
        await self.workers.wait(queue, (later - self._clock.now()).total_seconds())
        return not self.workers.is_closing

    async def _follow_moved_chat(self, queue: DeliveryQueueKey) -> None:
        """What is entered for a chat that has moved is in the queue of the chat that it has become: look there."""
        chat = await moved_chats.current_chat(self._store, queue.chat)
        if chat != queue.chat:
            self.workers.notify(replace(queue, platform_id=chat.platform_id))

    async def _acquire_send_slot(self, queue: DeliveryQueueKey) -> bool:
        """Waits until the rate limits allow a send to the chat. Returns False if the host is closing."""
        channel = self._find_channel(queue)
        if channel is None:
            return True
        pace = channel.capabilities.pace
        is_group = pace.a_minute_in_a_group is not None and await self._is_group(queue)
        return await self._rate_limiter.acquire(queue, pace, is_group=is_group, sleep=self.workers.sleep)

    async def _is_group(self, queue: DeliveryQueueKey) -> bool:
        chat = await messaging_groups.find(
            self._store, channel_type=queue.channel_type, instance=queue.instance, platform_id=queue.platform_id
        )
        return chat is not None and chat.is_group

    def _find_channel(self, queue: DeliveryQueueKey) -> Channel | None:
        return self._channels.get((queue.channel_type, queue.instance))

    async def _attempt(self, delivery: Delivery) -> bool:
        """Makes one attempt. Returns whether the platform has all of it. Does nothing if the delivery has changed: the
        caller reads the queue again.

        If the chat moves during the send, the queue of its new id waits for the outcome.
        """
        session, seq = delivery.queue.session_id, delivery.seq
        async with self._attempt_locks.hold((session, seq)):
            if delivery.status is DeliveryStatus.SENDING:
                if await deliveries.find(self._store, session, seq) != delivery:
                    return False
                if not await self._resolve_interrupted_send(delivery):
                    return False
            return await self._attempt_locked(delivery)

    async def _attempt_locked(self, delivery: Delivery) -> bool:
        part, *others = await self._next_parts(delivery)
        async with self._store.transaction() as tx:
            if not await deliveries.begin_attempt(tx, delivery, self._clock.now()):
                return False
            if others:
                await deliveries.add_parts(tx, delivery, [part, *others])
            if self._can_fail_later(delivery.queue):
                await late_failures.record_idempotency_key(tx, delivery, _idempotency_key(delivery, part))
        crash_point("sender.intended")
        self._store.bus.publish(QueueSending(delivery.queue))
        answer = await self._send_or_outcome(delivery, part)
        crash_point("sender.sent")
        async with self._store.transaction() as tx:
            is_given_up = await self._record_outcome(tx, delivery, part, answer)
            crash_point("sender.open")
        crash_point("sender.settled")
        if is_given_up:
            await self._late_failures.notify_pending()
        works = isinstance(answer, Receipt) or answer.is_refused_by_platform
        if works and self._channel_health.passed(delivery.queue):
            self.on_channel_back(delivery.queue.channel_type, delivery.queue.instance)
        _log_sent(delivery, part, answer)
        if isinstance(answer, Receipt) and part.is_last:
            await self._kind_handlers.on_sent(delivery, self._find_channel(delivery.queue))
        if isinstance(answer, AttemptOutcome):
            _log_failure(delivery, answer, attempt=delivery.attempts + 1)
            if answer.moved_to is not None:
                await self._on_chat_moved(delivery.queue.chat, answer.moved_to)
        return isinstance(answer, Receipt) and part.is_last

    async def _next_parts(self, delivery: Delivery) -> Sequence[DeliveryPart]:
        """Returns the parts to send: the recorded next part, or all parts of a message not yet split."""
        if delivery.attempts and (part := await deliveries.next_part(self._store, delivery)) is not None:
            return [part]
        return await self._kind_handlers.render_parts(delivery, self._find_channel(delivery.queue))

    def _can_fail_later(self, queue: DeliveryQueueKey) -> bool:
        channel = self._find_channel(queue)
        return channel is not None and channel.capabilities.fails_later

    async def _record_outcome(
        self, tx: Transaction, delivery: Delivery, part: DeliveryPart, result: Receipt | AttemptOutcome
    ) -> bool:
        """Records the outcome. Returns whether the delivery has failed for good, and its agent is to be told."""
        now = self._clock.now()
        match result:
            case AttemptOutcome():
                await deliveries.end_attempt(tx, delivery, result, now)
                if result.is_thread_gone:
                    await deliveries.detach_from_thread(tx, delivery)
                if (
                    result.status is DeliveryStatus.DEAD
                    and delivery.is_from_agent
                    and delivery.kind not in _SUPPLEMENTARY_KINDS
                ):
                    await late_failures.add_not_accepted(tx, delivery, result.error or "", now)
                    return True
            case Receipt() if part.of == 1:
                await deliveries.end_attempt(tx, delivery, sent_outcome(result), now)
            case Receipt():
                await deliveries.end_part(tx, delivery, part, result.platform_message_ids, now)
        queue = delivery.queue
        return self._can_fail_later(queue) and await late_failures.settle_sent(tx, queue.session_id, delivery.seq, now)

    async def _resolve_interrupted_send(self, delivery: Delivery) -> bool:
        """Resolves a send that was interrupted before its outcome was recorded. Returns True if it is to be resent."""
        outcome = AttemptOutcome(
            status=DeliveryStatus.PENDING, code=Ambiguous.reason, reason="sent again after a crash"
        )
        if held := self._should_hold_ambiguous(delivery):
            outcome = unknown_outcome(Ambiguous("the host ended before it knew the answer"))
            _log_failure(delivery, outcome, attempt=delivery.attempts)
        async with self._store.transaction() as tx:
            await deliveries.end_attempt(tx, delivery, outcome, self._clock.now())
        return not held

    def _should_hold_ambiguous(self, delivery: Delivery) -> bool:
        """Returns whether to hold it as unknown. Repeating an edit or a reaction is harmless.

        Without a connected channel it is unknown whether the platform recognizes a repetition.
        """
        channel = self._find_channel(delivery.queue)
        if delivery.kind == OutKind.REACTION or (delivery.kind == OutKind.EDIT and isinstance(channel, Edits)):
            return False
        can_tell = channel is not None and (channel.capabilities.idempotent_send or isinstance(channel, FindsSent))
        return self._hold_ambiguous and not can_tell

    async def _send_or_outcome(self, delivery: Delivery, part: DeliveryPart) -> Receipt | AttemptOutcome:
        """Sends the part; returns the receipt, or the outcome of a failure."""
        try:
            return await self._send(delivery, part)
        except ChannelError as error:
            return await self._handle_failure(delivery, error)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return await self._handle_failure(delivery, Ambiguous("the channel cancelled the send by itself"))
        except Exception as error:
            _log.error("channel_contract_violated", channel=delivery.queue.channel_type, exc_info=error)
            return await self._handle_failure(
                delivery, Ambiguous(f"the channel failed in a way it should not: {error}")
            )

    async def _handle_failure(self, delivery: Delivery, error: ChannelError) -> AttemptOutcome:
        if isinstance(error, Refused) and delivery.kind in _SUPPLEMENTARY_KINDS:
            self._channel_health.clear_failure(delivery.queue)
            return dropped_outcome(error)
        tries = await deliveries.count_attempts(self._store, delivery)
        now = self._clock.now()
        outcome = failure_outcome(
            error,
            attempts=delivery.attempts + 1 - delivery.attempts_before_resend,
            counted_attempts=tries,
            now=now,
            hold_ambiguous=self._should_hold_ambiguous(delivery),
            platform_failures=self._channel_health.record_failure(delivery.queue, self._clock.monotonic())
            if error.server_error
            else 0,
        )
        if outcome.status is not DeliveryStatus.PENDING:
            self._channel_health.clear_failure(delivery.queue)
        if isinstance(error, RateLimited) and outcome.next_attempt_at is not None:
            pause_s = (outcome.next_attempt_at - now).total_seconds()
            self._rate_limiter.pause(delivery.queue, pause_s, whole_channel=error.whole_channel)
        return outcome

    async def _send(self, delivery: Delivery, part: DeliveryPart) -> Receipt:
        queue = delivery.queue
        channel = self._find_channel(queue)
        if channel is None:
            raise ChannelDown(f"there is no channel {queue.channel_type}:{queue.instance} in this host")
        key = _idempotency_key(delivery, part)
        limit_s = self._timeout_s(await self._kind_handlers.file_size_bytes(delivery, channel))
        try:
            async with asyncio.timeout(limit_s):
                receipt = await self._find_sent(delivery, channel, key)
                if receipt is None:
                    receipt = await self._kind_handlers.send(channel, delivery, part, key)
        except TimeoutError:
            raise Ambiguous(f"{queue.channel_type} did not answer within {limit_s:.0f} s") from None
        self._store.bus.publish(QueueSending(queue))
        return receipt

    async def _find_sent(self, delivery: Delivery, channel: Channel, key: str) -> Receipt | None:
        """Returns the receipt of an earlier attempt, if the platform has it. Raises NotSent if it cannot be asked."""
        if not isinstance(channel, FindsSent) or not await deliveries.may_have_been_sent(self._store, delivery):
            return None
        address = Address(platform_id=delivery.platform_id, thread_id=delivery.thread_id)
        try:
            return await channel.find_sent(address, idempotency_key=key)
        except (NotSent, AuthFailed):
            raise
        except ChannelError as error:
            raise NotSent(f"it cannot be found out whether it was sent: {error}") from error


def _idempotency_key(delivery: Delivery, part: DeliveryPart) -> str:
    """Returns the key by which the platform recognizes a repetition."""
    return derive_id("k", delivery.queue.session_id, delivery.out_id, *([str(part.number)] if part.number else []))


def _log_sent(delivery: Delivery, part: DeliveryPart, result: Receipt | AttemptOutcome) -> None:
    if not isinstance(result, Receipt):
        return
    queue = delivery.queue
    _log.info(
        "message_sent" if part.is_last else "part_sent",
        session=queue.session_id,
        seq=delivery.seq,
        kind=delivery.kind,
        channel=queue.channel_type,
        chat=delivery.platform_id,
        attempt=delivery.attempts + 1,
    )
    _log.debug("message_sent", session=queue.session_id, seq=delivery.seq, text=part.text)


def _log_failure(delivery: Delivery, outcome: AttemptOutcome, *, attempt: int) -> None:
    _log.warning(
        "delivery_failed",
        session=delivery.queue.session_id,
        channel=delivery.queue.channel_type,
        message=delivery.out_id,
        attempt=attempt,
        status=outcome.status,
        reason=outcome.reason,
    )

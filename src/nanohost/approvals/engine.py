"""Sends each approval's card to an approver, and ends approvals that nobody decides.

Promises: if a card does not reach its approver within a minute, it is also sent to the next one, and after all of them
to their other addresses; when nobody is left, the request fails with a message. All state is stored: after a kill the
host continues, and nobody is asked twice in one chat. Never: a card in a group.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

import structlog

from nanohost.approvals import result, unknown_kind
from nanohost.approvals.approvers import (
    ApproverAddress,
    ApproverContext,
    ChannelKey,
    Identity,
    next_approvers,
    rank_approvers,
)
from nanohost.approvals.card import build_card
from nanohost.approvals.held_messages import NO_APPROVER_REACHED, notify_asked
from nanohost.approvals.kind import ApprovalKind, ExpiryHandler
from nanohost.approvals.registry import approval_kinds
from nanohost.approvals.result import ApprovalResult
from nanohost.channel_api import Channel, ChannelError, OpensDms, Refused
from nanohost.clock import Clock
from nanohost.db import approvals, host_messages, messaging_groups, roles, users
from nanohost.db.approvals import Approval, ApprovalCard, ApprovalStatus
from nanohost.db.database import Queries, Store, Transaction
from nanohost.db.deliveries import DeliveryStatus
from nanohost.db.domain_events import ApprovalChanged, DeliveryFailedLater
from nanohost.model import HOST_SESSION_ID, ApprovalId
from nanohost.text.translation import _, gettext_noop, translate
from nanohost.work.event_bus import Subscription
from nanohost.work.keyed_workers import KeyedWorkers, is_cancelled
from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.rows import Origin

CARD_SEND_TIMEOUT = timedelta(seconds=60)
"""If a card has not reached its approver by then, it is also sent to the next one."""
POLL_INTERVAL_S = 2.0
"""Seconds between checks whether a card was sent."""
RETRY_INTERVAL_S = 15.0
"""Seconds between checks when everybody was asked, and before a platform that did not answer is tried again."""
MAX_WAIT_S = 3600.0
"""The longest sleep before an approval expires, in seconds: the machine's clock may be changed meanwhile."""
OPEN_DM_TIMEOUT_S = 20.0
"""Seconds for a platform to open a direct chat."""
MAX_UNKNOWN_SENDER_CARDS = 5
"""Open cards about unknown senders at a time. A message says that more are waiting, and they are shown one by one."""
MORE_WAITING_TEXT = gettext_noop(
    "More people wrote to me and wait to be let in. I show {most} at a time, oldest first, so that they keep nothing of"
    " yours waiting. All of them: `nanohost approvals list`"
)
EXPIRED_REASON = gettext_noop("nobody decided in time")
_UNDELIVERED = (DeliveryStatus.DEAD, DeliveryStatus.DROPPED)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _DmUnavailable:
    """Why there is no direct chat with an approver. `is_temporary`: their platform could not be asked."""

    problem: str
    is_temporary: bool = False


class ApprovalEngine:
    """Sends cards and ends approvals. One per host. `channels` is looked up at each attempt by (channel type,
    instance)."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        channels: Mapping[tuple[str, str], Channel],
        zone: tzinfo,
    ) -> None:
        self._store = store
        self._clock = clock
        self._channels = channels
        self._zone = zone
        self._workers = KeyedWorkers[ApprovalId]("approvals", self._process, clock)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Processes approvals while entered, beginning with open ones."""
        subscriptions = (
            Subscription(ApprovalChanged, lambda event: self._workers.notify(event.approval)),
            Subscription(DeliveryFailedLater, self._recheck_cards),
        )
        with self._store.bus.subscribed(*subscriptions):
            async with self._workers.opened():
                for approval in await approvals.list_open(self._store):
                    self._workers.notify(approval.id)
                yield

    def _recheck_cards(self, event: DeliveryFailedLater) -> None:
        """Checks the approval again whose card the platform accepted but did not deliver."""
        if event.delivery.queue.session_id == HOST_SESSION_ID:
            self._workers.notify_waiting(lambda _: True)

    async def _process(self, id: ApprovalId) -> None:
        while not self._workers.is_closing:
            approval = await approvals.find(self._store, id)
            if approval is None or approval.status is not ApprovalStatus.PENDING:
                await self._show_next()
                return
            kind = approval_kinds().get(approval.kind)
            if kind is None:
                await self._close_undecided(
                    approval, unknown_kind.expire_unknown_kind, ApprovalStatus.FAILED, unknown_kind.UNKNOWN_KIND
                )
                return
            wait_s = await self._advance(approval, kind)
            if wait_s > 0:
                await self._workers.wait(id, wait_s)

    async def _show_next(self) -> None:
        """Notifies approvals that wait for the card limit, because another one has ended."""
        theirs = {name for name, kind in approval_kinds().items() if kind.is_by_unknown_sender}
        waiting = {one.id for one in await approvals.list_open(self._store) if one.kind in theirs}
        self._workers.notify_waiting(lambda id: id in waiting)

    async def _is_over_card_limit(self, db: Queries, approval: Approval, kind: ApprovalKind) -> bool:
        """Returns whether enough approvals for unknown senders have cards, or come first."""
        theirs = [each.name for each in approval_kinds().values() if each.is_by_unknown_sender]
        return (
            kind.is_by_unknown_sender
            and await approvals.count_ahead(db, approval.id, theirs) >= MAX_UNKNOWN_SENDER_CARDS
        )

    async def _advance(self, approval: Approval, kind: ApprovalKind) -> float:
        """Does what is due for the approval; returns the seconds until the next check."""
        now = self._clock.now()
        left = approval.expires_at - now
        if left <= timedelta():
            await self._close_undecided(approval, kind.expire, ApprovalStatus.EXPIRED, EXPIRED_REASON)
            return 0
        cards = await approvals.list_cards(self._store, approval.id)
        theirs = await self._valid_cards(self._store, cards, approval, kind)
        look_s = await self._seconds_until_check(cards, theirs, now)
        if look_s is None:
            look_s = await self._ask_next(approval, kind, cards)
        if look_s is None and await self._may_still_arrive(self._store, theirs):
            look_s = RETRY_INTERVAL_S
        if look_s is None:
            await self._fail_unreachable(approval, kind)
            return 0
        return min(look_s, left.total_seconds(), MAX_WAIT_S)

    async def _valid_cards(
        self, db: Queries, cards: Sequence[ApprovalCard], approval: Approval, kind: ApprovalKind
    ) -> list[ApprovalCard]:
        """Returns the cards of approvers who may still decide."""
        return [
            card
            for card in cards
            if kind.may_decide(await roles.list_for_user(db, card.user_id), kind.deciding_group(approval))
        ]

    async def _seconds_until_check(
        self, cards: Sequence[ApprovalCard], valid_cards: Sequence[ApprovalCard], now: datetime
    ) -> float | None:
        """Returns the seconds until the next check of the cards. `valid_cards`: those of people who may decide.

        Returns None if no valid card has arrived, and none is within its time limit.
        """
        for one in valid_cards:
            if await self._delivery_status(self._store, one) is DeliveryStatus.SENT:
                return MAX_WAIT_S
        last = cards[-1] if cards else None
        if last is None or last not in valid_cards or last.problem is not None or last.seq is None:
            return None
        delivery = await host_messages.find(self._store, last.seq)
        if delivery is None or delivery.status in (*_UNDELIVERED, DeliveryStatus.UNKNOWN):
            await self._record_problem(last, (delivery.reason if delivery else None) or "it could not be sent")
            return None
        if not timedelta() <= now - last.asked_at < CARD_SEND_TIMEOUT:  # the clock may have been set back
            limit_s = CARD_SEND_TIMEOUT.total_seconds()
            await self._record_problem(last, f"not sent within {limit_s:.0f} s: {delivery.reason or 'it waits'}")
            return None
        return POLL_INTERVAL_S

    async def _card_channel(self, db: Queries, card: ApprovalCard) -> ChannelKey | None:
        delivery = None if card.seq is None else await host_messages.find(db, card.seq)
        return None if delivery is None else (delivery.queue.channel_type, delivery.queue.instance)

    async def _delivery_status(self, db: Queries, card: ApprovalCard) -> DeliveryStatus | None:
        delivery = None if card.seq is None else await host_messages.find(db, card.seq)
        return None if delivery is None else delivery.status

    async def _record_problem(self, card: ApprovalCard, problem: str) -> None:
        _log.warning("approver_unreachable", approval=card.approval_id, user=card.user_id, problem=problem)
        async with self._store.transaction() as tx:
            await approvals.set_card_problem(tx, card, problem)

    async def _may_still_arrive(self, db: Queries, cards: Sequence[ApprovalCard]) -> bool:
        """Returns whether a card may still arrive: its channel may reconnect in time, or its delivery is unknown."""
        states = [await self._delivery_status(db, one) for one in cards]
        return any(state is not None and state not in _UNDELIVERED for state in states)

    async def _ask_next(self, approval: Approval, kind: ApprovalKind, cards: Sequence[ApprovalCard]) -> float | None:
        """Asks the next approver; returns the seconds until the next check, or None if nobody is left."""
        if not cards and await self._is_over_card_limit(self._store, approval, kind):
            await self._notify_more_waiting()
            await self._notify_asked(approval)
            return MAX_WAIT_S
        left = await self._remaining_approvers(self._store, approval, kind, cards)
        for ways in left:
            if await self._send_card(approval, kind, ways):
                return 0
        if not left:
            return None
        await self._notify_asked(approval)
        return RETRY_INTERVAL_S

    async def _notify_asked(self, approval: Approval) -> None:
        """Tells the requester that an approver was asked."""
        async with self._store.transaction() as tx:
            found = await approvals.find(tx, approval.id)
            if found is not None and found.status is ApprovalStatus.PENDING:
                await notify_asked(tx, approval, self._clock.now())

    async def _remaining_approvers(
        self, db: Queries, approval: Approval, kind: ApprovalKind, cards: Sequence[ApprovalCard]
    ) -> list[list[ApproverAddress]]:
        """Returns the approvers to ask next; see `next_approvers`."""
        situation = await self._approver_context(db, approval, kind)
        people = {one.user_id: one.person_id for one in situation.identities}
        asked = {people.get(one.user_id, one.user_id): one for one in cards}
        return next_approvers(
            rank_approvers(situation),
            asked_persons=asked,
            unreachable_persons=[person for person, card in asked.items() if card.seq is None],
            tried_addresses=[(one.user_id, await self._card_channel(db, one)) for one in cards],
        )

    async def _send_card(self, approval: Approval, kind: ApprovalKind, addresses: Sequence[ApproverAddress]) -> bool:
        """Records a card for the approver at one of the addresses, or that they cannot be reached.

        Returns False if that is not known yet; then nothing is recorded.
        """
        tried = []
        for way in addresses:
            place = way.direct_chat or await self._open_dm(way)
            if not isinstance(place, _DmUnavailable):
                await self._record_card(approval, kind, way, place)
                return True
            tried.append(place)
        user, problem, now = addresses[0].identity.user_id, tried[-1].problem, self._clock.now()
        if any(one.is_temporary for one in tried):
            _log.info("approver_retry_scheduled", approval=approval.id, user=user, problem=problem)
            return False
        _log.warning("approver_unreachable", approval=approval.id, user=user, problem=problem)
        async with self._store.transaction() as tx:
            await approvals.add_card(tx, approval.id, user, seq=None, problem=problem, now=now)
        return True

    async def _record_card(
        self, approval: Approval, kind: ApprovalKind, address: ApproverAddress, direct_chat: Origin
    ) -> None:
        now = self._clock.now()
        async with self._store.transaction() as tx:
            found = await approvals.find(tx, approval.id)
            if found is None or found.status is not ApprovalStatus.PENDING:
                return
            if not kind.may_decide(
                await roles.list_for_user(tx, address.identity.user_id), kind.deciding_group(approval)
            ):
                return  # they lost the role meanwhile and must not see the card
            number = len(await approvals.list_cards(tx, approval.id)) + 1
            if number == 1 and await self._is_over_card_limit(tx, approval, kind):
                return  # another card was recorded meanwhile
            out_id = derive_id("h", approval.id, str(number))
            shown = build_card(approval, kind, self._zone)
            delivery = await host_messages.enqueue(tx, direct_chat, shown, out_id=out_id, now=now)
            await approvals.add_card(tx, approval.id, address.identity.user_id, seq=delivery.seq, problem=None, now=now)
            if address.direct_chat is None:
                await users.save_dm(tx, address.identity.user_id, direct_chat, now)
            await notify_asked(tx, approval, now)
            crash_point("approvals.asking")
        crash_point("approvals.asked")
        _log.info("approver_asked", approval=approval.id, kind=approval.kind, user=address.identity.user_id)

    async def _open_dm(self, approver: ApproverAddress) -> Origin | _DmUnavailable:
        """Opens the direct chat with an approver. Opening it twice gives the same chat."""
        channel_type, instance = approver.channel
        channel = self._channels.get(approver.channel)
        if channel is None or not isinstance(channel, OpensDms):
            return _DmUnavailable(problem=f"there is no channel {channel_type}:{instance} in this host")
        try:
            async with asyncio.timeout(OPEN_DM_TIMEOUT_S):
                address = await channel.open_dm(approver.identity.handle)
        except Refused as error:
            return _DmUnavailable(problem=f"no direct chat could be opened: {error}")
        except (TimeoutError, ChannelError) as error:
            problem = f"no direct chat could be opened: {str(error) or 'the platform did not answer'}"
            return _DmUnavailable(problem=problem, is_temporary=True)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return _DmUnavailable(problem="no direct chat could be opened: the channel gave it up by itself")
        except Exception as error:
            _log.error("channel_contract_violated", channel=channel_type, exc_info=error)
            return _DmUnavailable(problem=f"no direct chat could be opened: {error}")
        return Origin(
            channel_type=channel_type,
            instance=instance,
            platform_id=address.platform_id,
            thread_id=address.thread_id,
        )

    async def _approver_context(self, db: Queries, approval: Approval, kind: ApprovalKind) -> ApproverContext:
        """Returns the current approvers and their addresses."""
        agent_group = kind.deciding_group(approval)
        grants = [one for one in await roles.list_deciders(db) if kind.approver_tier(one, agent_group) is not None]
        identities: dict[str, Identity] = {}
        for user_id in dict.fromkeys(one.user_id for one in grants):
            known = await users.list_identities(db, user_id)
            person = str(known[0].person) if known else user_id
            for each in [one.user_id for one in known] or [user_id]:
                dms = tuple(await users.list_dms(db, each))
                identities[each] = Identity(user_id=each, person_id=person, direct_chats=dms)
        asking = await users.list_identities(db, approval.requested_by)
        return ApproverContext(
            identities=list(identities.values()),
            grants=grants,
            tier_of=lambda grant: kind.approver_tier(grant, agent_group),
            origin=approval.origin,
            requester_id=asking[0].user_id if asking else approval.requested_by,
            usable_channels=set(self._channels),
            dm_capable_channels={key for key, channel in self._channels.items() if isinstance(channel, OpensDms)},
            group_chats=await self._group_chats(db),
        )

    async def _group_chats(self, db: Queries) -> set[tuple[str, str, str]]:
        every = await messaging_groups.list_all(db)
        return {(one.channel_type, one.instance, one.platform_id) for one in every if one.is_group}

    async def _notify_more_waiting(self) -> None:
        """Tells approvers with cards about unknown senders, once an hour, that more requests are waiting."""
        now = self._clock.now()
        async with self._store.transaction() as tx:
            for place in await self._unknown_sender_card_chats(tx):
                out_id = derive_id("h", "more strangers", place.channel_type, place.platform_id, f"{now:%Y-%m-%d %H}")
                text = _(MORE_WAITING_TEXT, most=MAX_UNKNOWN_SENDER_CARDS)
                await host_messages.enqueue(tx, place, ChatOut(text=text), out_id=out_id, now=now, in_card_queue=True)

    async def _unknown_sender_card_chats(self, db: Queries) -> list[Origin]:
        """Returns the chats with open cards about unknown senders."""
        places = {}
        for one in await approvals.list_open(db):
            kind = approval_kinds().get(one.kind)
            for each in (
                await approvals.list_cards(db, one.id) if kind is not None and kind.is_by_unknown_sender else []
            ):
                delivery = None if each.seq is None else await host_messages.find(db, each.seq)
                if delivery is not None:
                    places[delivery.queue] = host_messages.origin_of(delivery)
        return list(places.values())

    async def _fail_unreachable(self, approval: Approval, kind: ApprovalKind) -> None:
        """Ends the approval as failed, unless somebody has just got a role and can be asked."""

        async def is_so(tx: Transaction) -> bool:
            cards = await approvals.list_cards(tx, approval.id)
            theirs = await self._valid_cards(tx, cards, approval, kind)
            return not await self._may_still_arrive(tx, theirs) and not await self._remaining_approvers(
                tx, approval, kind, cards
            )

        await self._close_undecided(approval, kind.expire, ApprovalStatus.FAILED, NO_APPROVER_REACHED, condition=is_so)

    async def _close_undecided(
        self,
        approval: Approval,
        on_expiry: ExpiryHandler,
        status: ApprovalStatus,
        reason: str,
        *,
        condition: Callable[[Transaction], Awaitable[bool]] | None = None,
    ) -> None:
        """Ends the approval without a decision. `condition`: checked in that transaction."""
        now = self._clock.now()
        async with self._store.transaction() as tx:
            if condition is not None and not await condition(tx):
                return
            end = ApprovalResult(status=status, outcome=f"{translate(reason)}.", reason=reason)
            ended = await result.close_undecided(tx, approval, on_expiry, end, now=now, zone=self._zone)
        if ended:
            _log.warning("approval_expired", approval=approval.id, kind=approval.kind, status=status, reason=reason)

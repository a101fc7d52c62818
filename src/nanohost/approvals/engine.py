"""Asks people: brings each approval's card to somebody who may decide, and ends what nobody decides.

Promises: a card that does not reach its approver, or not within a minute, goes to the next one, too, and after all of
them to where else they can be reached; when there is nobody left the request fails with words. All it knows is on
record: a host that is killed goes on where it was, and nobody is asked twice in one place. Never: a card in a group.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

import structlog

from nanohost.approvals import ending, gone
from nanohost.approvals.approvers import ChannelKey, Identity, Situation, Way, approvers, still_to_ask
from nanohost.approvals.card import card
from nanohost.approvals.ending import End
from nanohost.approvals.held import NOBODY_LEFT, say_asked
from nanohost.approvals.kind import Kind, Lapse
from nanohost.approvals.registry import kinds
from nanohost.channel_api import Channel, ChannelError, OpensDms, Refused
from nanohost.clock import Clock
from nanohost.event_bus import Subscription
from nanohost.lanes import Lanes, is_cancelled
from nanohost.model import HOST, ApprovalId
from nanohost.store import approvals, host_messages, messaging_groups, roles, users
from nanohost.store.approvals import Approval, ApprovalStatus, Card
from nanohost.store.database import Queries, Store, Transaction
from nanohost.store.deliveries import DeliveryStatus
from nanohost.store.domain_events import ApprovalChanged, DeliveryFailedLater
from nanohost_protocol.crash_points import reach
from nanohost_protocol.ids import derive
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.rows import Origin

SENT_WITHIN = timedelta(seconds=60)
"""A card that has not reached its approver by then goes to the next one, too."""
LOOK_S = 2.0
"""How often it is looked whether a card was sent."""
LATE_LOOK_S = 15.0
"""The same once everybody was asked whom there is, and until a platform is tried again that did not answer."""
LONGEST_NAP_S = 3600.0
"""Until an approval expires: the clock of the machine may be set meanwhile."""
OPEN_LIMIT_S = 20.0
"""For a platform to open a direct chat."""
MOST_SHOWN = 5
"""Cards about strangers that wait for a decision at a time. The others are named in a message, and shown one by one."""
MORE = (
    "More people wrote to me and wait to be let in. I show {most} at a time, oldest first, so that they keep nothing of"
    " yours waiting. All of them: `nanohost approvals list`"
)
NO_ANSWER = "nobody decided in time"
_LOST = (DeliveryStatus.DEAD, DeliveryStatus.DROPPED)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closed:
    """There is no direct chat with them, and why. `for_now`: their platform could not be asked."""

    problem: str
    for_now: bool = False


class Approvals:
    """One per host. `channels` is looked up at each try, by (channel type, instance)."""

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
        self._lanes = Lanes[ApprovalId]("approvals", self._serve, clock)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Ask while entered, beginning with what waits."""
        subscriptions = (
            Subscription(ApprovalChanged, lambda event: self._lanes.poke(event.approval)),
            Subscription(DeliveryFailedLater, self._look_at_cards),
        )
        with self._store.bus.subscribed(*subscriptions):
            async with self._lanes.opened():
                for approval in await approvals.all_open(self._store):
                    self._lanes.poke(approval.id)
                yield

    def _look_at_cards(self, event: DeliveryFailedLater) -> None:
        """A card may have been taken by its platform, and did not arrive after all: who has one is looked at again."""
        if event.delivery.lane.session_id == HOST:
            self._lanes.poke_napping(lambda _: True)

    async def _serve(self, id: ApprovalId) -> None:
        while not self._lanes.closing:
            approval = await approvals.find(self._store, id)
            if approval is None or approval.status is not ApprovalStatus.PENDING:
                await self._make_room()
                return
            kind = kinds().get(approval.kind)
            if kind is None:
                await self._end(approval, gone.lapse, ApprovalStatus.FAILED, gone.REASON)
                return
            wait_s = await self._step(approval, kind)
            if wait_s > 0:
                await self._lanes.light_nap(id, wait_s)

    async def _make_room(self) -> None:
        """One is over: the next one of those that wait for their card may be shown."""
        theirs = {name for name, kind in kinds().items() if kind.by_strangers}
        waiting = {one.id for one in await approvals.all_open(self._store) if one.kind in theirs}
        self._lanes.poke_napping(lambda id: id in waiting)

    async def _is_crowded_out(self, db: Queries, approval: Approval, kind: Kind) -> bool:
        """Whether enough of what strangers asked for is shown already, or comes first."""
        theirs = [each.name for each in kinds().values() if each.by_strangers]
        return kind.by_strangers and await approvals.ahead(db, approval.id, theirs) >= MOST_SHOWN

    async def _step(self, approval: Approval, kind: Kind) -> float:
        """Do what is to be done now; how many seconds there is nothing more to do."""
        now = self._clock.now()
        left = approval.expires_at - now
        if left <= timedelta():
            await self._end(approval, kind.lapse, ApprovalStatus.EXPIRED, NO_ANSWER)
            return 0
        cards = await approvals.cards(self._store, approval.id)
        theirs = await self._theirs(self._store, cards, approval, kind)
        look_s = await self._look(cards, theirs, now)
        if look_s is None:
            look_s = await self._ask_next(approval, kind, cards)
        if look_s is None and await self._may_still_come(self._store, theirs):
            look_s = LATE_LOOK_S
        if look_s is None:
            await self._give_up(approval, kind)
            return 0
        return min(look_s, left.total_seconds(), LONGEST_NAP_S)

    async def _theirs(self, db: Queries, cards: Sequence[Card], approval: Approval, kind: Kind) -> list[Card]:
        """The cards of those who may decide still."""
        return [card for card in cards if kind.may_decide(await roles.of_user(db, card.user_id), kind.whose(approval))]

    async def _look(self, cards: Sequence[Card], theirs: Sequence[Card], now: datetime) -> float | None:
        """Seconds until the cards are to be looked at again. None: nobody who may decide has one, and none is on time.
        `theirs`: those of people who may."""
        for one in theirs:
            if await self._status(self._store, one) is DeliveryStatus.SENT:
                return LONGEST_NAP_S
        last = cards[-1] if cards else None
        if last is None or last not in theirs or last.problem is not None or last.seq is None:
            return None
        delivery = await host_messages.find(self._store, last.seq)
        if delivery is None or delivery.status in (*_LOST, DeliveryStatus.UNKNOWN):
            await self._note(last, (delivery.reason if delivery else None) or "it could not be sent")
            return None
        if not timedelta() <= now - last.asked_at < SENT_WITHIN:  # a clock that was set back makes nobody wait
            limit_s = SENT_WITHIN.total_seconds()
            await self._note(last, f"not sent within {limit_s:.0f} s: {delivery.reason or 'it waits'}")
            return None
        return LOOK_S

    async def _channel_of(self, db: Queries, card: Card) -> ChannelKey | None:
        delivery = None if card.seq is None else await host_messages.find(db, card.seq)
        return None if delivery is None else (delivery.lane.channel_type, delivery.lane.instance)

    async def _status(self, db: Queries, card: Card) -> DeliveryStatus | None:
        delivery = None if card.seq is None else await host_messages.find(db, card.seq)
        return None if delivery is None else delivery.status

    async def _note(self, card: Card, problem: str) -> None:
        _log.warning("approver_not_reached", approval=card.approval_id, user=card.user_id, problem=problem)
        async with self._store.transaction() as tx:
            await approvals.card_failed(tx, card, problem)

    async def _may_still_come(self, db: Queries, cards: Sequence[Card]) -> bool:
        """Whether a card is still on its way, for its channel may come back before the approval expires; or nobody
        knows whether it is there."""
        states = [await self._status(db, one) for one in cards]
        return any(state is not None and state not in _LOST for state in states)

    async def _ask_next(self, approval: Approval, kind: Kind, cards: Sequence[Card]) -> float | None:
        """Ask the next one. How many seconds there is nothing more to do; None: there is nobody left."""
        if not cards and await self._is_crowded_out(self._store, approval, kind):
            await self._tell_of_more()
            await self._say_asked(approval)
            return LONGEST_NAP_S
        left = await self._left(self._store, approval, kind, cards)
        for ways in left:
            if await self._ask(approval, kind, ways):
                return 0
        if not left:
            return None
        await self._say_asked(approval)
        return LATE_LOOK_S

    async def _say_asked(self, approval: Approval) -> None:
        """To whoever waits for it: it is known by now that somebody will hear of it."""
        async with self._store.transaction() as tx:
            found = await approvals.find(tx, approval.id)
            if found is not None and found.status is ApprovalStatus.PENDING:
                await say_asked(tx, approval, self._clock.now())

    async def _left(self, db: Queries, approval: Approval, kind: Kind, cards: Sequence[Card]) -> list[list[Way]]:
        """Whom to ask next, when who was asked has no card; see `still_to_ask`."""
        situation = await self._situation(db, approval, kind)
        people = {one.user_id: one.person for one in situation.identities}
        asked = {people.get(one.user_id, one.user_id): one for one in cards}
        return still_to_ask(
            approvers(situation),
            asked=asked,
            hopeless=[person for person, card in asked.items() if card.seq is None],
            tried=[(one.user_id, await self._channel_of(db, one)) for one in cards],
        )

    async def _ask(self, approval: Approval, kind: Kind, ways: Sequence[Way]) -> bool:
        """Enter a card for one of them, or that they cannot be reached. False: nobody knows yet whether they can, and
        nothing was entered."""
        tried = []
        for way in ways:
            place = way.place or await self._open(way)
            if not isinstance(place, _Closed):
                await self._enter(approval, kind, way, place)
                return True
            tried.append(place)
        user, problem, now = ways[0].identity.user_id, tried[-1].problem, self._clock.now()
        if any(one.for_now for one in tried):
            _log.info("approver_not_reached_yet", approval=approval.id, user=user, problem=problem)
            return False
        _log.warning("approver_not_reached", approval=approval.id, user=user, problem=problem)
        async with self._store.transaction() as tx:
            await approvals.add_card(tx, approval.id, user, seq=None, problem=problem, now=now)
        return True

    async def _enter(self, approval: Approval, kind: Kind, way: Way, place: Origin) -> None:
        now = self._clock.now()
        async with self._store.transaction() as tx:
            found = await approvals.find(tx, approval.id)
            if found is None or found.status is not ApprovalStatus.PENDING:
                return
            if not kind.may_decide(await roles.of_user(tx, way.identity.user_id), kind.whose(approval)):
                return  # they lost the role since: what the card shows is not for them
            number = len(await approvals.cards(tx, approval.id)) + 1
            if number == 1 and await self._is_crowded_out(tx, approval, kind):
                return  # another one was quicker
            out_id = derive("h", approval.id, str(number))
            shown = card(approval, kind, self._zone)
            delivery = await host_messages.say(tx, place, shown, out_id=out_id, now=now)
            await approvals.add_card(tx, approval.id, way.identity.user_id, seq=delivery.seq, problem=None, now=now)
            if way.place is None:
                await users.learn_dm(tx, way.identity.user_id, place, now)
            await say_asked(tx, approval, now)
            reach("approvals.asking")
        reach("approvals.asked")
        _log.info("approver_asked", approval=approval.id, kind=approval.kind, user=way.identity.user_id)

    async def _open(self, way: Way) -> Origin | _Closed:
        """The direct chat with them. Opening one twice gives the same one."""
        channel_type, instance = way.channel
        channel = self._channels.get(way.channel)
        if channel is None or not isinstance(channel, OpensDms):
            return _Closed(problem=f"there is no channel {channel_type}:{instance} in this host")
        try:
            async with asyncio.timeout(OPEN_LIMIT_S):
                address = await channel.open_dm(way.identity.handle)
        except Refused as error:
            return _Closed(problem=f"no direct chat could be opened: {error}")
        except (TimeoutError, ChannelError) as error:
            problem = f"no direct chat could be opened: {str(error) or 'the platform did not answer'}"
            return _Closed(problem=problem, for_now=True)
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return _Closed(problem="no direct chat could be opened: the channel gave it up by itself")
        except Exception as error:
            _log.error("channel_broke_its_promise", channel=channel_type, exc_info=error)
            return _Closed(problem=f"no direct chat could be opened: {error}")
        return Origin(
            channel_type=channel_type,
            instance=instance,
            platform_id=address.platform_id,
            thread_id=address.thread_id,
        )

    async def _situation(self, db: Queries, approval: Approval, kind: Kind) -> Situation:
        """Who could decide as of now, and how each can be reached."""
        agent_group = kind.whose(approval)
        grants = [one for one in await roles.deciding(db) if kind.tier(one, agent_group) is not None]
        identities: dict[str, Identity] = {}
        for user_id in dict.fromkeys(one.user_id for one in grants):
            known = await users.identities(db, user_id)
            person = str(known[0].person) if known else user_id
            for each in [one.user_id for one in known] or [user_id]:
                dms = tuple(await users.dms(db, each))
                identities[each] = Identity(user_id=each, person=person, dms=dms)
        asking = await users.identities(db, approval.requested_by)
        return Situation(
            identities=list(identities.values()),
            grants=grants,
            tier=lambda grant: kind.tier(grant, agent_group),
            origin=approval.origin,
            requester=asking[0].user_id if asking else approval.requested_by,
            usable=set(self._channels),
            opens={key for key, channel in self._channels.items() if isinstance(channel, OpensDms)},
            groups=await self._groups(db),
        )

    async def _groups(self, db: Queries) -> set[tuple[str, str, str]]:
        every = await messaging_groups.every(db)
        return {(one.channel_type, one.instance, one.platform_id) for one in every if one.is_group}

    async def _tell_of_more(self) -> None:
        """Whoever has cards about strangers hears, once an hour, that there are more than they were shown."""
        now = self._clock.now()
        async with self._store.transaction() as tx:
            for place in await self._places_of_strangers(tx):
                out_id = derive("h", "more strangers", place.channel_type, place.platform_id, f"{now:%Y-%m-%d %H}")
                text = MORE.format(most=MOST_SHOWN)
                await host_messages.say(tx, place, ChatOut(text=text), out_id=out_id, now=now, about_cards=True)

    async def _places_of_strangers(self, db: Queries) -> list[Origin]:
        """Where cards about strangers are shown."""
        places = {}
        for one in await approvals.all_open(db):
            kind = kinds().get(one.kind)
            for each in await approvals.cards(db, one.id) if kind is not None and kind.by_strangers else []:
                delivery = None if each.seq is None else await host_messages.find(db, each.seq)
                if delivery is not None:
                    places[delivery.lane] = host_messages.place_of(delivery)
        return list(places.values())

    async def _give_up(self, approval: Approval, kind: Kind) -> None:
        """It fails, unless somebody was given a role in the last moment: then they are asked."""

        async def is_so(tx: Transaction) -> bool:
            cards = await approvals.cards(tx, approval.id)
            theirs = await self._theirs(tx, cards, approval, kind)
            return not await self._may_still_come(tx, theirs) and not await self._left(tx, approval, kind, cards)

        await self._end(approval, kind.lapse, ApprovalStatus.FAILED, NOBODY_LEFT, if_still=is_so)

    async def _end(
        self,
        approval: Approval,
        lapse: Lapse,
        status: ApprovalStatus,
        reason: str,
        *,
        if_still: Callable[[Transaction], Awaitable[bool]] | None = None,
    ) -> None:
        """`if_still`: asked in the transaction that would end it."""
        now = self._clock.now()
        async with self._store.transaction() as tx:
            if if_still is not None and not await if_still(tx):
                return
            end = End(status=status, outcome=f"{reason}.", reason=reason)
            ended = await ending.lapse(tx, approval, lapse, end, now=now, zone=self._zone)
        if ended:
            _log.warning("approval_lapsed", approval=approval.id, kind=approval.kind, status=status, reason=reason)

"""What each wiring makes of an event: which route it takes, into which session, and what the agent gets of it.

Promises: only what is known now decides, so that an event is decided on anew after a crash; nothing is written but the
session of a conversation that begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import structlog

from nanohost.access.decision import is_admin, may_talk
from nanohost.channel_api import Attachment, EventKind
from nanohost.chat_commands.executor import Entry
from nanohost.chat_commands.gate import Order, Passes, Vanishes, Verdict, gate, is_order
from nanohost.clock import Clock
from nanohost.model import AgentGroupId, EngageMode, Session, SessionId, Wiring, WiringId
from nanohost.routing.consider import BOTS_WITHIN, MOST_BOTS, Made, consider, why_denied
from nanohost.routing.engage import is_addressed
from nanohost.routing.message import message_for
from nanohost.routing.run import ANOTHERS_CARD, Run
from nanohost.store import cards, conversations, events, pieces, roles, routes, sessions
from nanohost.store.conversations import SessionKey, session_key
from nanohost.store.database import Store
from nanohost.store.events import StoredEvent
from nanohost.store.roles import Grant
from nanohost.store.routes import Heard, Route, RouteOutcome

_OUTCOMES = {
    Made.WRITE: RouteOutcome.WRITTEN,
    Made.CONTEXT: RouteOutcome.CONTEXT,
    Made.DROP: RouteOutcome.NOT_ENGAGED,
    Made.DENY: RouteOutcome.DENIED,
    Made.ASK: RouteOutcome.HELD,
}

NO_CARD = "no card of an agent in this chat has such a button"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A row on its way into a session's mailbox."""

    route: Route
    stored: StoredEvent
    entry: Entry


class Deciding:
    """The decisions of a router."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def decide(
        self, stored: StoredEvent, run: Run, wiring: Wiring, ready: Mapping[SessionId, Sequence[Ready]]
    ) -> tuple[Route, Session | None]:
        """One wiring's decision on one event. The session is made if it is the conversation's first message."""
        if stored.event.kind is EventKind.CLICK:
            return await self._decide_press(stored, run, wiring)
        key = session_key(wiring, stored.event)
        session = await conversations.find(self._store, key)
        decision = consider(
            wiring,
            stored.event,
            grants=await self._grants(stored, run),
            policy=run.group.unknown_sender,
            sticks=await self._sticks(stored, wiring, session, ready),
            bots_alone=stored.event.sender.is_bot and await self._bots_alone(wiring, session, ready),
            known=bool(await self._heard(stored, wiring.id)),
        )
        outcome = _OUTCOMES[decision.made]
        route = Route(event_id=stored.id, wiring_id=wiring.id, outcome=outcome, reason=decision.reason)
        if decision.made in (Made.DROP, Made.DENY):
            return route, None
        verdict = await self._gate(stored, wiring.agent_group_id)
        if isinstance(verdict, Vanishes):
            return replace(route, outcome=RouteOutcome.DENIED, reason=verdict.reason), None
        if decision.made is Made.ASK:
            return replace(route, message_id=message_for(stored, wiring.id).id), None
        session = session or await self._make(key)
        return reaching(route, session, trigger=decision.made is Made.WRITE), session

    async def _decide_press(self, stored: StoredEvent, run: Run, wiring: Wiring) -> tuple[Route, Session | None]:
        """A press is for the session whose card it was, and for no other one; it needs no mention."""
        route = Route(event_id=stored.id, wiring_id=wiring.id, outcome=RouteOutcome.NOT_ENGAGED)
        session = await self._asker(stored)
        if session is None:
            _log.info("press_dropped", user=stored.user, chat=run.group.platform_id)
            return replace(route, reason=NO_CARD), None
        if session.agent_group_id != wiring.agent_group_id:
            return replace(route, reason=ANOTHERS_CARD), None
        grants = await self._grants(stored, run)
        access = may_talk(grants, run.group.unknown_sender, wiring.agent_group_id, wiring.sender_scope)
        if not access.allowed:
            return replace(route, outcome=RouteOutcome.DENIED, reason=why_denied(access)), None
        return reaching(route, session), session

    async def _asker(self, stored: StoredEvent) -> Session | None:
        """Whose card of this chat it was. The host's own are no agent's: people's presses on those do not get here."""
        choice = await cards.chosen(self._store, stored.event.value)
        if choice is None or not choice.is_in(stored.chat):
            return None
        return await sessions.find(self._store, choice.card.lane.session_id)

    async def entry(self, stored: StoredEvent, wiring: WiringId, agent_group: AgentGroupId, *, trigger: bool) -> Entry:
        """What the agent gets of it. Without `trigger` it wakes nobody, and is no command."""
        stored = await self.in_our_words(stored)
        if not trigger:
            return Entry(message=replace(message_for(stored, wiring), trigger=False))
        message = message_for(stored, wiring, first_heard=await self._is_first_heard(stored, wiring))
        verdict = await self._gate(stored, agent_group)
        return Entry(message=message, order=verdict if isinstance(verdict, Order) else None)

    async def with_its_files(self, stored: StoredEvent, wiring: WiringId) -> StoredEvent:
        """An edit that makes a message one to the agent, with all files of that message: with an edit platforms tell of
        none, or of those of the one piece of an album that was changed."""
        event = stored.event
        if event.refers_to is None or not await self._is_first_heard(stored, wiring):
            return stored
        whole = await pieces.whole_of(self._store, stored.chat, event.refers_to)
        before = await events.message(self._store, stored.chat, whole)
        if before is None:
            return stored
        piece = await pieces.find(self._store, stored.chat, event.refers_to, like=event)
        files = before.event.attachments
        now = changed_files(files, event.attachments, instead_of=files if piece is None else piece.event.attachments)
        return replace(stored, event=replace(event, attachments=now))

    async def _is_first_heard(self, stored: StoredEvent, wiring: WiringId) -> bool:
        """Whether it is an edit that makes a message one to the agent: it adds the mention, say. Not to a command:
        nobody is to give one without its being looked at as one."""
        event = stored.event
        if event.kind is not EventKind.EDIT or event.refers_to is None or event.text.lstrip().startswith("/"):
            return False
        return not any(one.trigger for one in await self._heard(stored, wiring))

    async def _heard(self, stored: StoredEvent, wiring: WiringId) -> list[Heard]:
        """What the wiring's agent got of the message that an edit changes, in words, before that edit."""
        event = stored.event
        if event.kind is not EventKind.EDIT or event.refers_to is None:
            return []
        message = await pieces.whole_of(self._store, stored.chat, event.refers_to)
        known = await routes.heard(self._store, stored.chat, message)
        ours = [one for one in known if one.wiring_id == wiring and one.event_id < stored.id]
        return [one for one in ours if one.is_edit or not is_order(one.text)]

    async def in_our_words(self, stored: StoredEvent) -> StoredEvent:
        """A press says what its button was made to say, in the thread of its card, whatever the platform tells. What is
        about a piece of an album is about the message that the agent has of it."""
        event = stored.event
        if event.kind is not EventKind.CLICK:
            if event.refers_to is None:
                return stored
            whole = await pieces.whole_of(self._store, stored.chat, event.refers_to)
            return replace(stored, event=replace(event, refers_to=whole))
        choice = await cards.chosen(self._store, event.value)
        if choice is None:
            return stored
        return replace(stored, event=replace(event, text=choice.label, thread_id=choice.card.thread_id))

    async def _gate(self, stored: StoredEvent, agent_group: AgentGroupId) -> Verdict:
        """What becomes of the text, if it is one: what was edited later is no command."""
        if stored.event.kind is not EventKind.MESSAGE or not stored.event.text.lstrip().startswith("/"):
            return Passes()
        grants = await roles.of_user(self._store, stored.user)
        held = {grant.role for grant in grants}
        mine, to_us = is_admin(grants, agent_group), is_addressed(stored.event)
        return gate(stored.event.text, is_admin=mine, roles=held, is_to_us=to_us)

    async def _grants(self, stored: StoredEvent, run: Run) -> Sequence[Grant]:
        user = stored.user
        if user not in run.grants:
            run.grants[user] = await roles.of_user(self._store, user)
        return run.grants[user]

    async def _sticks(
        self, stored: StoredEvent, wiring: Wiring, session: Session | None, ready: Mapping[SessionId, Sequence[Ready]]
    ) -> bool:
        """Whether the wiring brought something of the event's thread into the session, on record or earlier in this
        batch.

        That there is a session says nothing: it may be left from a try that crashed, or be shared with other threads
        and chats.
        """
        if wiring.engage_mode is not EngageMode.MENTION_STICKY or session is None:
            return False
        thread = stored.event.thread_id
        rows = [row for row in ready.get(session.id, ()) if row.route.wiring_id == wiring.id and row.route.trigger]
        if any(row.stored.event.thread_id == thread for row in rows):
            return True
        return await routes.reached(self._store, session.id, wiring.id, thread)

    async def _bots_alone(
        self, wiring: Wiring, session: Session | None, ready: Mapping[SessionId, Sequence[Ready]]
    ) -> bool:
        """Whether what the wiring brought into the session last was all by bots, on record or in this batch."""
        if session is None:
            return False
        rows = [row for row in ready.get(session.id, ()) if row.route.wiring_id == wiring.id and row.route.trigger]
        by_bots = list(takewhile(lambda row: row.stored.event.sender.is_bot, reversed(rows)))
        left = MOST_BOTS - len(by_bots)
        if len(by_bots) < len(rows) or left <= 0:
            return left <= 0
        since = self._clock.now() - BOTS_WITHIN
        return await routes.bots_last(self._store, session.id, wiring.id, most=left, since=since) == left

    async def _make(self, key: SessionKey) -> Session:
        async with self._store.transaction() as tx:
            return await conversations.ensure(tx, key, self._clock.now())


def reaching(route: Route, session: Session, *, trigger: bool = True) -> Route:
    """The route that leads into this session."""
    outcome = RouteOutcome.WRITTEN if trigger else RouteOutcome.CONTEXT
    return replace(route, outcome=outcome, reason="", session_id=session.id, trigger=trigger)


def changed_files(
    before: Sequence[Attachment], now: Sequence[Attachment], *, instead_of: Sequence[Attachment]
) -> tuple[Attachment, ...]:
    """The files of a message that had some `before`, when an edit tells of some in the place of these."""
    if not now:
        return tuple(before)
    old = {one.ref for one in instead_of}
    at = next((at for at, one in enumerate(before) if one.ref in old), len(before))
    kept = [one for one in before if one.ref not in old]
    return (*kept[:at], *now, *kept[at:])

"""Resolves an event for each wiring: its route, its session, and the row for the agent.

Promises: it decides from what is stored now, so that it can decide again after a crash; it writes nothing but the
session of a new conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import structlog

from nanohost.access.decision import check_access, is_admin
from nanohost.channel_api import Attachment, EventKind
from nanohost.chat_commands.classify import (
    CommandDecision,
    Discard,
    ParsedCommand,
    PassThrough,
    classify_command,
    is_chat_command,
)
from nanohost.chat_commands.executor import MailboxEntry
from nanohost.clock import Clock
from nanohost.db import album_parts, cards, conversations, events, roles, routes, sessions
from nanohost.db.conversations import SessionKey, session_key
from nanohost.db.database import Store
from nanohost.db.events import StoredEvent
from nanohost.db.roles import RoleGrant
from nanohost.db.routes import Route, RoutedMessage, RouteOutcome
from nanohost.model import AgentGroupId, EngageMode, Session, SessionId, Wiring, WiringId
from nanohost.routing.engagement import (
    BOT_LOOP_WINDOW,
    MAX_BOT_MESSAGES,
    Engagement,
    decide_engagement,
    denial_reason,
    is_addressed,
)
from nanohost.routing.inbound_message import build_message
from nanohost.routing.routing_batch import OTHER_AGENTS_CARD, RoutingBatch

_OUTCOMES = {
    Engagement.WRITE: RouteOutcome.WRITTEN,
    Engagement.CONTEXT: RouteOutcome.CONTEXT,
    Engagement.DROP: RouteOutcome.NOT_ENGAGED,
    Engagement.DENY: RouteOutcome.DENIED,
    Engagement.REQUEST_APPROVAL: RouteOutcome.HELD,
}

UNKNOWN_BUTTON = "no card of an agent in this chat has such a button"

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedEntry:
    """A row to write into a session's mailbox, with its route and event."""

    route: Route
    stored: StoredEvent
    entry: MailboxEntry


class RouteResolver:
    """Decides routes for the router."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def resolve(
        self,
        stored: StoredEvent,
        batch: RoutingBatch,
        wiring: Wiring,
        routed: Mapping[SessionId, Sequence[RoutedEntry]],
    ) -> tuple[Route, Session | None]:
        """Returns one wiring's route for one event, and its session, which is created for a new conversation."""
        if stored.event.kind is EventKind.CLICK:
            return await self._resolve_press(stored, batch, wiring)
        key = session_key(wiring, stored.event)
        session = await conversations.find(self._store, key)
        decision = decide_engagement(
            wiring,
            stored.event,
            grants=await self._sender_grants(stored, batch),
            policy=batch.group.unknown_sender,
            is_sticky=await self._is_sticky(stored, wiring, session, routed),
            is_bot_loop=stored.event.sender.is_bot and await self._is_bot_loop(wiring, session, routed),
            is_known=bool(await self._delivered_messages(stored, wiring.id)),
        )
        outcome = _OUTCOMES[decision.engagement]
        route = Route(event_id=stored.id, wiring_id=wiring.id, outcome=outcome, reason=decision.reason)
        if decision.engagement in (Engagement.DROP, Engagement.DENY):
            return route, None
        verdict = await self._classify_text(stored, wiring.agent_group_id)
        if isinstance(verdict, Discard):
            return replace(route, outcome=RouteOutcome.DENIED, reason=verdict.reason), None
        if decision.engagement is Engagement.REQUEST_APPROVAL:
            return replace(route, message_id=build_message(stored, wiring.id).id), None
        session = session or await self._ensure_session(key)
        return route_to_session(route, session, trigger=decision.engagement is Engagement.WRITE), session

    async def _resolve_press(
        self, stored: StoredEvent, batch: RoutingBatch, wiring: Wiring
    ) -> tuple[Route, Session | None]:
        """Routes a press to the session that sent the card, and to no other one. It needs no mention."""
        route = Route(event_id=stored.id, wiring_id=wiring.id, outcome=RouteOutcome.NOT_ENGAGED)
        session = await self._find_asking_session(stored)
        if session is None:
            _log.info("button_press_dropped", user=stored.user_id, chat=batch.group.platform_id)
            return replace(route, reason=UNKNOWN_BUTTON), None
        if session.agent_group_id != wiring.agent_group_id:
            return replace(route, reason=OTHER_AGENTS_CARD), None
        grants = await self._sender_grants(stored, batch)
        access = check_access(grants, batch.group.unknown_sender, wiring.agent_group_id, wiring.sender_scope)
        if not access.is_allowed:
            return replace(route, outcome=RouteOutcome.DENIED, reason=denial_reason(access)), None
        return route_to_session(route, session), session

    async def _find_asking_session(self, stored: StoredEvent) -> Session | None:
        """Returns the session that sent the card in this chat. Presses on the host's own cards are handled earlier."""
        choice = await cards.find_choice(self._store, stored.event.value)
        if choice is None or not choice.was_sent_to(stored.chat):
            return None
        return await sessions.find(self._store, choice.card.queue.session_id)

    async def build_entry(
        self, stored: StoredEvent, wiring: WiringId, agent_group: AgentGroupId, *, trigger: bool
    ) -> MailboxEntry:
        """Returns the mailbox entry of the event. Without `trigger` it does not wake the agent, and is no command."""
        stored = await self.normalize(stored)
        if not trigger:
            return MailboxEntry(message=replace(build_message(stored, wiring), trigger=False))
        message = build_message(stored, wiring, is_newly_addressed=await self._is_newly_addressed(stored, wiring))
        verdict = await self._classify_text(stored, agent_group)
        return MailboxEntry(message=message, command=verdict if isinstance(verdict, ParsedCommand) else None)

    async def with_message_files(self, stored: StoredEvent, wiring: WiringId) -> StoredEvent:
        """Returns the event; if its edit newly addresses the agent, with all files of the message.

        With an edit, platforms send no files, or only those of the album piece that changed.
        """
        event = stored.event
        if event.refers_to is None or not await self._is_newly_addressed(stored, wiring):
            return stored
        whole = await album_parts.find_whole_id(self._store, stored.chat, event.refers_to)
        before = await events.find_message(self._store, stored.chat, whole)
        if before is None:
            return stored
        piece = await album_parts.find(self._store, stored.chat, event.refers_to, template=event)
        files = before.event.attachments
        now = merge_files(files, event.attachments, replaced=files if piece is None else piece.event.attachments)
        return replace(stored, event=replace(event, attachments=now))

    async def _is_newly_addressed(self, stored: StoredEvent, wiring: WiringId) -> bool:
        """Returns whether an edit newly addresses the agent, such as by adding the mention.

        Never for a command: an edit must not run one without the checks for commands.
        """
        event = stored.event
        if event.kind is not EventKind.EDIT or event.refers_to is None or event.text.lstrip().startswith("/"):
            return False
        return not any(one.trigger for one in await self._delivered_messages(stored, wiring))

    async def _delivered_messages(self, stored: StoredEvent, wiring: WiringId) -> list[RoutedMessage]:
        """Returns what the wiring's agent got of the edited message before this edit, without commands."""
        event = stored.event
        if event.kind is not EventKind.EDIT or event.refers_to is None:
            return []
        message = await album_parts.find_whole_id(self._store, stored.chat, event.refers_to)
        known = await routes.list_routed(self._store, stored.chat, message)
        ours = [one for one in known if one.wiring_id == wiring and one.event_id < stored.id]
        return [one for one in ours if one.is_edit or not is_chat_command(one.text)]

    async def normalize(self, stored: StoredEvent) -> StoredEvent:
        """Returns the event as the agent reads it.

        A press gets the recorded label of its button and the thread of its card, whatever the platform says. An event
        that refers to an album piece refers to the whole message.
        """
        event = stored.event
        if event.kind is not EventKind.CLICK:
            if event.refers_to is None:
                return stored
            whole = await album_parts.find_whole_id(self._store, stored.chat, event.refers_to)
            return replace(stored, event=replace(event, refers_to=whole))
        choice = await cards.find_choice(self._store, event.value)
        if choice is None:
            return stored
        return replace(stored, event=replace(event, text=choice.label, thread_id=choice.card.thread_id))

    async def _classify_text(self, stored: StoredEvent, agent_group: AgentGroupId) -> CommandDecision:
        """Returns what to do with the text of a message if it is a command. An edit is never a command."""
        if stored.event.kind is not EventKind.MESSAGE or not stored.event.text.lstrip().startswith("/"):
            return PassThrough()
        grants = await roles.list_for_user(self._store, stored.user_id)
        held = {grant.role for grant in grants}
        mine, to_us = is_admin(grants, agent_group), is_addressed(stored.event)
        return classify_command(stored.event.text, is_admin=mine, roles=held, is_addressed=to_us)

    async def _sender_grants(self, stored: StoredEvent, batch: RoutingBatch) -> Sequence[RoleGrant]:
        user = stored.user_id
        if user not in batch.grants:
            batch.grants[user] = await roles.list_for_user(self._store, user)
        return batch.grants[user]

    async def _is_sticky(
        self,
        stored: StoredEvent,
        wiring: Wiring,
        session: Session | None,
        routed: Mapping[SessionId, Sequence[RoutedEntry]],
    ) -> bool:
        """Returns whether the wiring has routed an event of this thread into the session, before or in this batch.

        An existing session is not enough: it may be left from an attempt that crashed, or be shared with other threads
        and chats.
        """
        if wiring.engage_mode is not EngageMode.MENTION_STICKY or session is None:
            return False
        thread = stored.event.thread_id
        rows = [row for row in routed.get(session.id, ()) if row.route.wiring_id == wiring.id and row.route.trigger]
        if any(row.stored.event.thread_id == thread for row in rows):
            return True
        return await routes.has_reached_thread(self._store, session.id, wiring.id, thread)

    async def _is_bot_loop(
        self, wiring: Wiring, session: Session | None, routed: Mapping[SessionId, Sequence[RoutedEntry]]
    ) -> bool:
        """Returns whether the last MAX_BOT_MESSAGES that the wiring routed into the session are all by bots."""
        if session is None:
            return False
        rows = [row for row in routed.get(session.id, ()) if row.route.wiring_id == wiring.id and row.route.trigger]
        by_bots = list(takewhile(lambda row: row.stored.event.sender.is_bot, reversed(rows)))
        left = MAX_BOT_MESSAGES - len(by_bots)
        if len(by_bots) < len(rows) or left <= 0:
            return left <= 0
        since = self._clock.now() - BOT_LOOP_WINDOW
        return await routes.count_recent_bots(self._store, session.id, wiring.id, window=left, since=since) == left

    async def _ensure_session(self, key: SessionKey) -> Session:
        async with self._store.transaction() as tx:
            return await conversations.get_or_create(tx, key, self._clock.now())


def route_to_session(route: Route, session: Session, *, trigger: bool = True) -> Route:
    """Returns the route with this session as its target."""
    outcome = RouteOutcome.WRITTEN if trigger else RouteOutcome.CONTEXT
    return replace(route, outcome=outcome, reason="", session_id=session.id, trigger=trigger)


def merge_files(
    old_files: Sequence[Attachment], new_files: Sequence[Attachment], *, replaced: Sequence[Attachment]
) -> tuple[Attachment, ...]:
    """Returns the files of an edited message: `new_files` in place of `replaced`, among `old_files`."""
    if not new_files:
        return tuple(old_files)
    old = {one.ref for one in replaced}
    at = next((at for at, one in enumerate(old_files) if one.ref in old), len(old_files))
    kept = [one for one in old_files if one.ref not in old]
    return (*kept[:at], *new_files, *kept[at:])

"""A session's address book: the names its agent may send to, and the chats behind them.

A session may always send to its own chat; one that an agent's chats share may send to each of them. Beside those there
are the destinations that an operator gave the agent group. The book is the permission: what is not in it when a row is
taken over is not sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from nanohost.db import messaging_groups, sessions
from nanohost.db.database import Queries
from nanohost.db.events import ChatKey
from nanohost.delivery.validate import AddressBook, origin_chat_id
from nanohost.errors import MailboxError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import AgentGroupId, MessagingGroup, Session
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import ChatId, Destination, Origin

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChats:
    """Where a session may send, by name. `own`: the chats it talks in; `destinations`: others, under names of their
    own; `current`: those of all these that have not moved."""

    own: Mapping[str, MessagingGroup]
    destinations: Mapping[str, MessagingGroup]
    current: frozenset[ChatKey] = frozenset()

    @property
    def default(self) -> str | None:
        """Where goes what names nobody and answers nothing: never to a chat that the session does not talk in."""
        return next(iter(self.own), None)


async def session_chats(db: Queries, session: Session) -> SessionChats:
    """An operator's name for a chat is kept, whatever a group calls itself: who may rename a group must not get what
    was meant for another chat."""
    found = await messaging_groups.list_for_session(
        db, agent_group=session.agent_group_id, messaging_group=session.messaging_group_id
    )
    given = {one.given_name: one.group for one in found if one.given_name is not None}
    own = _assign_names([one.group for one in found if one.given_name is None], given)
    return SessionChats(
        own=own,
        destinations={name: chat for name, chat in given.items() if name not in own},
        current=frozenset(_chat_key(one.group) for one in found if not one.has_moved),
    )


async def address_book(db: Queries, session: Session) -> AddressBook:
    """Where the session may send at the moment of acting, under the chats' names of now."""
    return build_address_book(await session_chats(db, session), session.thread_id)


def build_address_book(chats: SessionChats, thread_id: str | None) -> AddressBook:
    """The session's thread is one of its own chats'; a destination is a chat as a whole. Pure."""
    own = {name: _origin(chat, thread_id) for name, chat in chats.own.items()}
    threads = {origin_chat_id(place): thread_id for place in own.values()}
    given = {name: _origin(chat, threads.get(_chat_id(chat))) for name, chat in chats.destinations.items()}
    return AddressBook(by_name={**own, **given}, default=next(iter(own.values()), None))


def with_known_names(book: AddressBook, known: Sequence[Destination]) -> AddressBook:
    """The book under the names that the session's agent knows: a chat that is renamed or added meanwhile must not make
    one name mean another chat. A chat that the session has no more is in neither. Pure."""
    if not known:
        return book
    places = {origin_chat_id(place): place for place in book.by_name.values()}
    by_name = {one.name: places[one.chat] for one in known if one.chat is not None and one.chat in places}
    return AddressBook(by_name=by_name, default=book.default, unnamed_chats=frozenset(places))


def to_destinations(chats: SessionChats) -> list[Destination]:
    """What the runner is told, own chats first. Its agent sees the names alone."""
    return [
        Destination(name=name, display_name=chat.name or name, chat=_chat_id(chat)) for name, chat in chats.own.items()
    ] + [Destination(name=name, display_name=name, chat=_chat_id(chat)) for name, chat in chats.destinations.items()]


async def update_destinations(db: Queries, mailboxes: Mailboxes, agent_group: AgentGroupId) -> None:
    """Tell the running agents of a group where they may send now. Those that do not run are told when they start."""
    for session in await sessions.list_leased(db):
        if session.agent_group_id != agent_group:
            continue
        try:
            while not await _update_session(db, mailboxes, session):
                pass  # changed meanwhile: whoever writes last has written what holds
        except MailboxError as error:
            _log.warning("destination_update_failed", session=session.id, reason=str(error))


async def _update_session(db: Queries, mailboxes: Mailboxes, session: Session) -> bool:
    """Tell one session's agent. False if it is something else by now. Raises MailboxError."""
    chats = await session_chats(db, session)
    told = await mailboxes.read_inbound(session, lambda box: box.destinations())
    await mailboxes.update(
        session, partial(_write_destinations, merge_destinations(told, to_destinations(chats)), chats)
    )
    return await session_chats(db, session) == chats


def _write_destinations(names: Sequence[Destination], chats: SessionChats, box: InboundWriter) -> None:
    home = None if chats.default is None else _chat_id(chats.own[chats.default])
    box.set_destinations(names, next((one.name for one in names if one.chat == home), None))


def merge_destinations(previous: Sequence[Destination], latest: Sequence[Destination]) -> list[Destination]:
    """The names of now for an agent that knows others: no name may come to mean another chat while it runs. A chat
    that was renamed keeps the name it had; a name that still means something else is not told yet. Pure.
    """
    known = {one.chat: one.name for one in reversed(previous)}
    before = {(one.name, one.chat) for one in previous}
    current = {(one.name, one.chat) for one in latest}
    meant = {one.name: one.chat for one in previous if one.chat in {chat for _, chat in current}}
    names: dict[str, Destination] = {}
    for one in latest:
        had = known.get(one.chat, one.name)
        name = one.name if (one.name, one.chat) in before or (had, one.chat) in current else had
        if meant.get(name, one.chat) == one.chat:
            names.setdefault(name, replace(one, name=name))
    return list(names.values())


def _assign_names(chats: Sequence[MessagingGroup], reserved: Mapping[str, MessagingGroup]) -> dict[str, MessagingGroup]:
    """Short names that tell the chats apart, the same each time: from the chat's own name, else its platform.
    `reserved`: names that others have."""
    named: dict[str, MessagingGroup] = {}
    numbers: dict[str, int] = {}
    given_ours = {chat.id for chat in reserved.values()}
    for chat in chats:
        wish = _slug(chat.name) or _slug(chat.channel_type) or "chat"
        name, number = wish, 2
        while name in named or reserved.get(name, chat).id != chat.id:
            # All below the last number are taken, but perhaps not by others: tried one by one, thousands took a second.
            if name in named and chat.id not in given_ours:
                number = max(number, numbers.get(wish, 2))
            name, number = f"{wish}-{number}", number + 1
        named[name], numbers[wish] = chat, max(number, numbers.get(wish, 2))
    return named


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]


def _chat_key(chat: MessagingGroup) -> ChatKey:
    return ChatKey(chat.channel_type, chat.instance, chat.platform_id)


def _chat_id(chat: MessagingGroup) -> ChatId:
    return ChatId(chat.channel_type, chat.instance, chat.platform_id)


def _origin(chat: MessagingGroup, thread_id: str | None) -> Origin:
    return Origin(
        channel_type=chat.channel_type, instance=chat.instance, platform_id=chat.platform_id, thread_id=thread_id
    )

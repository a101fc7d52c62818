"""Builds a session's address book: the names that its agent may send to, and the chats that they stand for.

A session may always send to its own chat, and a session that several chats share to each of them. It may also send to
the destinations that an operator created for the agent group. The book is the permission: a row whose destination is
not in it when the row is collected is not sent.
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
    """The chats that a session may send to, by name. `own`: its own chats; `destinations`: others, by their
    own; `current`: those of all these that have not moved."""

    own: Mapping[str, MessagingGroup]
    destinations: Mapping[str, MessagingGroup]
    current: frozenset[ChatKey] = frozenset()

    @property
    def default(self) -> str | None:
        """The first own chat, for messages that name no destination and answer nothing; None without an own chat."""
        return next(iter(self.own), None)


async def session_chats(db: Queries, session: Session) -> SessionChats:
    """Returns the chats that the session may send to.

    A destination keeps the operator's name whatever a group is called: whoever can rename a group must not receive
    messages for another chat.
    """
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
    """Returns the session's address book as of now, with the current names of the chats."""
    return build_address_book(await session_chats(db, session), session.thread_id)


def build_address_book(chats: SessionChats, thread_id: str | None) -> AddressBook:
    """Builds the address book. `thread_id` applies to the session's own chats only, not to destinations. Pure."""
    own = {name: _origin(chat, thread_id) for name, chat in chats.own.items()}
    threads = {origin_chat_id(place): thread_id for place in own.values()}
    given = {name: _origin(chat, threads.get(_chat_id(chat))) for name, chat in chats.destinations.items()}
    return AddressBook(by_name={**own, **given}, default=next(iter(own.values()), None))


def with_known_names(book: AddressBook, known: Sequence[Destination]) -> AddressBook:
    """Returns the book with the names that the agent knows. It never includes a chat that the session has lost. Pure.

    If a chat is renamed or added meanwhile, no name that the agent knows may come to mean another chat.
    """
    if not known:
        return book
    places = {origin_chat_id(place): place for place in book.by_name.values()}
    by_name = {one.name: places[one.chat] for one in known if one.chat is not None and one.chat in places}
    return AddressBook(by_name=by_name, default=book.default, unnamed_chats=frozenset(places))


def to_destinations(chats: SessionChats) -> list[Destination]:
    """Returns the destinations for the runner, own chats first. Its agent sees only the names."""
    return [
        Destination(name=name, display_name=chat.name or name, chat=_chat_id(chat)) for name, chat in chats.own.items()
    ] + [Destination(name=name, display_name=name, chat=_chat_id(chat)) for name, chat in chats.destinations.items()]


async def update_destinations(db: Queries, mailboxes: Mailboxes, agent_group: AgentGroupId) -> None:
    """Writes the current destinations into the mailboxes of a group's running sessions; others get them at start."""
    for session in await sessions.list_leased(db):
        if session.agent_group_id != agent_group:
            continue
        try:
            while not await _update_session(db, mailboxes, session):
                pass  # changed meanwhile: write again, so that the last write has the current destinations
        except MailboxError as error:
            _log.warning("destination_update_failed", session=session.id, reason=str(error))


async def _update_session(db: Queries, mailboxes: Mailboxes, session: Session) -> bool:
    """Writes one session's destinations; returns False if they changed meanwhile. Raises MailboxError."""
    chats = await session_chats(db, session)
    written = await mailboxes.read_inbound(session, lambda box: box.destinations())
    await mailboxes.update(
        session, partial(_write_destinations, merge_destinations(written, to_destinations(chats)), chats)
    )
    return await session_chats(db, session) == chats


def _write_destinations(names: Sequence[Destination], chats: SessionChats, box: InboundWriter) -> None:
    home = None if chats.default is None else _chat_id(chats.own[chats.default])
    box.set_destinations(names, next((one.name for one in names if one.chat == home), None))


def merge_destinations(previous: Sequence[Destination], latest: Sequence[Destination]) -> list[Destination]:
    """Returns the latest destinations for a running agent, so that no name it knows comes to mean another chat. Pure.

    A renamed chat keeps its previous name. A new name that still stands for another chat is left out.
    """
    known = {one.chat: one.name for one in reversed(previous)}
    before = {(one.name, one.chat) for one in previous}
    current = {(one.name, one.chat) for one in latest}
    chats_by_name = {one.name: one.chat for one in previous if one.chat in {chat for _, chat in current}}
    names: dict[str, Destination] = {}
    for one in latest:
        had = known.get(one.chat, one.name)
        name = one.name if (one.name, one.chat) in before or (had, one.chat) in current else had
        if chats_by_name.get(name, one.chat) == one.chat:
            names.setdefault(name, replace(one, name=name))
    return list(names.values())


def _assign_names(chats: Sequence[MessagingGroup], reserved: Mapping[str, MessagingGroup]) -> dict[str, MessagingGroup]:
    """Returns short unique names for the chats, the same each time, made from the chat's name or else its platform.

    `reserved`: names of other chats.
    """
    named: dict[str, MessagingGroup] = {}
    numbers: dict[str, int] = {}
    given_ours = {chat.id for chat in reserved.values()}
    for chat in chats:
        wish = _slug(chat.name) or _slug(chat.channel_type) or "chat"
        name, number = wish, 2
        while name in named or reserved.get(name, chat).id != chat.id:
            # Numbers below the last one are taken here: trying each of them took a second for thousands of chats.
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

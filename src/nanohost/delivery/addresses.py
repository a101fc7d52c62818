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

from nanohost.delivery.examine import AddressBook, chat_of
from nanohost.errors import MailboxError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import AgentGroupId, MessagingGroup, Session
from nanohost.store import destinations as named_chats
from nanohost.store import messaging_groups, sessions
from nanohost.store.database import Queries
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import ChatId, Destination, Origin

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chats:
    """Where a session may send, by name. `own`: the chats it talks in; `given`: others, under names of their own."""

    own: Mapping[str, MessagingGroup]
    given: Mapping[str, MessagingGroup]

    @property
    def default(self) -> str | None:
        """Where goes what names nobody and answers nothing: never to a chat that the session does not talk in."""
        return next(iter(self.own), None)


async def chats_of(db: Queries, session: Session) -> Chats:
    """An operator's name for a chat is kept, whatever a group calls itself: who may rename a group must not get what
    was meant for another chat."""
    if session.messaging_group_id is not None:
        chats: Sequence[MessagingGroup] = [await messaging_groups.as_it_is_now(db, session.messaging_group_id)]
    else:
        chats = await messaging_groups.sharing_an_agent(db, session.agent_group_id)
    given = {
        one.name: await messaging_groups.get(db, one.messaging_group_id)
        for one in await named_chats.of_group(db, session.agent_group_id)
    }
    own = _named(chats, given)
    return Chats(own=own, given={name: chat for name, chat in given.items() if name not in own})


async def address_book(db: Queries, session: Session) -> AddressBook:
    """Where the session may send at the moment of acting, under the chats' names of now."""
    return book_of(await chats_of(db, session), session.thread_id)


def book_of(chats: Chats, thread_id: str | None) -> AddressBook:
    """The session's thread is one of its own chats'; a destination is a chat as a whole. Pure."""
    own = {name: _origin(chat, thread_id) for name, chat in chats.own.items()}
    threads = {chat_of(place): thread_id for place in own.values()}
    given = {name: _origin(chat, threads.get(_id(chat))) for name, chat in chats.given.items()}
    return AddressBook(by_name={**own, **given}, default=next(iter(own.values()), None))


def as_told(book: AddressBook, told: Sequence[Destination]) -> AddressBook:
    """The book under the names that the session's agent knows: a chat that is renamed or added meanwhile must not make
    one name mean another chat. A chat that the session has no more is in neither. Pure."""
    if not told:
        return book
    places = {chat_of(place): place for place in book.by_name.values()}
    by_name = {one.name: places[one.chat] for one in told if one.chat is not None and one.chat in places}
    return AddressBook(by_name=by_name, default=book.default, unnamed=frozenset(places))


def destinations(chats: Chats) -> list[Destination]:
    """What the runner is told, own chats first. Its agent sees the names alone."""
    return [
        Destination(name=name, display_name=chat.name or name, chat=_id(chat)) for name, chat in chats.own.items()
    ] + [Destination(name=name, display_name=name, chat=_id(chat)) for name, chat in chats.given.items()]


async def tell_addresses(db: Queries, mailboxes: Mailboxes, agent_group: AgentGroupId) -> None:
    """Tell the running agents of a group where they may send now. Those that do not run are told when they start."""
    for session in await sessions.leased(db):
        if session.agent_group_id != agent_group:
            continue
        try:
            while not await _told(db, mailboxes, session):
                pass  # changed meanwhile: whoever writes last has written what holds
        except MailboxError as error:
            _log.warning("addresses_not_told", session=session.id, reason=str(error))


async def _told(db: Queries, mailboxes: Mailboxes, session: Session) -> bool:
    """Tell one session's agent. False if it is something else by now. Raises MailboxError."""
    chats = await chats_of(db, session)
    told = await mailboxes.inbound(session, lambda box: box.destinations())
    await mailboxes.update(session, partial(_tell, retold(told, destinations(chats)), chats))
    return await chats_of(db, session) == chats


def _tell(names: Sequence[Destination], chats: Chats, box: InboundWriter) -> None:
    home = None if chats.default is None else _id(chats.own[chats.default])
    box.set_destinations(names, next((one.name for one in names if one.chat == home), None))


def retold(told: Sequence[Destination], now: Sequence[Destination]) -> list[Destination]:
    """The names of now for an agent that knows others: no name may come to mean another chat while it runs. A chat
    that was renamed keeps the name it had; a name that still means something else is not told yet. Pure.
    """
    known = {one.chat: one.name for one in reversed(told)}
    before = {(one.name, one.chat) for one in told}
    current = {(one.name, one.chat) for one in now}
    meant = {one.name: one.chat for one in told if one.chat in {chat for _, chat in current}}
    names: dict[str, Destination] = {}
    for one in now:
        had = known.get(one.chat, one.name)
        name = one.name if (one.name, one.chat) in before or (had, one.chat) in current else had
        if meant.get(name, one.chat) == one.chat:
            names.setdefault(name, replace(one, name=name))
    return list(names.values())


def _named(chats: Sequence[MessagingGroup], given: Mapping[str, MessagingGroup]) -> dict[str, MessagingGroup]:
    """Short names that tell the chats apart, the same each time: from the chat's own name, else its platform. `given`:
    names that others have."""
    named: dict[str, MessagingGroup] = {}
    numbers: dict[str, int] = {}
    given_ours = {chat.id for chat in given.values()}
    for chat in chats:
        wish = _slug(chat.name) or _slug(chat.channel_type) or "chat"
        name, number = wish, 2
        while name in named or given.get(name, chat).id != chat.id:
            # All below the last number are taken, but perhaps not by others: tried one by one, thousands took a second.
            if name in named and chat.id not in given_ours:
                number = max(number, numbers.get(wish, 2))
            name, number = f"{wish}-{number}", number + 1
        named[name], numbers[wish] = chat, max(number, numbers.get(wish, 2))
    return named


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]


def _id(chat: MessagingGroup) -> ChatId:
    return ChatId(chat.channel_type, chat.instance, chat.platform_id)


def _origin(chat: MessagingGroup, thread_id: str | None) -> Origin:
    return Origin(
        channel_type=chat.channel_type, instance=chat.instance, platform_id=chat.platform_id, thread_id=thread_id
    )

"""A session's address book: the names its agent may send to, and the chats behind them.

A session may always send to its own chat; one that an agent's chats share may send to each of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nanohost.delivery.examine import AddressBook, chat_of
from nanohost.model import MessagingGroup, Session
from nanohost.store import messaging_groups
from nanohost.store.database import Queries
from nanohost_protocol.rows import ChatId, Destination, Origin


async def chats_of(db: Queries, session: Session) -> dict[str, MessagingGroup]:
    """The session's chats by the name its agent calls them, own chat first."""
    if session.messaging_group_id is not None:
        chats: Sequence[MessagingGroup] = [await messaging_groups.get(db, session.messaging_group_id)]
    else:
        chats = await messaging_groups.sharing_an_agent(db, session.agent_group_id)
    return _named(chats)


async def address_book(db: Queries, session: Session) -> AddressBook:
    """Where the session may send at the moment of acting, under the chats' names of now."""
    chats = await chats_of(db, session)
    by_name = {name: _origin(chat, session.thread_id) for name, chat in chats.items()}
    return AddressBook(by_name=by_name, default=next(iter(by_name.values()), None))


def as_told(book: AddressBook, told: Sequence[Destination]) -> AddressBook:
    """The book under the names that the session's agent knows: a chat that is renamed or added meanwhile must not make
    one name mean another chat. A chat that the session has no more is in neither. Pure."""
    if not told:
        return book
    places = {chat_of(place): place for place in book.by_name.values()}
    by_name = {one.name: places[one.chat] for one in told if one.chat is not None and one.chat in places}
    return AddressBook(by_name=by_name, default=book.default, unnamed=frozenset(places))


def destinations(chats: dict[str, MessagingGroup]) -> list[Destination]:
    """What the runner is told. Its agent sees the names alone."""
    return [
        Destination(
            name=name,
            display_name=chat.name or name,
            chat=ChatId(chat.channel_type, chat.instance, chat.platform_id),
        )
        for name, chat in chats.items()
    ]


def _named(chats: Sequence[MessagingGroup]) -> dict[str, MessagingGroup]:
    """Short names that tell the chats apart, the same each time: from the chat's own name, else its platform."""
    named: dict[str, MessagingGroup] = {}
    for chat in chats:
        wish = _slug(chat.name) or _slug(chat.channel_type) or "chat"
        name, number = wish, 2
        while name in named:
            name, number = f"{wish}-{number}", number + 1
        named[name] = chat
    return named


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]


def _origin(chat: MessagingGroup, thread_id: str | None) -> Origin:
    return Origin(
        channel_type=chat.channel_type, instance=chat.instance, platform_id=chat.platform_id, thread_id=thread_id
    )

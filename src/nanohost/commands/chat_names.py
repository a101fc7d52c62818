"""Chats as operators know them: by channel and name, beside the ids of what is in them.

Promises: two chats that are called alike are told apart by the platform's ids.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nanohost.commands.setup import channel_name
from nanohost.errors import UsageError
from nanohost.model import AgentGroup, AgentGroupId, MessagingGroup, MessagingGroupId, Session, SessionMode
from nanohost.store import messages, messaging_groups, moved_chats, sessions, wirings
from nanohost.store.database import Queries, Reports
from nanohost.store.events import ChatKey

MOST_SHARED = 3
"""Of the chats that share a conversation, how many are named."""

MOST_NAMED = 5
"""Of the chats that a word may mean."""
CHAT = "its channel and name as lists show it, or a part of that; CHANNEL:ID; or its number"
"""How a chat is typed, for the help of arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatNames:
    """What the known chats are called. `shared`: by agent group, the chats that share its one conversation."""

    by_id: Mapping[MessagingGroupId, str]
    by_place: Mapping[ChatKey, str]
    shared: Mapping[AgentGroupId, Sequence[MessagingGroupId]]

    def of_session(self, session: Session) -> str:
        """The chat that a conversation is in, or the chats."""
        if session.messaging_group_id is not None:
            return self.by_id[session.messaging_group_id]
        names = [self.by_id[chat] for chat in self.shared.get(session.agent_group_id, ())]
        others = len(names) - MOST_SHARED
        return ", ".join([*names[:MOST_SHARED], *([f"{others} more"] if others > 0 else [])]) or "no chat"

    def of_place(self, place: ChatKey, *, called: str = "") -> str:
        """A chat by its place. `called`: its name, if it is not known here."""
        return self.by_place.get(place) or _name(place, called)


async def chat_names(db: Queries) -> ChatNames:
    """As they are called now."""
    chats = await messaging_groups.every(db)
    shared: dict[AgentGroupId, list[MessagingGroupId]] = defaultdict(list)
    for wiring in await wirings.every(db):
        if wiring.session_mode is SessionMode.AGENT_SHARED:
            shared[wiring.agent_group_id].append(wiring.messaging_group_id)
    return named(chats, shared)


def named(chats: Sequence[MessagingGroup], shared: Mapping[AgentGroupId, Sequence[MessagingGroupId]]) -> ChatNames:
    """Pure."""
    plain = {chat.id: _name(_place(chat), chat.name) for chat in chats}
    times = Counter(plain.values())
    by_id = {
        chat.id: plain[chat.id] if times[plain[chat.id]] == 1 else f"{plain[chat.id]} ({chat.platform_id})"
        for chat in chats
    }
    by_place = {_place(chat): by_id[chat.id] for chat in chats}
    return ChatNames(by_id=by_id, by_place=by_place, shared=shared)


def _place(chat: MessagingGroup) -> ChatKey:
    return ChatKey(chat.channel_type, chat.instance, chat.platform_id)


def _name(place: ChatKey, called: str) -> str:
    """The channel, and what people call the chat; else what the platform calls it."""
    if not place.channel_type:
        return "no chat"
    channel = channel_name(place)
    return channel if called == place.channel_type else f"{channel} {called or place.platform_id}"


async def sessions_named(db: Reports, ids: Iterable[str]) -> Mapping[str, str]:
    """By session, what its chat is called; sessions that are not there are left out."""
    found, names = await sessions.named(db, sorted(set(ids))), await chat_names(db)
    return {id: names.of_session(session) for id, session in found.items()}


async def chat_sessions(db: Reports, text: str | None) -> MessagingGroupId | None:
    """The chat whose sessions are meant by --chat, as `known_chat` reads it. None: none was typed. Raises UsageError
    also for a chat that has no sessions, because nobody set it up."""
    if text is None:
        return None
    chat = await messaging_groups.of_chat(db, await known_chat(db, text))
    if chat is None:
        raise UsageError(f"no agent is in the chat {text[:80]!r}", hint="nanohost wirings create --help")
    return chat.id


async def session_in(db: Reports, text: str, group: AgentGroup | None = None) -> tuple[Session, str]:
    """The conversation in a chat, of its agent or of this one, and what is to be said of the choice if there are
    several: it is the one that was active last. Raises UsageError for none."""
    chat = await chat_sessions(db, text)
    assert chat is not None, "a chat was typed"
    found = await sessions.of_chat(db, chat, agent_group=None if group is None else group.id, limit=2)
    name = (await chat_names(db)).by_id[chat]
    if not found:
        raise UsageError(f"there is no conversation in {name} yet", hint="write to it first; nanohost sessions list")
    if len(found) == 1:
        return found[0], ""
    note = f"{name} has several conversations: this is the one that was active last; --session names another"
    return found[0], note


async def known_chat(db: Reports, text: str) -> ChatKey:
    """The chat that is meant by what is shown of it: its channel and name, or its name or a part of it; by
    CHANNEL:ID, or the platform's id alone; or by its number. Raises UsageError for none, and for several."""
    chats = await messaging_groups.every(db)
    names = named(chats, {}).by_id
    wanted = " ".join(text.split()).casefold()
    exactly = [chat for chat in chats if wanted in _known_as(chat, names[chat.id])]
    numbered = [chat for chat in chats if wanted == str(chat.id)]
    partly = [chat for chat in chats if wanted and wanted in names[chat.id].casefold()]
    found = {_place(chat): names[chat.id] for chat in exactly or numbered or partly}
    if not found:
        seen = await messages.chats(db, text.strip())
        found = {await moved_chats.current(db, place): _name(place, called) for place, called in seen.items()}
    if not found:
        raise UsageError(f"there is no chat {text[:80]!r}", hint="nanohost messaging-groups list")
    if len(found) > 1:
        named_so = ", ".join(list(found.values())[:MOST_NAMED])
        raise UsageError(f"{text[:80]!r} may be {len(found)} chats: {named_so}", hint="--chat CHANNEL:ID names one")
    return next(iter(found))


def _known_as(chat: MessagingGroup, name: str) -> set[str]:
    place = _place(chat)
    ids = (chat.platform_id, f"{place.channel_type}:{chat.platform_id}")
    whole = f"{place.channel_type}:{place.instance}:{chat.platform_id}"
    return {one.casefold() for one in (name, chat.name or name, *ids, whole)}

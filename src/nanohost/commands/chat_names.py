"""Chats as operators know them: by channel and name, beside the ids of what is in them.

Promises: two chats that are called alike are told apart by the platform's ids.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nanohost.commands.setup import channel_name
from nanohost.model import AgentGroupId, MessagingGroup, MessagingGroupId, Session, SessionMode
from nanohost.store import messaging_groups, wirings
from nanohost.store.database import Queries
from nanohost.store.events import ChatKey

MOST_SHARED = 3
"""Of the chats that share a conversation, how many are named."""


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

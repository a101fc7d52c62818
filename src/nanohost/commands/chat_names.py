"""Resolves chats as operators name them, by channel and name, and formats them so.

Promises: two chats that are called alike are told apart by the platform's ids.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nanohost.commands.setup import channel_name
from nanohost.db import messages, messaging_groups, moved_chats, sessions, wirings
from nanohost.db.database import Queries, ReportReader
from nanohost.db.events import ChatKey
from nanohost.errors import UsageError
from nanohost.model import AgentGroup, AgentGroupId, MessagingGroup, MessagingGroupId, Session, SessionMode

MAX_SHARED_NAMES = 3
"""Of the chats that share a conversation, how many are named."""

MAX_CANDIDATES = 5
"""Of the chats that a word may mean."""
CHAT_HELP = "its channel and name as lists show it, or a part of that; CHANNEL:ID; or its number"
"""How a chat is typed, for the help of arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatNames:
    """What the known chats are called. `shared`: by agent group, the chats that share its one conversation."""

    by_id: Mapping[MessagingGroupId, str]
    by_chat_key: Mapping[ChatKey, str]
    shared: Mapping[AgentGroupId, Sequence[MessagingGroupId]]

    def for_session(self, session: Session) -> str:
        """The chat that a conversation is in, or the chats."""
        if session.messaging_group_id is not None:
            return self.by_id[session.messaging_group_id]
        names = [self.by_id[chat] for chat in self.shared.get(session.agent_group_id, ())]
        others = len(names) - MAX_SHARED_NAMES
        return ", ".join([*names[:MAX_SHARED_NAMES], *([f"{others} more"] if others > 0 else [])]) or "no chat"

    def for_chat_key(self, chat_key: ChatKey, *, fallback_name: str = "") -> str:
        """A chat by its place. `fallback_name`: its name, if it is not known here."""
        return self.by_chat_key.get(chat_key) or _format_chat_name(chat_key, fallback_name)


async def load_chat_names(db: Queries) -> ChatNames:
    """As they are called now."""
    chats = await messaging_groups.list_all(db)
    shared: dict[AgentGroupId, list[MessagingGroupId]] = defaultdict(list)
    for wiring in await wirings.list_all(db):
        if wiring.session_mode is SessionMode.AGENT_SHARED:
            shared[wiring.agent_group_id].append(wiring.messaging_group_id)
    return build_chat_names(chats, shared)


def build_chat_names(
    chats: Sequence[MessagingGroup], shared: Mapping[AgentGroupId, Sequence[MessagingGroupId]]
) -> ChatNames:
    """Pure."""
    plain = {chat.id: _format_chat_name(_chat_key(chat), chat.name) for chat in chats}
    times = Counter(plain.values())
    by_id = {
        chat.id: plain[chat.id] if times[plain[chat.id]] == 1 else f"{plain[chat.id]} ({chat.platform_id})"
        for chat in chats
    }
    by_place = {_chat_key(chat): by_id[chat.id] for chat in chats}
    return ChatNames(by_id=by_id, by_chat_key=by_place, shared=shared)


def _chat_key(chat: MessagingGroup) -> ChatKey:
    return ChatKey(chat.channel_type, chat.instance, chat.platform_id)


def _format_chat_name(chat_key: ChatKey, name: str) -> str:
    """The channel, and what people call the chat; else what the platform calls it."""
    if not chat_key.channel_type:
        return "no chat"
    channel = channel_name(chat_key)
    return channel if name == chat_key.channel_type else f"{channel} {name or chat_key.platform_id}"


async def session_chat_names(db: ReportReader, ids: Iterable[str]) -> Mapping[str, str]:
    """By session, what its chat is called; sessions that are not there are left out."""
    found, names = await sessions.find_by_ids(db, sorted(set(ids))), await load_chat_names(db)
    return {id: names.for_session(session) for id, session in found.items()}


async def resolve_chat_id(db: ReportReader, text: str | None) -> MessagingGroupId | None:
    """The chat whose sessions are meant by --chat, as `resolve_chat` reads it. None: none was typed. Raises UsageError
    also for a chat that has no sessions, because nobody set it up."""
    if text is None:
        return None
    chat = await messaging_groups.find_by_chat(db, await resolve_chat(db, text))
    if chat is None:
        raise UsageError(f"no agent is in the chat {text[:80]!r}", hint="nanohost wirings create --help")
    return chat.id


async def resolve_named_session(db: ReportReader, text: str, group: AgentGroup | None = None) -> tuple[Session, str]:
    """The conversation in a chat, of its agent or of this one, and what is to be said of the choice if there are
    several: it is the one that was active last. Raises UsageError for none."""
    chat = await resolve_chat_id(db, text)
    assert chat is not None, "a chat was typed"
    found = await sessions.list_for_chat(db, chat, agent_group=None if group is None else group.id, limit=2)
    name = (await load_chat_names(db)).by_id[chat]
    if not found:
        raise UsageError(f"there is no conversation in {name} yet", hint="write to it first; nanohost sessions list")
    if len(found) == 1:
        return found[0], ""
    note = f"{name} has several conversations: this is the one that was active last; --session names another"
    return found[0], note


async def resolve_chat(db: ReportReader, text: str) -> ChatKey:
    """The chat that is meant by what is shown of it: its channel and name, or its name or a part of it; by
    CHANNEL:ID, or the platform's id alone; or by its number. Raises UsageError for none, and for several."""
    chats = await messaging_groups.list_all(db)
    names = build_chat_names(chats, {}).by_id
    wanted = " ".join(text.split()).casefold()
    exactly = [chat for chat in chats if wanted in _chat_aliases(chat, names[chat.id])]
    numbered = [chat for chat in chats if wanted == str(chat.id)]
    partly = [chat for chat in chats if wanted and wanted in names[chat.id].casefold()]
    found = {_chat_key(chat): names[chat.id] for chat in exactly or numbered or partly}
    if not found:
        seen = await messages.find_chats(db, text.strip())
        found = {
            await moved_chats.current_chat(db, place): _format_chat_name(place, called)
            for place, called in seen.items()
        }
    if not found:
        raise UsageError(f"there is no chat {text[:80]!r}", hint="nanohost chats list")
    if len(found) > 1:
        named_so = ", ".join(list(found.values())[:MAX_CANDIDATES])
        raise UsageError(f"{text[:80]!r} may be {len(found)} chats: {named_so}", hint="--chat CHANNEL:ID names one")
    return next(iter(found))


def _chat_aliases(chat: MessagingGroup, name: str) -> set[str]:
    place = _chat_key(chat)
    ids = (chat.platform_id, f"{place.channel_type}:{chat.platform_id}")
    whole = f"{place.channel_type}:{place.instance}:{chat.platform_id}"
    return {one.casefold() for one in (name, chat.name or name, *ids, whole)}

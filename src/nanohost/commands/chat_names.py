"""Resolves chats as operators name them, by channel and name, and formats them so.

Promises: two chats with the same name are distinguished by the platform's ids.
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
"""The most chats of a shared session that are listed by name."""

MAX_CANDIDATES = 5
"""The most chats that are listed for an ambiguous name."""
CHAT_HELP = "its channel and name as lists show it, or a part of that; CHANNEL:ID; or its number"
"""The help of arguments that name a chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatNames:
    """The names of the known chats. `shared`: by agent group, the chats that share its one session."""

    by_id: Mapping[MessagingGroupId, str]
    by_chat_key: Mapping[ChatKey, str]
    shared: Mapping[AgentGroupId, Sequence[MessagingGroupId]]

    def for_session(self, session: Session) -> str:
        """Returns the chat or chats of a session."""
        if session.messaging_group_id is not None:
            return self.by_id[session.messaging_group_id]
        names = [self.by_id[chat] for chat in self.shared.get(session.agent_group_id, ())]
        others = len(names) - MAX_SHARED_NAMES
        return ", ".join([*names[:MAX_SHARED_NAMES], *([f"{others} more"] if others > 0 else [])]) or "no chat"

    def for_chat_key(self, chat_key: ChatKey, *, fallback_name: str = "") -> str:
        """Returns the name of a chat by its key. `fallback_name`: the name of a chat that is not known."""
        return self.by_chat_key.get(chat_key) or _format_chat_name(chat_key, fallback_name)


async def load_chat_names(db: Queries) -> ChatNames:
    """Loads the current names of all chats."""
    chats = await messaging_groups.list_all(db)
    shared: dict[AgentGroupId, list[MessagingGroupId]] = defaultdict(list)
    for wiring in await wirings.list_all(db):
        if wiring.session_mode is SessionMode.AGENT_SHARED:
            shared[wiring.agent_group_id].append(wiring.messaging_group_id)
    return build_chat_names(chats, shared)


def build_chat_names(
    chats: Sequence[MessagingGroup], shared: Mapping[AgentGroupId, Sequence[MessagingGroupId]]
) -> ChatNames:
    """Builds the names. Pure."""
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
    """Returns the channel and the name of the chat, or its platform id if it has no name."""
    if not chat_key.channel_type:
        return "no chat"
    channel = channel_name(chat_key)
    return channel if name == chat_key.channel_type else f"{channel} {name or chat_key.platform_id}"


async def session_chat_names(db: ReportReader, ids: Iterable[str]) -> Mapping[str, str]:
    """Returns the chat names by session; leaves out sessions that do not exist."""
    found, names = await sessions.find_by_ids(db, sorted(set(ids))), await load_chat_names(db)
    return {id: names.for_session(session) for id, session in found.items()}


async def resolve_chat_id(db: ReportReader, text: str | None) -> MessagingGroupId | None:
    """Resolves the text of --chat, as `resolve_chat` does; None if it was not typed.

    Raises UsageError also for a chat that has no sessions because it was never wired.
    """
    if text is None:
        return None
    chat = await messaging_groups.find_by_chat(db, await resolve_chat(db, text))
    if chat is None:
        raise UsageError(f"no agent is in the chat {text[:80]!r}", hint="nanohost wirings create --help")
    return chat.id


async def resolve_named_session(db: ReportReader, text: str, group: AgentGroup | None = None) -> tuple[Session, str]:
    """Returns the session in a chat that was active last, and a sentence about the choice if there are several.

    `group`: only sessions of this agent group. Raises UsageError if there is none.
    """
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
    """Resolves a chat by its channel and name, its name or a part of it, CHANNEL:ID, the platform's id, or its number.

    Raises UsageError for no match and for several.
    """
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

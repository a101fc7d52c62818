"""Creates what an install needs first: an agent group with its folder, a chat, and a wiring between them.

Used by the commands and by a first `nanohost chat`; repeating a step changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from nanohost.config.home import Home
from nanohost.db import agent_groups, audit, messaging_groups, sessions, wirings
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Queries, Store, Transaction
from nanohost.db.events import ChatKey
from nanohost.errors import UsageError
from nanohost.model import AgentGroup, EngageMode, MessagingGroup, Session, SessionMode, UnknownSender, Wiring
from nanohost.routing.patterns import PatternError, validate_pattern
from nanohost.text.phrases import did_you_mean

MAIN_GROUP = "main"
TERMINAL_CHANNEL = ("terminal", "default")
"""The channel that is always enabled."""
TERMINAL_CHAT = "local"
FOLDER_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAddress:
    """A chat as an operator types it: TYPE or TYPE:INSTANCE, and the platform's id."""

    channel_type: str
    instance: str
    platform_id: str


def parse_chat_address(channel: str, chat: str) -> ChatAddress:
    """Parses a chat address. Raises UsageError for an empty part."""
    channel_type, _, instance = channel.partition(":")
    if not channel_type or not chat:
        raise UsageError("a chat needs a channel and an id", hint="--channel telegram --chat 123456")
    return ChatAddress(channel_type=channel_type, instance=instance or "default", platform_id=chat)


def audit_chat_name(channel: str, chat: str) -> str:
    """Returns the name of a chat in cards, rules and the audit log."""
    place = parse_chat_address(channel, chat)
    return audit.chat_target(ChatKey(place.channel_type, place.instance, place.platform_id))


def channel_name(chat: MessagingGroup | ChatKey) -> str:
    """The chat's channel as an operator types it: TYPE, or TYPE:INSTANCE."""
    return chat.channel_type if chat.instance == "default" else f"{chat.channel_type}:{chat.instance}"


def parse_engage_mode(text: str) -> tuple[EngageMode, str]:
    """`always`, `mention`, `mention-sticky` or `pattern:REGEX` as mode and pattern. Raises UsageError."""
    if text == "always":
        return EngageMode.PATTERN, "."
    if text in (EngageMode.MENTION, EngageMode.MENTION_STICKY):
        return EngageMode(text), ""
    word, _, pattern = text.partition(":")
    if word != "pattern" or not pattern:
        raise UsageError(
            f"there is no engage mode {text[:80]!r}", hint="always, mention, mention-sticky or pattern:REGEX"
        )
    return EngageMode.PATTERN, _validate_pattern(pattern)


def _validate_pattern(pattern: str) -> str:
    try:
        validate_pattern(pattern)
    except PatternError as error:
        raise UsageError(
            f"{pattern[:80]!r} is no pattern: {error}", hint="pattern:^hey matches what begins with hey"
        ) from None
    return pattern


async def ensure_group(
    store: Store,
    home: Home,
    folder: str,
    *,
    who: str,
    now: datetime,
    name: str | None = None,
    provider: str | None = None,
    model: str | None = None,
) -> AgentGroup:
    """Returns the agent group of this folder; creates it with its CLAUDE.md if missing.

    `who`: the actor, as in the audit log. Raises UsageError for an invalid name.
    """
    if not FOLDER_PATTERN.fullmatch(folder):
        raise UsageError(
            f"{folder!r} cannot be a folder's name", hint="small letters, digits, - and _, at most 41 of them"
        )
    async with store.transaction() as tx:
        found = await agent_groups.find(tx, folder)
        if found is None:
            name = name or folder
            found = await agent_groups.add(tx, folder=folder, name=name, provider=provider, model=model, now=now)
            asked = {"name": name, "provider": provider, "model": model}
            await audit.record(
                tx,
                actor=who,
                action="agents.create",
                target=folder,
                origin=audit.LOCAL,
                outcome=AuditOutcome.DONE,
                now=now,
                details={name: value for name, value in asked.items() if value is not None},
            )
    home.prepare()
    home.create_group_folder(folder, found.name)
    return found


async def resolve_group(db: Queries, folder: str) -> AgentGroup:
    """The agent group of this folder. Raises UsageError with the nearest name."""
    found = await agent_groups.find(db, folder)
    if found is not None:
        return found
    names = [group.folder for group in await agent_groups.list_all(db)]
    hint = did_you_mean(folder, names) or f"nanohost agents create {folder}"
    raise UsageError(f"there is no agent group {folder!r}", hint=hint)


async def resolve_session(db: Queries, id_prefix: str) -> Session:
    """Returns the only session whose id has this prefix. Raises UsageError for none, for several, and for an empty
    prefix, as from an unset shell variable."""
    found = await sessions.find_by_prefix(db, id_prefix) if id_prefix else []
    if len(found) != 1:
        what = "no session" if not found else f"{len(found)} sessions"
        raise UsageError(f"there is {what} whose id begins with {id_prefix[:80]!r}", hint="nanohost sessions list")
    return found[0]


async def ensure_chat(
    tx: Transaction, address: ChatAddress, *, unknown: UnknownSender | None, name: str = "", now: datetime
) -> MessagingGroup:
    """Returns the messaging group; creates it if missing (unknown senders then need approval). Sets a given policy."""
    found = await messaging_groups.find(
        tx, channel_type=address.channel_type, instance=address.instance, platform_id=address.platform_id
    )
    if found is None:
        return await messaging_groups.add(
            tx,
            channel_type=address.channel_type,
            instance=address.instance,
            platform_id=address.platform_id,
            is_group=False,
            name=name,
            unknown_sender=unknown or UnknownSender.REQUEST_APPROVAL,
            now=now,
        )
    if unknown is not None and unknown is not found.unknown_sender:
        await messaging_groups.set_unknown_sender(tx, found.id, unknown)
    return await messaging_groups.get(tx, found.id)


async def create_wiring(
    tx: Transaction,
    chat: MessagingGroup,
    group: AgentGroup,
    *,
    engage: tuple[EngageMode, str] = (EngageMode.PATTERN, "."),
    session: SessionMode = SessionMode.SHARED,
    priority: int = 0,
    now: datetime,
) -> Wiring:
    """Wires a chat to an agent group. Raises UsageError if they are wired already."""
    if any(wiring.agent_group_id == group.id for wiring in await wirings.list_for_chat(tx, chat.id)):
        raise UsageError(
            f"{chat.channel_type} {chat.platform_id} is wired to {group.folder} already",
            hint="nanohost wirings list; nanohost wirings update ID changes how",
        )
    mode, pattern = engage
    return await wirings.add(
        tx,
        messaging_group=chat.id,
        agent_group=group.id,
        engage_mode=mode,
        engage_pattern=pattern,
        session_mode=session,
        priority=priority,
        now=now,
    )

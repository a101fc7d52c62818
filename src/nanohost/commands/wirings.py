"""Wirings: which agents take part in which chats."""

from __future__ import annotations

import asyncio

from pydantic import Field

from nanohost.channels.loader import discover
from nanohost.commands.context import CommandContext
from nanohost.commands.registry import Arguments, Command
from nanohost.commands.setup import ChatPlace, chat_place, engage_mode, ensure_chat, known_group, wire
from nanohost.commands.show import Json, plain
from nanohost.errors import UsageError
from nanohost.model import EngageMode, MessagingGroup, SessionMode, UnknownSender, Wiring, WiringId
from nanohost.settings import channel_instances
from nanohost.store import agent_groups, messaging_groups, wirings
from nanohost.store.database import Queries

TERMINAL = ("terminal", "default")
"""Is always switched on."""


class List(Arguments):
    """Nothing to say."""


class Create(Arguments):
    channel: str = Field(description="TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat; it is made known if it is new")
    group: str = Field(description="the agent group's folder")
    engage: str = Field("always", description="always, mention, mention-sticky or pattern:REGEX")
    session: SessionMode = Field(SessionMode.SHARED, description="which messages share a session")
    unknown: UnknownSender | None = Field(
        None, description="what senders without a role may do (default for a new chat: request_approval)"
    )
    priority: int = Field(0, description="lower is evaluated first")


class Delete(Arguments):
    id: int = Field(description="the wiring's number")


async def _list(context: CommandContext, arguments: List) -> Json:
    return [await _described(context.store, wiring) for wiring in await wirings.every(context.store)]


async def _create(context: CommandContext, arguments: Create) -> Json:
    place = chat_place(arguments.channel, arguments.chat)
    engage = engage_mode(arguments.engage)
    group = await known_group(context.store, arguments.group)
    now = context.clock.now()
    async with context.store.transaction() as tx:
        chat = await ensure_chat(tx, place, unknown=arguments.unknown, now=now)
        wiring = await wire(
            tx, chat, group, engage=engage, session=arguments.session, priority=arguments.priority, now=now
        )
        row = await _described(tx, wiring)
    missing = await asyncio.to_thread(_missing, context, place)
    return {**row, "next": _next(chat, wiring, group.folder), **({"missing": missing} if missing else {})}


async def _delete(context: CommandContext, arguments: Delete) -> Json:
    async with context.store.transaction() as tx:
        if not await wirings.delete(tx, WiringId(arguments.id)):
            raise UsageError(f"there is no wiring {arguments.id}", hint="nanohost wirings list")
    return {"deleted": arguments.id}


async def _described(db: Queries, wiring: Wiring) -> dict[str, Json]:
    chat = await messaging_groups.get(db, wiring.messaging_group_id)
    group = await agent_groups.get(db, wiring.agent_group_id)
    return {
        "id": wiring.id,
        "channel": chat.channel_type if chat.instance == "default" else f"{chat.channel_type}:{chat.instance}",
        "chat": chat.platform_id,
        "name": chat.name,
        "group": group.folder,
        "engage": _engage(wiring),
        "session": plain(wiring.session_mode),
        "unknown": plain(chat.unknown_sender),
        "priority": wiring.priority,
    }


def _engage(wiring: Wiring) -> str:
    if wiring.engage_mode is not EngageMode.PATTERN:
        return str(wiring.engage_mode)
    return "always" if wiring.engage_pattern == "." else f"pattern:{wiring.engage_pattern}"


def _missing(context: CommandContext, place: ChatPlace) -> str:
    """What the operator still has to do before this chat can be heard at all, or nothing."""
    name, instance = place.channel_type, place.instance
    if name not in discover(context.home.channel_folders).available:
        return f"there is no channel {name} yet: put its file into {context.home.channels} (nanohost channels list)"
    # The settings are those the running host has, or would start with.
    on = {(channel.name, channel.instance) for channel in channel_instances(context.settings)} | {TERMINAL}
    if (name, instance) in on:
        return ""
    heading = name if instance == "default" else f"{name}.{instance}"
    return f"the channel is not switched on: put [channels.{heading}] into nanohost.toml, then start nanohost again"


def _next(chat: MessagingGroup, wiring: Wiring, folder: str) -> str:
    when = {"always": "each message", "mention": "a mention"}.get(_engage(wiring), "what fits")
    if chat.unknown_sender is UnknownSender.PUBLIC:
        return f"{folder} answers {when} there, whoever writes"
    grant = f"nanohost roles grant {chat.channel_type}:HANDLE member"
    return f"{folder} answers {when} there from people with a role ({grant}) and nobody else, unless --unknown public"


COMMANDS = (
    Command(
        words="wirings list",
        help="list which agents take part in which chats",
        example="nanohost wirings list",
        arguments=List,
        run=_list,
    ),
    Command(
        words="wirings create",
        begins=True,
        help="let an agent take part in a chat; takes effect at once",
        example="nanohost wirings create --channel telegram --chat 123456 --group main --engage mention",
        arguments=Create,
        run=_create,
    ),
    Command(
        words="wirings delete",
        help="take an agent out of a chat",
        example="nanohost wirings delete 3",
        arguments=Delete,
        run=_delete,
        positional=("id",),
    ),
)

"""Wirings: which agents take part in which chats, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.channels.loader import discover
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import Change, ListArguments, Listing, Look, Number, Resource, Row
from nanohost.commands.setup import (
    TERMINAL,
    ChatPlace,
    channel_name,
    chat_place,
    engage_mode,
    ensure_chat,
    in_full,
    known_group,
    wire,
)
from nanohost.model import (
    EngageMode,
    Ignored,
    MessagingGroup,
    SenderScope,
    SessionMode,
    UnknownSender,
    Wiring,
    WiringId,
)
from nanohost.phrases import did_you_mean
from nanohost.settings import channel_instances
from nanohost.store import agent_groups, dropped, events, messaging_groups, routes, wirings
from nanohost.store.database import Queries, Reports, Transaction

UNWIRED = "it waited still when its wiring was deleted"
ENGAGE = "always, mention, mention-sticky or pattern:REGEX"


class WiringRow(Row):
    id: int = Field(description="its number")
    channel: str = Field(description="the chat's channel: TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat")
    name: str = Field(description="what the platform calls the chat")
    group: str = Field(description="the folder of the agent group that takes part")
    engage: str = Field(description=f"what it answers: {ENGAGE}")
    session: SessionMode = Field(description="which messages share a session")
    unknown: UnknownSender = Field(description="what senders without a role may do; it is the chat's, for all agents")
    priority: int = Field(description="lower is evaluated first")
    sender_scope: SenderScope = Field(
        description="whom it listens to: all who may write there, or known: people with a role alone"
    )
    ignored: Ignored = Field(
        description="what becomes of a message it does not take part in: drop, or accumulate: it is read with the next"
    )
    bots: bool = Field(description="whether other bots are listened to")

    def concerns(self) -> Mapping[str, str | None]:
        return {"place": in_full(self.channel, self.chat), "group": self.group}


class Created(WiringRow):
    next: str | None = Field(None, description="who is answered there now")
    missing: str | None = Field(None, description="what is still to be done before the chat can be heard")


class Deleted(Row):
    ABOUT = ("deleted",)

    deleted: int = Field(description="its number")
    channel: str = Field(description="the channel of the chat in which the agent takes part no more")
    chat: str = Field(description="the platform's id of the chat")
    group: str = Field(description="the folder of the agent group")

    def concerns(self) -> Mapping[str, str | None]:
        return {"place": in_full(self.channel, self.chat), "group": self.group}


class List(ListArguments):
    group: str | None = Field(None, description="only of this agent group")
    channel: str | None = Field(None, description="only of chats on this channel: TYPE or TYPE:INSTANCE")


class Create(Arguments):
    channel: str = Field(description="TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat; it is made known if it is new")
    group: str = Field(description="the agent group's folder")
    engage: str = Field("always", description=ENGAGE)
    session: SessionMode = Field(SessionMode.SHARED, description="which messages share a session")
    unknown: UnknownSender | None = Field(
        None, description="what senders without a role may do (default for a new chat: request_approval)"
    )
    priority: Number = Field(0, description="lower is evaluated first")
    sender_scope: SenderScope = Field(
        SenderScope.ALL, description="whom to listen to; known: people with a role alone, also where a chat is public"
    )
    ignored: Ignored = Field(
        Ignored.DROP, description="messages it does not take part in; accumulate: they are read with the next it does"
    )
    bots: bool = Field(False, description="listen to other bots, too")


class One(Arguments):
    id: Number = Field(description="the wiring's number")


class Update(One):
    engage: str | None = Field(None, description=ENGAGE)
    session: SessionMode | None = Field(None, description="which messages share a session, from the next one on")
    priority: Number | None = Field(None, description="lower is evaluated first")
    sender_scope: SenderScope | None = Field(None, description="whom to listen to; known: people with a role alone")
    ignored: Ignored | None = Field(None, description="messages it does not take part in")
    bots: bool | None = Field(None, description="whether to listen to other bots, too")


async def _list(context: CommandContext, db: Reports, arguments: List) -> list[WiringRow]:
    if arguments.group is not None:
        await known_group(db, arguments.group)
    rows = [await _described(db, wiring) for wiring in await wirings.every(db)]
    return [row for row in rows if arguments.group in (None, row.group) and arguments.channel in (None, row.channel)]


async def _get(context: CommandContext, db: Queries, arguments: One) -> WiringRow | None:
    wiring = await wirings.find(db, WiringId(arguments.id))
    return None if wiring is None else await _described(db, wiring)


async def _create(context: CommandContext, tx: Transaction, arguments: Create) -> Created:
    place = chat_place(arguments.channel, arguments.chat)
    engage = engage_mode(arguments.engage)
    group = await known_group(tx, arguments.group)
    now = context.clock.now()
    chat = await ensure_chat(tx, place, unknown=arguments.unknown, now=now)
    wiring = await wire(tx, chat, group, engage=engage, session=arguments.session, priority=arguments.priority, now=now)
    wiring = replace(wiring, sender_scope=arguments.sender_scope, ignored=arguments.ignored, bots=arguments.bots)
    await wirings.change(tx, wiring)
    row = await _described(tx, wiring)
    return Created(**dict(row), next=_next(chat, wiring, group.folder))


async def _say_what_is_missing(context: CommandContext, made: Created) -> Created:
    missing = await asyncio.to_thread(_missing, context, chat_place(made.channel, made.chat))
    return made.model_copy(update={"missing": missing or None})


async def _update(context: CommandContext, tx: Transaction, arguments: Update) -> WiringRow | None:
    wiring = await wirings.find(tx, WiringId(arguments.id))
    if wiring is None:
        return None
    given = arguments.model_dump(exclude_none=True, exclude={"id", "engage", "session"})
    if arguments.engage is not None:
        given["engage_mode"], given["engage_pattern"] = engage_mode(arguments.engage)
    if arguments.session is not None:
        given["session_mode"] = arguments.session
    changed = replace(wiring, **given)
    await wirings.change(tx, changed)
    return await _described(tx, changed)


async def _delete(context: CommandContext, tx: Transaction, arguments: One) -> Deleted | None:
    return await take_out(tx, WiringId(arguments.id), context.clock.now())


async def take_out(tx: Transaction, id: WiringId, now: datetime) -> Deleted | None:
    """The agent takes part in the chat no more; what waited for it there is counted. None: there is no such wiring."""
    wiring = await wirings.find(tx, id)
    if wiring is None:
        return None
    was = await _described(tx, wiring)
    for event in await routes.unsettled(tx, wiring.id):
        lost = await events.get(tx, event)
        await dropped.count(tx, lost.chat, lost.user, UNWIRED, now=now, agent_group=was.group)
    await wirings.delete(tx, wiring.id)
    return Deleted(deleted=was.id, channel=was.channel, chat=was.chat, group=was.group)


async def _described(db: Queries, wiring: Wiring) -> WiringRow:
    chat = await messaging_groups.get(db, wiring.messaging_group_id)
    group = await agent_groups.get(db, wiring.agent_group_id)
    return WiringRow(
        id=wiring.id,
        channel=channel_name(chat),
        chat=chat.platform_id,
        name=chat.name,
        group=group.folder,
        engage=_engage(wiring),
        session=wiring.session_mode,
        unknown=chat.unknown_sender,
        priority=wiring.priority,
        sender_scope=wiring.sender_scope,
        ignored=wiring.ignored,
        bots=wiring.bots,
    )


def _engage(wiring: Wiring) -> str:
    if wiring.engage_mode is not EngageMode.PATTERN:
        return str(wiring.engage_mode)
    return "always" if wiring.engage_pattern == "." else f"pattern:{wiring.engage_pattern}"


def _missing(context: CommandContext, place: ChatPlace) -> str:
    """What the operator still has to do before this chat can be heard at all, or nothing."""
    name, instance = place.channel_type, place.instance
    known = discover(context.home.channel_folders).available
    if name not in known:
        if meant := did_you_mean(name, known):
            return f"there is no channel {name}: {meant} nanohost wirings delete ID takes this one away again"
        return f"there is no channel {name} yet: put its file into {context.home.channels} (nanohost channels list)"
    # The settings are those the running host has, or would start with.
    on = {(channel.name, channel.instance) for channel in channel_instances(context.settings) if channel.enabled} | {
        TERMINAL
    }
    if (name, instance) in on:
        return ""
    typed = name if instance == "default" else f"{name}:{instance}"
    if any((one.name, one.instance) == (name, instance) for one in channel_instances(context.settings)):
        return f"the channel is disabled: nanohost channels enable {typed}, then start nanohost again"
    return f"the channel is not set up: nanohost channels add {typed}, then start nanohost again"


def _next(chat: MessagingGroup, wiring: Wiring, folder: str) -> str:
    when = {"always": "each message", "mention": "a mention"}.get(_engage(wiring), "what fits")
    if chat.unknown_sender is UnknownSender.PUBLIC and wiring.sender_scope is SenderScope.ALL:
        return f"{folder} answers {when} there, whoever writes"
    grant = f"nanohost members create {chat.channel_type}:HANDLE"
    asks = chat.unknown_sender is UnknownSender.REQUEST_APPROVAL and wiring.sender_scope is SenderScope.ALL
    others = "; about others a person is asked, unless --unknown public" if asks else " and nobody else"
    return f"{folder} answers {when} there from people with a role ({grant}){others}"


RESOURCE = Resource(
    name="wirings",
    one="wiring",
    about="which agents take part in which chats, and how",
    row=WiringRow,
    verbs=(
        Listing(help="list which agents take part in which chats", example="", arguments=List, run=_list),
        Look(help="show one wiring", example="3", arguments=One, run=_get, positional=("id",)),
        Change(
            word="create",
            begins=True,
            help="let an agent take part in a chat; takes effect at once",
            example="--channel telegram --chat 123456 --group main --engage mention",
            arguments=Create,
            run=_create,
            result=Created,
            after=_say_what_is_missing,
        ),
        Change(
            word="update",
            help="change how an agent takes part in a chat, from the next message on",
            example="3 --engage mention-sticky --ignored accumulate",
            arguments=Update,
            run=_update,
            positional=("id",),
        ),
        Change(
            word="delete",
            help="take an agent out of a chat",
            example="3",
            arguments=One,
            run=_delete,
            result=Deleted,
            positional=("id",),
        ),
    ),
)
COMMANDS = RESOURCE.commands()

"""Wirings: which agents take part in which chats, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.channels.loader import discover
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import ChangeVerb, GetVerb, ListArguments, ListVerb, Number, Resource, Row
from nanohost.commands.setup import (
    TERMINAL_CHANNEL,
    ChatAddress,
    audit_chat_name,
    channel_name,
    create_wiring,
    ensure_chat,
    parse_chat_address,
    parse_engage_mode,
    resolve_group,
)
from nanohost.config.settings import channel_instances
from nanohost.db import agent_groups, dropped, events, messaging_groups, routes, wirings
from nanohost.db.database import Queries, ReportReader, Transaction
from nanohost.model import (
    EngageMode,
    IgnoredMessagePolicy,
    MessagingGroup,
    SenderScope,
    SessionMode,
    UnknownSender,
    Wiring,
    WiringId,
)
from nanohost.text.phrases import did_you_mean

UNWIRED_REASON = "it waited still when its wiring was deleted"
ENGAGE_HELP = "always, mention, mention-sticky or pattern:REGEX"


class WiringRow(Row):
    id: int = Field(description="its number")
    channel: str = Field(description="the chat's channel: TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat")
    name: str = Field(description="what the platform calls the chat")
    group: str = Field(description="the folder of the agent group that takes part")
    engage: str = Field(description=f"what it answers: {ENGAGE_HELP}")
    session: SessionMode = Field(description="which messages share a session")
    unknown: UnknownSender = Field(description="what senders without a role may do; it is the chat's, for all agents")
    priority: int = Field(description="lower is evaluated first")
    sender_scope: SenderScope = Field(
        description="whom it listens to: all who may write there, or known: people with a role alone"
    )
    ignored: IgnoredMessagePolicy = Field(
        description="what becomes of a message it does not take part in: drop, or accumulate: it is read with the next"
    )
    bots: bool = Field(description="whether other bots are listened to")

    def audit_details(self) -> Mapping[str, str | None]:
        return {"place": audit_chat_name(self.channel, self.chat), "group": self.group}


class CreatedRow(WiringRow):
    next: str | None = Field(None, description="who is answered there now")
    missing: str | None = Field(None, description="what is still to be done before the chat can be heard")


class DeletedRow(Row):
    AUDIT_KEY_FIELDS = ("deleted",)

    deleted: int = Field(description="its number")
    channel: str = Field(description="the channel of the chat in which the agent takes part no more")
    chat: str = Field(description="the platform's id of the chat")
    group: str = Field(description="the folder of the agent group")

    def audit_details(self) -> Mapping[str, str | None]:
        return {"place": audit_chat_name(self.channel, self.chat), "group": self.group}


class ListArgs(ListArguments):
    group: str | None = Field(None, description="only of this agent group")
    channel: str | None = Field(None, description="only of chats on this channel: TYPE or TYPE:INSTANCE")


class CreateArgs(CommandArguments):
    channel: str = Field(description="TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat; it is made known if it is new")
    group: str = Field(description="the agent group's folder")
    engage: str = Field("always", description=ENGAGE_HELP)
    session: SessionMode = Field(SessionMode.SHARED, description="which messages share a session")
    unknown: UnknownSender | None = Field(
        None, description="what senders without a role may do (default for a new chat: request_approval)"
    )
    priority: Number = Field(0, description="lower is evaluated first")
    sender_scope: SenderScope = Field(
        SenderScope.ALL, description="whom to listen to; known: people with a role alone, also where a chat is public"
    )
    ignored: IgnoredMessagePolicy = Field(
        IgnoredMessagePolicy.DROP,
        description="messages it does not take part in; accumulate: they are read with the next it does",
    )
    bots: bool = Field(False, description="listen to other bots, too")


class WiringArgs(CommandArguments):
    id: Number = Field(description="the wiring's number")


class UpdateArgs(WiringArgs):
    engage: str | None = Field(None, description=ENGAGE_HELP)
    session: SessionMode | None = Field(None, description="which messages share a session, from the next one on")
    priority: Number | None = Field(None, description="lower is evaluated first")
    sender_scope: SenderScope | None = Field(None, description="whom to listen to; known: people with a role alone")
    ignored: IgnoredMessagePolicy | None = Field(None, description="messages it does not take part in")
    bots: bool | None = Field(None, description="whether to listen to other bots, too")


async def _list(context: CommandContext, db: ReportReader, arguments: ListArgs) -> list[WiringRow]:
    if arguments.group is not None:
        await resolve_group(db, arguments.group)
    rows = [await _make_row(db, wiring) for wiring in await wirings.list_all(db)]
    return [row for row in rows if arguments.group in (None, row.group) and arguments.channel in (None, row.channel)]


async def _get(context: CommandContext, db: Queries, arguments: WiringArgs) -> WiringRow | None:
    wiring = await wirings.find(db, WiringId(arguments.id))
    return None if wiring is None else await _make_row(db, wiring)


async def _create(context: CommandContext, tx: Transaction, arguments: CreateArgs) -> CreatedRow:
    place = parse_chat_address(arguments.channel, arguments.chat)
    engage = parse_engage_mode(arguments.engage)
    group = await resolve_group(tx, arguments.group)
    now = context.clock.now()
    chat = await ensure_chat(tx, place, unknown=arguments.unknown, now=now)
    wiring = await create_wiring(
        tx, chat, group, engage=engage, session=arguments.session, priority=arguments.priority, now=now
    )
    wiring = replace(wiring, sender_scope=arguments.sender_scope, ignored=arguments.ignored, bots=arguments.bots)
    await wirings.update(tx, wiring)
    row = await _make_row(tx, wiring)
    return CreatedRow(**dict(row), next=_next_notice(chat, wiring, group.folder))


async def _add_missing_notice(context: CommandContext, row: CreatedRow) -> CreatedRow:
    missing = await asyncio.to_thread(_missing_setup, context, parse_chat_address(row.channel, row.chat))
    return row.model_copy(update={"missing": missing or None})


async def _update(context: CommandContext, tx: Transaction, arguments: UpdateArgs) -> WiringRow | None:
    wiring = await wirings.find(tx, WiringId(arguments.id))
    if wiring is None:
        return None
    given = arguments.model_dump(exclude_none=True, exclude={"id", "engage", "session"})
    if arguments.engage is not None:
        given["engage_mode"], given["engage_pattern"] = parse_engage_mode(arguments.engage)
    if arguments.session is not None:
        given["session_mode"] = arguments.session
    changed = replace(wiring, **given)
    await wirings.update(tx, changed)
    return await _make_row(tx, changed)


async def _delete(context: CommandContext, tx: Transaction, arguments: WiringArgs) -> DeletedRow | None:
    return await delete_wiring(tx, WiringId(arguments.id), context.clock.now())


async def delete_wiring(tx: Transaction, id: WiringId, now: datetime) -> DeletedRow | None:
    """Deletes the wiring and counts the messages that waited for its agent. Returns None if it does not exist."""
    wiring = await wirings.find(tx, id)
    if wiring is None:
        return None
    was = await _make_row(tx, wiring)
    for event in await routes.list_unsettled(tx, wiring.id):
        lost = await events.get(tx, event)
        await dropped.record(tx, lost.chat, lost.user_id, UNWIRED_REASON, now=now, agent_group=was.group)
    await wirings.delete(tx, wiring.id)
    return DeletedRow(deleted=was.id, channel=was.channel, chat=was.chat, group=was.group)


async def _make_row(db: Queries, wiring: Wiring) -> WiringRow:
    chat = await messaging_groups.get(db, wiring.messaging_group_id)
    group = await agent_groups.get(db, wiring.agent_group_id)
    return WiringRow(
        id=wiring.id,
        channel=channel_name(chat),
        chat=chat.platform_id,
        name=chat.name,
        group=group.folder,
        engage=_format_engage(wiring),
        session=wiring.session_mode,
        unknown=chat.unknown_sender,
        priority=wiring.priority,
        sender_scope=wiring.sender_scope,
        ignored=wiring.ignored,
        bots=wiring.bots,
    )


def _format_engage(wiring: Wiring) -> str:
    if wiring.engage_mode is not EngageMode.PATTERN:
        return str(wiring.engage_mode)
    return "always" if wiring.engage_pattern == "." else f"pattern:{wiring.engage_pattern}"


def _missing_setup(context: CommandContext, address: ChatAddress) -> str:
    """Returns what the operator still has to do before messages of this chat can arrive; empty if nothing."""
    name, instance = address.channel_type, address.instance
    known = discover(context.home.channel_folders).available
    if name not in known:
        if suggestion := did_you_mean(name, known):
            return f"there is no channel {name}: {suggestion} nanohost wirings delete ID takes this one away again"
        return f"there is no channel {name} yet: put its file into {context.home.channels} (nanohost channels list)"
    # These are the settings of the running host, or those that it would start with.
    on = {(channel.name, channel.instance) for channel in channel_instances(context.settings) if channel.is_enabled} | {
        TERMINAL_CHANNEL
    }
    if (name, instance) in on:
        return ""
    typed = name if instance == "default" else f"{name}:{instance}"
    if any((one.name, one.instance) == (name, instance) for one in channel_instances(context.settings)):
        return f"the channel is disabled: nanohost channels enable {typed}, then start nanohost again"
    return f"the channel is not set up: nanohost channels create {typed}, then start nanohost again"


def _next_notice(chat: MessagingGroup, wiring: Wiring, folder: str) -> str:
    when = {"always": "each message", "mention": "a mention"}.get(_format_engage(wiring), "what fits")
    if chat.unknown_sender is UnknownSender.PUBLIC and wiring.sender_scope is SenderScope.ALL:
        return f"{folder} answers {when} there, whoever writes"
    grant = f"nanohost roles create {chat.channel_type}:HANDLE member"
    asks = chat.unknown_sender is UnknownSender.REQUEST_APPROVAL and wiring.sender_scope is SenderScope.ALL
    others = "; about others a person is asked, unless --unknown public" if asks else " and nobody else"
    return f"{folder} answers {when} there from people with a role ({grant}){others}"


RESOURCE = Resource(
    name="wirings",
    singular="wiring",
    description="which agents take part in which chats, and how",
    row=WiringRow,
    verbs=(
        ListVerb(help="list which agents take part in which chats", example="", arguments=ListArgs, run=_list),
        GetVerb(help="show one wiring", example="3", arguments=WiringArgs, run=_get, positional=("id",)),
        ChangeVerb(
            name="create",
            can_create_install=True,
            help="let an agent take part in a chat; takes effect at once",
            example="--channel telegram --chat 123456 --group main --engage mention",
            arguments=CreateArgs,
            run=_create,
            result=CreatedRow,
            after_commit=_add_missing_notice,
        ),
        ChangeVerb(
            name="update",
            help="change how an agent takes part in a chat, from the next message on",
            example="3 --engage mention-sticky --ignored accumulate",
            arguments=UpdateArgs,
            run=_update,
            positional=("id",),
        ),
        ChangeVerb(
            name="delete",
            help="take an agent out of a chat",
            example="3",
            arguments=WiringArgs,
            run=_delete,
            result=DeletedRow,
            positional=("id",),
        ),
    ),
)
COMMANDS = RESOURCE.commands()

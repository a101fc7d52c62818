"""Destinations: where agents may send beside the chats they talk in, and by which name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import ChangeVerb, GetVerb, ListArguments, ListVerb, Resource, Row
from nanohost.commands.setup import audit_chat_name, channel_name, ensure_chat, parse_chat_address, resolve_group
from nanohost.db import agent_groups, destinations, messaging_groups
from nanohost.db.database import Queries, ReportReader, Transaction
from nanohost.db.destinations import NAME_PATTERN, NamedChat
from nanohost.delivery.withdrawal import withdraw_deliveries
from nanohost.errors import UsageError


class DestinationRow(Row):
    AUDIT_KEY_FIELDS = ("group", "name")

    group: str = Field(description="the folder of the agent group that may send there")
    name: str = Field(description="what its agents call it; a chat of their own that is called so hides it")
    channel: str = Field(description="the chat's channel: TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat")
    title: str = Field(description="what people call the chat")
    created_by: str = Field(description="who allowed it")
    since: datetime = Field(description="since when")

    def audit_details(self) -> Mapping[str, str | None]:
        return {"place": audit_chat_name(self.channel, self.chat)}


class DeletedRow(Row):
    AUDIT_KEY_FIELDS = ("group", "deleted")

    group: str = Field(description="the folder of the agent group that may send there no more")
    deleted: str = Field(description="what its agents called it")
    channel: str = Field(description="the chat's channel: TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat")
    messages: int = Field(description="how many messages were on their way there, and are not sent")
    tasks: int = Field(description="how many messages that were to be sent there again and again are cancelled")

    def audit_details(self) -> Mapping[str, str | None]:
        return {"place": audit_chat_name(self.channel, self.chat)}


class ListArgs(ListArguments):
    group: str | None = Field(None, description="only of this agent group")


class DestinationArgs(CommandArguments):
    group: str = Field(description="the agent group's folder")
    name: str = Field(description="what its agents call it: small letters, digits and -")


class CreateArgs(DestinationArgs):
    channel: str = Field(description="TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat; it is made known if it is new")


async def _list(context: CommandContext, db: ReportReader, arguments: ListArgs) -> list[DestinationRow]:
    if arguments.group is None:
        found = await destinations.list_all(db)
    else:
        found = await destinations.list_for_group(db, (await resolve_group(db, arguments.group)).id)
    return [await _make_row(db, one) for one in found]


async def _get(context: CommandContext, db: Queries, arguments: DestinationArgs) -> DestinationRow | None:
    found = await _find_destination(db, arguments)
    return None if found is None else await _make_row(db, found)


async def _create(context: CommandContext, tx: Transaction, arguments: CreateArgs) -> DestinationRow:
    group = await resolve_group(tx, arguments.group)
    if not NAME_PATTERN.fullmatch(arguments.name):
        raise UsageError(f"{arguments.name[:80]!r} is no name for a chat", hint="small letters, digits and -: family")
    if await destinations.find(tx, group.id, arguments.name):
        raise UsageError(
            f"{group.folder} has a destination {arguments.name} already",
            hint=f"nanohost destinations delete {group.folder} {arguments.name}, then create it as you want it",
        )
    now = context.clock.now()
    chat = await ensure_chat(tx, parse_chat_address(arguments.channel, arguments.chat), unknown=None, now=now)
    made = await destinations.add(
        tx,
        agent_group=group.id,
        name=arguments.name,
        messaging_group=chat.id,
        created_by=context.who,
        now=now,
    )
    return await _make_row(tx, made)


async def _delete(context: CommandContext, tx: Transaction, arguments: DestinationArgs) -> DeletedRow | None:
    found = await _find_destination(tx, arguments)
    if found is None:
        return None
    await destinations.delete(tx, found.id)
    chat = await messaging_groups.get(tx, found.messaging_group_id)
    reason = f"the destination {found.name} was taken away"
    gone = await withdraw_deliveries(tx, found.agent_group_id, chat, reason=reason, now=context.clock.now())
    return DeletedRow(
        group=arguments.group,
        deleted=found.name,
        channel=channel_name(chat),
        chat=chat.platform_id,
        messages=gone.messages,
        tasks=gone.tasks,
    )


async def _notify_agents(context: CommandContext, row: DestinationRow | DeletedRow) -> Row:
    if context.host is None:
        return row
    group = await resolve_group(context.store, row.group)
    await context.host.addresses_changed(group.id)
    return row


async def _find_destination(db: Queries, arguments: DestinationArgs) -> NamedChat | None:
    return await destinations.find(db, (await resolve_group(db, arguments.group)).id, arguments.name)


async def _make_row(db: Queries, one: NamedChat) -> DestinationRow:
    chat = await messaging_groups.get(db, one.messaging_group_id)
    return DestinationRow(
        group=(await agent_groups.get(db, one.agent_group_id)).folder,
        name=one.name,
        channel=channel_name(chat),
        chat=chat.platform_id,
        title=chat.name,
        created_by=one.created_by,
        since=one.created_at,
    )


RESOURCE = Resource(
    name="destinations",
    singular="destination",
    description="where agents may send beside their own chats; an address book that is the permission, too",
    row=DestinationRow,
    verbs=(
        ListVerb(help="list where agents may send", example="--group main", arguments=ListArgs, run=_list),
        GetVerb(
            help="show one destination",
            example="main family",
            arguments=DestinationArgs,
            run=_get,
            positional=("group", "name"),
        ),
        ChangeVerb(
            name="create",
            help="let an agent group send to a chat, under a name; takes effect at once",
            example="main family --channel telegram --chat 123456",
            arguments=CreateArgs,
            run=_create,
            positional=("group", "name"),
            after_commit=_notify_agents,
        ),
        ChangeVerb(
            name="delete",
            help="let an agent group send to a chat no more; what waits to be sent there is dropped",
            example="main family",
            arguments=DestinationArgs,
            run=_delete,
            result=DeletedRow,
            positional=("group", "name"),
            after_commit=_notify_agents,
        ),
    ),
)
COMMANDS = RESOURCE.commands()

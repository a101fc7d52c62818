"""Destinations: where agents may send beside the chats they talk in, and what they call it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import Change, ListArguments, Listing, Look, Resource, Row
from nanohost.commands.setup import channel_name, chat_place, ensure_chat, in_full, known_group
from nanohost.delivery.withdrawal import withdraw
from nanohost.errors import UsageError
from nanohost.store import agent_groups, destinations, messaging_groups
from nanohost.store.database import Queries, Reports, Transaction
from nanohost.store.destinations import NAME, NamedChat


class DestinationRow(Row):
    ABOUT = ("group", "name")

    group: str = Field(description="the folder of the agent group that may send there")
    name: str = Field(description="what its agents call it; a chat of their own that is called so hides it")
    channel: str = Field(description="the chat's channel: TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat")
    title: str = Field(description="what people call the chat")
    created_by: str = Field(description="who allowed it")
    since: datetime = Field(description="since when")

    def concerns(self) -> Mapping[str, str | None]:
        return {"place": in_full(self.channel, self.chat)}


class Deleted(Row):
    ABOUT = ("group", "deleted")

    group: str = Field(description="the folder of the agent group that may send there no more")
    deleted: str = Field(description="what its agents called it")
    channel: str = Field(description="the chat's channel: TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat")
    messages: int = Field(description="how many messages were on their way there, and are not sent")
    tasks: int = Field(description="how many messages that were to be sent there again and again are cancelled")

    def concerns(self) -> Mapping[str, str | None]:
        return {"place": in_full(self.channel, self.chat)}


class List(ListArguments):
    group: str | None = Field(None, description="only of this agent group")


class One(Arguments):
    group: str = Field(description="the agent group's folder")
    name: str = Field(description="what its agents call it: small letters, digits and -")


class Create(One):
    channel: str = Field(description="TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat; it is made known if it is new")


async def _list(context: CommandContext, db: Reports, arguments: List) -> list[DestinationRow]:
    if arguments.group is None:
        found = await destinations.every(db)
    else:
        found = await destinations.of_group(db, (await known_group(db, arguments.group)).id)
    return [await _described(db, one) for one in found]


async def _get(context: CommandContext, db: Queries, arguments: One) -> DestinationRow | None:
    found = await _known(db, arguments)
    return None if found is None else await _described(db, found)


async def _create(context: CommandContext, tx: Transaction, arguments: Create) -> DestinationRow:
    group = await known_group(tx, arguments.group)
    if not NAME.fullmatch(arguments.name):
        raise UsageError(f"{arguments.name[:80]!r} is no name for a chat", hint="small letters, digits and -: family")
    if await destinations.find(tx, group.id, arguments.name):
        raise UsageError(
            f"{group.folder} has a destination {arguments.name} already",
            hint=f"nanohost destinations delete {group.folder} {arguments.name}, then create it as you want it",
        )
    now = context.clock.now()
    chat = await ensure_chat(tx, chat_place(arguments.channel, arguments.chat), unknown=None, now=now)
    made = await destinations.add(
        tx,
        agent_group=group.id,
        name=arguments.name,
        messaging_group=chat.id,
        created_by=context.who,
        now=now,
    )
    return await _described(tx, made)


async def _delete(context: CommandContext, tx: Transaction, arguments: One) -> Deleted | None:
    found = await _known(tx, arguments)
    if found is None:
        return None
    await destinations.delete(tx, found.id)
    chat = await messaging_groups.get(tx, found.messaging_group_id)
    reason = f"the destination {found.name} was taken away"
    gone = await withdraw(tx, found.agent_group_id, chat, reason=reason, now=context.clock.now())
    return Deleted(
        group=arguments.group,
        deleted=found.name,
        channel=channel_name(chat),
        chat=chat.platform_id,
        messages=gone.messages,
        tasks=gone.tasks,
    )


async def _tell_agents(context: CommandContext, row: DestinationRow | Deleted) -> Row:
    if context.live is None:
        return row
    group = await known_group(context.store, row.group)
    await context.live.addresses_changed(group.id)
    return row


async def _known(db: Queries, arguments: One) -> NamedChat | None:
    return await destinations.find(db, (await known_group(db, arguments.group)).id, arguments.name)


async def _described(db: Queries, one: NamedChat) -> DestinationRow:
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
    one="destination",
    about="where the agents of a group may send beside the chats they talk in: their address book, and the permission",
    row=DestinationRow,
    verbs=(
        Listing(help="list where agents may send", example="--group main", arguments=List, run=_list),
        Look(help="show one destination", example="main family", arguments=One, run=_get, positional=("group", "name")),
        Change(
            word="create",
            help="let an agent group send to a chat, under a name; takes effect at once",
            example="main family --channel telegram --chat 123456",
            arguments=Create,
            run=_create,
            positional=("group", "name"),
            after=_tell_agents,
        ),
        Change(
            word="delete",
            help="let an agent group send to a chat no more; what waits to be sent there is dropped",
            example="main family",
            arguments=One,
            run=_delete,
            result=Deleted,
            positional=("group", "name"),
            after=_tell_agents,
        ),
    ),
)
COMMANDS = RESOURCE.commands()

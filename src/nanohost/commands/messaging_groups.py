"""Messaging groups: the chats that are known."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import Change, ListArguments, Listing, Look, Number, Resource, Row
from nanohost.commands.setup import channel_name, chat_place, ensure_chat, in_full
from nanohost.commands.show import plain
from nanohost.errors import UsageError
from nanohost.model import MessagingGroup, MessagingGroupId, UnknownSender
from nanohost.store import audit, destinations, messaging_groups, sessions, wirings
from nanohost.store.database import Queries, Reports, Transaction


class ChatRow(Row):
    id: int = Field(description="its number")
    channel_type: str = Field(description="the platform")
    instance: str = Field(description="which bot on that platform; default: the only one")
    platform_id: str = Field(description="what the platform calls it in messages")
    is_group: bool = Field(description="whether it is more than one person's")
    name: str = Field(description="what people call it")
    unknown_sender: UnknownSender = Field(
        description="what senders without a role may do: talk (public), nothing (strict), or wait until somebody who"
        " may decide was asked (request_approval)"
    )
    created_at: datetime = Field(description="since when it is known")

    def concerns(self) -> Mapping[str, str | None]:
        return {"place": in_full(f"{self.channel_type}:{self.instance}", self.platform_id)}


class Deleted(Row):
    ABOUT = ("deleted",)

    deleted: int = Field(description="its number")
    channel: str = Field(description="its channel")
    chat: str = Field(description="the platform's id of it")

    def concerns(self) -> Mapping[str, str | None]:
        return {"place": in_full(self.channel, self.chat)}


class List(ListArguments):
    channel: str | None = Field(None, description="only of this platform")


class Create(Arguments):
    channel: str = Field(description="TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat")
    name: str = Field("", description="what people call it")
    unknown: UnknownSender | None = Field(None, description="what senders without a role may do")


class One(Arguments):
    id: Number = Field(description="the chat's number, as nanohost messaging-groups list shows it")


class Update(One):
    name: str | None = Field(None, description="what people call it; the platform's own name comes back with a message")
    unknown: UnknownSender | None = Field(None, description="what senders without a role may do")


async def _list(context: CommandContext, db: Reports, arguments: List) -> list[ChatRow]:
    chats = await messaging_groups.every(db)
    return [_row(chat) for chat in chats if arguments.channel in (None, chat.channel_type)]


async def _get(context: CommandContext, db: Queries, arguments: One) -> ChatRow | None:
    chat = await _known(db, arguments)
    return None if chat is None else _row(chat)


async def _create(context: CommandContext, tx: Transaction, arguments: Create) -> ChatRow:
    place = chat_place(arguments.channel, arguments.chat)
    chat = await ensure_chat(tx, place, unknown=arguments.unknown, name=arguments.name, now=context.clock.now())
    if arguments.name:  # it may have been known before, by another
        await messaging_groups.learn(tx, chat.id, is_group=chat.is_group, name=arguments.name)
    return _row(await messaging_groups.get(tx, chat.id))


async def _update(context: CommandContext, tx: Transaction, arguments: Update) -> ChatRow | None:
    chat = await _known(tx, arguments)
    if chat is None:
        return None
    if arguments.name is not None:
        await messaging_groups.learn(tx, chat.id, is_group=chat.is_group, name=arguments.name)
    if arguments.unknown is not None:
        await messaging_groups.set_unknown_sender(tx, chat.id, arguments.unknown)
    return _row(await messaging_groups.get(tx, chat.id))


async def _delete(context: CommandContext, tx: Transaction, arguments: One) -> Deleted | None:
    chat = await _known(tx, arguments)
    if chat is None:
        return None
    await _refuse_in_use(tx, chat)
    await messaging_groups.delete(tx, chat.id)
    return Deleted(deleted=chat.id, channel=channel_name(chat), chat=chat.platform_id)


async def _refuse_in_use(tx: Transaction, chat: MessagingGroup) -> None:
    what = f"chat {chat.id} ({chat.channel_type} {chat.platform_id})"
    if wired := await wirings.of_chat(tx, chat.id):
        raise UsageError(f"{what} is wired to an agent", hint=f"nanohost wirings delete {wired[0].id}")
    if named := await destinations.of_chat(tx, chat.id):
        raise UsageError(f"{what} is the destination {named[0].name}", hint="nanohost destinations list")
    if kept := await sessions.one_of_chat(tx, chat.id):
        place = shlex.quote(audit.about_chat(chat))
        raise UsageError(
            f"{what} has conversations, and those are kept: {kept.id}",
            hint=f"nanohost rules create chat deny --subject {place}, and nobody is asked about it",
        )


async def _known(db: Queries, arguments: One) -> MessagingGroup | None:
    return await messaging_groups.numbered(db, MessagingGroupId(arguments.id))


def _row(chat: MessagingGroup) -> ChatRow:
    return ChatRow.model_validate(plain(chat))


RESOURCE = Resource(
    name="messaging-groups",
    one="messaging group",
    about="the chats that are known: rooms, channels and direct messages on each platform",
    row=ChatRow,
    verbs=(
        Listing(help="list the chats that are known", example="--json", arguments=List, run=_list),
        Look(help="show one chat", example="3", arguments=One, run=_get, positional=("id",)),
        Change(
            word="create",
            begins=True,
            help="make a chat known, or change what strangers may do in it",
            example="--channel telegram --chat 123456 --unknown strict",
            arguments=Create,
            run=_create,
        ),
        Change(
            word="update",
            help="change what a chat is called, or what strangers may do in it",
            example="3 --unknown strict",
            arguments=Update,
            run=_update,
            positional=("id",),
        ),
        Change(
            word="delete",
            help="forget a chat that nothing refers to",
            example="3",
            arguments=One,
            run=_delete,
            result=Deleted,
            positional=("id",),
        ),
    ),
)
COMMANDS = RESOURCE.commands()

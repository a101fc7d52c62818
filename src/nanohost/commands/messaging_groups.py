"""Messaging groups: the chats that are known."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import ChangeVerb, GetVerb, ListArguments, ListVerb, Number, Resource, Row
from nanohost.commands.setup import audit_chat_name, channel_name, ensure_chat, parse_chat_address
from nanohost.commands.tables import to_json
from nanohost.db import audit, destinations, messaging_groups, sessions, wirings
from nanohost.db.database import Queries, ReportReader, Transaction
from nanohost.errors import UsageError
from nanohost.model import MessagingGroup, MessagingGroupId, UnknownSender


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

    def audit_details(self) -> Mapping[str, str | None]:
        return {"place": audit_chat_name(f"{self.channel_type}:{self.instance}", self.platform_id)}


class DeletedRow(Row):
    AUDIT_KEY_FIELDS = ("deleted",)

    deleted: int = Field(description="its number")
    channel: str = Field(description="its channel")
    chat: str = Field(description="the platform's id of it")

    def audit_details(self) -> Mapping[str, str | None]:
        return {"place": audit_chat_name(self.channel, self.chat)}


class ListArgs(ListArguments):
    channel: str | None = Field(None, description="only of this platform")


class CreateArgs(CommandArguments):
    channel: str = Field(description="TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat")
    name: str = Field("", description="what people call it")
    unknown: UnknownSender | None = Field(None, description="what senders without a role may do")


class ChatArgs(CommandArguments):
    id: Number = Field(description="the chat's number, as nanohost chats list shows it")


class UpdateArgs(ChatArgs):
    name: str | None = Field(None, description="what people call it; the platform's own name comes back with a message")
    unknown: UnknownSender | None = Field(None, description="what senders without a role may do")


async def _list(context: CommandContext, db: ReportReader, arguments: ListArgs) -> list[ChatRow]:
    chats = await messaging_groups.list_all(db)
    return [_make_row(chat) for chat in chats if arguments.channel in (None, chat.channel_type)]


async def _get(context: CommandContext, db: Queries, arguments: ChatArgs) -> ChatRow | None:
    chat = await _find_chat(db, arguments)
    return None if chat is None else _make_row(chat)


async def _create(context: CommandContext, tx: Transaction, arguments: CreateArgs) -> ChatRow:
    place = parse_chat_address(arguments.channel, arguments.chat)
    chat = await ensure_chat(tx, place, unknown=arguments.unknown, name=arguments.name, now=context.clock.now())
    if arguments.name:  # it may have been known by another name
        await messaging_groups.update_from_platform(tx, chat.id, is_group=chat.is_group, name=arguments.name)
    return _make_row(await messaging_groups.get(tx, chat.id))


async def _update(context: CommandContext, tx: Transaction, arguments: UpdateArgs) -> ChatRow | None:
    chat = await _find_chat(tx, arguments)
    if chat is None:
        return None
    if arguments.name is not None:
        await messaging_groups.update_from_platform(tx, chat.id, is_group=chat.is_group, name=arguments.name)
    if arguments.unknown is not None:
        await messaging_groups.set_unknown_sender(tx, chat.id, arguments.unknown)
    return _make_row(await messaging_groups.get(tx, chat.id))


async def _delete(context: CommandContext, tx: Transaction, arguments: ChatArgs) -> DeletedRow | None:
    chat = await _find_chat(tx, arguments)
    if chat is None:
        return None
    await _require_unused(tx, chat)
    await messaging_groups.delete(tx, chat.id)
    return DeletedRow(deleted=chat.id, channel=channel_name(chat), chat=chat.platform_id)


async def _require_unused(tx: Transaction, chat: MessagingGroup) -> None:
    what = f"chat {chat.id} ({chat.channel_type} {chat.platform_id})"
    if wired := await wirings.list_for_chat(tx, chat.id):
        raise UsageError(f"{what} is wired to an agent", hint=f"nanohost wirings delete {wired[0].id}")
    if named := await destinations.list_for_chat(tx, chat.id):
        raise UsageError(f"{what} is the destination {named[0].name}", hint="nanohost destinations list")
    if kept := await sessions.find_one_for_chat(tx, chat.id):
        place = shlex.quote(audit.chat_target(chat))
        raise UsageError(
            f"{what} has conversations, and those are kept: {kept.id}",
            hint=f"nanohost rules create chat deny --subject {place}, and nobody is asked about it",
        )


async def _find_chat(db: Queries, arguments: ChatArgs) -> MessagingGroup | None:
    return await messaging_groups.find_by_id(db, MessagingGroupId(arguments.id))


def _make_row(chat: MessagingGroup) -> ChatRow:
    return ChatRow.model_validate(to_json(chat))


RESOURCE = Resource(
    name="chats",
    singular="messaging group",
    description="chats that are known: rooms, channels and direct messages; long name: messaging-groups",
    row=ChatRow,
    verbs=(
        ListVerb(help="list the chats that are known", example="--json", arguments=ListArgs, run=_list),
        GetVerb(help="show one chat", example="3", arguments=ChatArgs, run=_get, positional=("id",)),
        ChangeVerb(
            name="create",
            can_create_install=True,
            help="make a chat known, or change what strangers may do in it",
            example="--channel telegram --chat 123456 --unknown strict",
            arguments=CreateArgs,
            run=_create,
        ),
        ChangeVerb(
            name="update",
            help="change what a chat is called, or what strangers may do in it",
            example="3 --unknown strict",
            arguments=UpdateArgs,
            run=_update,
            positional=("id",),
        ),
        ChangeVerb(
            name="delete",
            confirm="Delete the chat {id}?",
            help="forget a chat that nothing refers to",
            example="3",
            arguments=ChatArgs,
            run=_delete,
            result=DeletedRow,
            positional=("id",),
        ),
    ),
)
COMMANDS = RESOURCE.commands()

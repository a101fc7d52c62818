"""Messaging groups: the chats that are known."""

from __future__ import annotations

from pydantic import Field

from nanohost.commands.context import CommandContext
from nanohost.commands.registry import Arguments, Command
from nanohost.commands.setup import chat_place, ensure_chat
from nanohost.commands.show import Json, plain
from nanohost.model import UnknownSender
from nanohost.store import messaging_groups


class List(Arguments):
    """Nothing to say."""


class Create(Arguments):
    channel: str = Field(description="TYPE or TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat")
    name: str = Field("", description="what people call it")
    unknown: UnknownSender | None = Field(None, description="what senders without a role may do")


async def _list(context: CommandContext, arguments: List) -> Json:
    return plain(await messaging_groups.every(context.store))


async def _create(context: CommandContext, arguments: Create) -> Json:
    place = chat_place(arguments.channel, arguments.chat)
    async with context.store.transaction() as tx:
        return plain(
            await ensure_chat(tx, place, unknown=arguments.unknown, name=arguments.name, now=context.clock.now())
        )


COMMANDS = (
    Command(
        words="messaging-groups list",
        help="list the chats that are known",
        example="nanohost messaging-groups list --json",
        arguments=List,
        run=_list,
    ),
    Command(
        words="messaging-groups create",
        begins=True,
        help="make a chat known, or change what strangers may do in it",
        example="nanohost messaging-groups create --channel telegram --chat 123456 --unknown strict",
        arguments=Create,
        run=_create,
    ),
)

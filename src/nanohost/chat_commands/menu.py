"""The commands as a platform's menu offers them: the registry's, and no list of its own."""

from __future__ import annotations

from nanohost.channel_api import MenuCommand
from nanohost.chat_commands.command import ChatCommand, Who
from nanohost.chat_commands.host_command import HostCommand
from nanohost.chat_commands.registry import chat_commands, host_commands

_FOR = {Who.ADMIN: " (admins)", Who.OWNER: " (owners)"}
"""A menu is the same for all: who may not use a command should see so before they try."""


def menu() -> tuple[MenuCommand, ...]:
    """Those of a conversation first: they are for everybody."""
    of_conversation = (_of_conversation(one) for one in chat_commands().values())
    of_host = (_of_host(one) for one in host_commands().values() if one.shown)
    return (*of_conversation, *of_host)


def _of_conversation(one: ChatCommand) -> MenuCommand:
    return MenuCommand(name=one.name, help=one.help + _FOR.get(one.who, ""))


def _of_host(one: HostCommand) -> MenuCommand:
    arguments = one.example.partition(" ")[2] if one.arguments.model_fields else ""
    return MenuCommand(
        name=one.name, help=one.help + _FOR.get(one.who, ""), arguments=arguments, is_private=one.private
    )

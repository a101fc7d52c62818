"""Lists the commands for a platform's command menu, from the registry."""

from __future__ import annotations

from nanohost.channel_api import MenuCommand
from nanohost.chat_commands.command import ChatCommand, RequiredRole
from nanohost.chat_commands.host_command import HostCommand
from nanohost.chat_commands.registry import chat_commands, host_commands
from nanohost.text.translation import _, gettext_noop, translate

_ROLE_LABELS = {
    RequiredRole.ADMIN: gettext_noop("{help} (admins)"),
    RequiredRole.OWNER: gettext_noop("{help} (owners)"),
}
"""A menu is the same for everybody, so it shows who may use a command."""


def build_menu() -> tuple[MenuCommand, ...]:
    """Returns the menu, with commands of a session first, which are for everybody."""
    of_conversation = (_chat_command_item(one) for one in chat_commands().values())
    of_host = (_host_command_item(one) for one in host_commands().values() if one.is_in_help)
    return (*of_conversation, *of_host)


def _chat_command_item(command: ChatCommand) -> MenuCommand:
    return MenuCommand(name=command.name, help=_help(command))


def _help(command: ChatCommand | HostCommand) -> str:
    label = _ROLE_LABELS.get(command.required_role)
    return translate(command.help) if label is None else _(label, help=translate(command.help))


def _host_command_item(command: HostCommand) -> MenuCommand:
    arguments = translate(command.example).partition(" ")[2] if command.arguments.model_fields else ""
    return MenuCommand(
        name=command.name,
        help=_help(command),
        arguments=arguments,
        is_private=command.is_direct_only,
    )

"""/help: list the commands that can be typed here."""

from __future__ import annotations

from collections.abc import Collection

from nanohost.chat_commands.agent_commands import AGENT_COMMANDS, Disposition
from nanohost.chat_commands.command import ApplyCommand, ChatCommand, ChatCommandInvocation, Effect, RequiredRole
from nanohost.chat_commands.host_command import HostCommand, is_permitted
from nanohost.chat_commands.registry import chat_commands, host_commands
from nanohost.model import Role
from nanohost.text.translation import _, gettext_noop, translate


async def _prepare(invocation: ChatCommandInvocation) -> ApplyCommand:
    of_conversation = [
        one for one in chat_commands().values() if invocation.is_admin or one.required_role is RequiredRole.ANYONE
    ]
    of_host = host_command_lines(invocation.roles)
    lines = [
        _("Write to me as you would to a person. These commands are for my host:"),
        *(f"/{one.name}: {translate(one.help)}" for one in of_conversation),
    ]
    if of_host:
        lines += [_("And these (in a group, mention me):"), *of_host]
    if invocation.is_admin:
        lines += [_("These are for my own program:"), *_agent_command_lines()]
    text = "\n".join(lines)
    return lambda box: Effect(answer=text)


def host_command_lines(roles: Collection[Role]) -> list[str]:
    """Returns the host commands for these roles, which also work in a chat without an agent: one line each."""
    return [
        _host_command_line(one)
        for one in host_commands().values()
        if one.is_in_help and is_permitted(one.required_role, roles)
    ]


def _agent_command_lines() -> list[str]:
    """Returns the commands of the model's command line that admins can type: one line each."""
    return [
        f"/{name}: {_(one.description)}"
        for name, one in AGENT_COMMANDS.items()
        if one.disposition is Disposition.ADMINS_ONLY
    ]


def _host_command_line(command: HostCommand) -> str:
    """Returns the help line of a host command, with its arguments, and a note if it is only for direct messages."""
    line = f"/{command.name}: {translate(command.help)}"
    if command.arguments.model_fields:
        line = _("{command}, like {example}", command=line, example=translate(command.example))
    return _("{command} (in a direct message)", command=line) if command.is_direct_only else line


COMMAND = ChatCommand(name="help", help=gettext_noop("show this"), prepare=_prepare)

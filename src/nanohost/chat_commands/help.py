"""/help: what can be typed here."""

from __future__ import annotations

from collections.abc import Collection

from nanohost.chat_commands.command import Asked, CarryOut, ChatCommand, Effect, Who
from nanohost.chat_commands.host_command import HostCommand, is_for
from nanohost.chat_commands.lists import FOREIGN, Fate
from nanohost.chat_commands.registry import chat_commands, host_commands
from nanohost.model import Role


async def _prepare(asked: Asked) -> CarryOut:
    of_conversation = [one for one in chat_commands().values() if asked.is_admin or one.who is Who.ANYONE]
    of_host = host_words(asked.roles)
    lines = [
        "Write to me as you would to a person. These words are for my host:",
        *(f"/{one.name}: {one.help}" for one in of_conversation),
    ]
    if of_host:
        lines += ["And these (in a group, mention me):", *of_host]
    if asked.is_admin:
        lines += ["These are for my own program:", *_of_the_program()]
    text = "\n".join(lines)
    return lambda _: Effect(answer=text)


def host_words(roles: Collection[Role]) -> list[str]:
    """What somebody with these roles can type where no agent listens, too: a line each."""
    return [_of_host(one) for one in host_commands().values() if one.shown and is_for(one.who, roles)]


def _of_the_program() -> list[str]:
    """What an admin can type to the agent's own program: a line each."""
    return [f"/{name}: {one.reason}" for name, one in FOREIGN.items() if one.fate is Fate.ADMINS]


def _of_host(one: HostCommand) -> str:
    """With what it takes, and where it is not for all to read."""
    example = f", like {one.example}" if one.arguments.model_fields else ""
    private = " (in a direct message)" if one.private else ""
    return f"/{one.name}: {one.help}{example}{private}"


COMMAND = ChatCommand(name="help", help="show this", prepare=_prepare)

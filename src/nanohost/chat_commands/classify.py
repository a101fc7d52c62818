"""Classifies a text that begins with a slash: a command, a refusal, or a message for the agent. Pure.

A command of a session must be the whole text, so that "/stop it, please" is a message for the agent. Commands of the
model's own command line (agent_commands.py), which it would carry out, and host commands count if a text begins with
them. Permitted host commands are handled earlier (routing/host_command_handler.py): one that arrives here is from
somebody who may not use it, or is not addressed to the bot.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from nanohost.chat_commands.agent_commands import AGENT_COMMANDS, Disposition
from nanohost.chat_commands.command import RequiredRole
from nanohost.chat_commands.host_command import is_permitted, refusal_text
from nanohost.chat_commands.registry import chat_commands, host_commands
from nanohost.model import Role
from nanohost.text.translation import _, gettext_noop

MENTION_REQUIRED = gettext_noop("/{name} is for the host: in a group, mention me with it.")

_COMMAND_NAME = re.compile(r"\s*/([a-z][a-z0-9_-]*)(@\w+)?(?=\s|$)", re.IGNORECASE)
"""A command's name, with the bot's name after it if the chat has several bots."""


@dataclass(frozen=True, slots=True)
class PassThrough:
    """It is for the agent."""


@dataclass(frozen=True, slots=True)
class Discard:
    """It is dropped. The reason is stored with the event."""

    reason: str


@dataclass(frozen=True, slots=True)
class ParsedCommand:
    """The host handles it. `refusal`: the reply, if the sender may not use it. `roles`: all of the sender's roles."""

    name: str
    is_admin: bool
    refusal: str | None = None
    roles: frozenset[Role] = frozenset()


CommandDecision = PassThrough | Discard | ParsedCommand


def is_chat_command(text: str) -> bool:
    """Returns whether the whole text is a command of the host."""
    found = _COMMAND_NAME.match(text)
    return found is not None and found[1].lower() in chat_commands() and not text[found.end() :].strip()


def classify_command(
    text: str, *, is_admin: bool, roles: Collection[Role] = (), is_addressed: bool = True
) -> CommandDecision:
    """Classifies the text of a sender who may talk to the agent.

    `is_admin`: of this agent. `roles`: all of the sender's roles. `is_addressed`: it is a direct message or mentions
    the bot; otherwise a name after a command is another bot's.
    """
    found = _COMMAND_NAME.match(text)
    if found is None:
        return PassThrough()
    name = found[1].lower()
    if found[2] and not is_addressed:
        # The model would carry it out even if it names another bot.
        return Discard(f"/{name} is for another bot") if name in AGENT_COMMANDS else PassThrough()
    order = ParsedCommand(name, is_admin, roles=frozenset(roles))
    if is_chat_command(text):
        if chat_commands()[name].required_role is RequiredRole.ADMIN and not is_admin:
            return replace(order, refusal=_("Only an admin may use /{name} here.", name=name))
        return order
    if (command := host_commands().get(name)) is not None:
        refusal = (
            _(MENTION_REQUIRED, name=name) if is_permitted(command.required_role, roles) else refusal_text(command)
        )
        return replace(order, refusal=refusal)
    foreign = AGENT_COMMANDS.get(name)
    if foreign is None:
        return PassThrough()
    if foreign.disposition is Disposition.DISCARDED:
        return Discard(f"/{name} is no command for a chat")
    return PassThrough() if is_admin else replace(order, refusal=_("Only an admin may use /{name} here.", name=name))

"""Classifies a text that begins with a slash: a command, a refusal, or a message for the agent. Pure.

Commands of a conversation are the whole text, so that "/stop it, please" is a sentence for the agent. Those of the
model's own command line (lists.py), which it would obey, and those of the host count as soon as a text begins with
them. The host's are handled before (routing/host_command_handler.py): what comes here is from somebody who may not
use them, or was not said to us.
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
"""A command's name, and the bot's after it where a chat has several."""


@dataclass(frozen=True, slots=True)
class PassThrough:
    """It is for the agent."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Nobody sees it. The reason is kept with the event."""

    reason: str


@dataclass(frozen=True, slots=True)
class ParsedCommand:
    """The host deals with it. `refusal`: by saying no. `roles` of whoever gave it, wherever they have them."""

    name: str
    is_admin: bool
    refusal: str | None = None
    roles: frozenset[Role] = frozenset()


CommandDecision = PassThrough | Discard | ParsedCommand


def is_chat_command(text: str) -> bool:
    """Whether the whole text is a command of the host."""
    found = _COMMAND_NAME.match(text)
    return found is not None and found[1].lower() in chat_commands() and not text[found.end() :].strip()


def classify_command(
    text: str, *, is_admin: bool, roles: Collection[Role] = (), is_addressed: bool = True
) -> CommandDecision:
    """Who writes it may talk to the agent here. `is_admin`: of this agent; `roles`: wherever they have them.
    `is_addressed`: it is a direct message or mentions us; a name behind a command is another bot's otherwise."""
    found = _COMMAND_NAME.match(text)
    if found is None:
        return PassThrough()
    name = found[1].lower()
    if found[2] and not is_addressed:
        # The model does not look at whose command it is.
        return Discard(f"/{name} is for another bot") if name in AGENT_COMMANDS else PassThrough()
    order = ParsedCommand(name, is_admin, roles=frozenset(roles))
    if is_chat_command(text):
        if chat_commands()[name].required_role is RequiredRole.ADMIN and not is_admin:
            return replace(order, refusal=_("Only an admin may use /{name} here.", name=name))
        return order
    if (command := host_commands().get(name)) is not None:
        told = _(MENTION_REQUIRED, name=name) if is_permitted(command.required_role, roles) else refusal_text(command)
        return replace(order, refusal=told)
    foreign = AGENT_COMMANDS.get(name)
    if foreign is None:
        return PassThrough()
    if foreign.disposition is Disposition.DISCARDED:
        return Discard(f"/{name} is no command for a chat")
    return PassThrough() if is_admin else replace(order, refusal=_("Only an admin may use /{name} here.", name=name))

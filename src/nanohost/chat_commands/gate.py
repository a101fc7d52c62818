"""What becomes of a text that begins with a slash. Pure: text and role in, a decision out.

Commands of a conversation are the whole text, so that "/stop it, please" is a sentence for the agent. Those of the
model's own command line (lists.py), which it would obey, and those of the host count as soon as a text begins with
them. The host's are dealt with before (reception/commands.py): what comes here is from somebody who may not use them,
or was not said to us.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from nanohost.chat_commands.command import Who
from nanohost.chat_commands.host_command import is_for, refusal
from nanohost.chat_commands.lists import FOREIGN, Fate
from nanohost.chat_commands.registry import chat_commands, host_commands
from nanohost.model import Role

TO_ME = "/{name} is for the host: in a group, mention me with it."

_WORD = re.compile(r"\s*/([a-z][a-z0-9_-]*)(@\w+)?(?=\s|$)", re.IGNORECASE)
"""A command's name, and the bot's after it where a chat has several."""


@dataclass(frozen=True, slots=True)
class Passes:
    """It is for the agent."""


@dataclass(frozen=True, slots=True)
class Vanishes:
    """Nobody sees it. The reason is kept with the event."""

    reason: str


@dataclass(frozen=True, slots=True)
class Order:
    """The host deals with it. `refusal`: by saying no. `roles` of whoever gave it, wherever they have them."""

    name: str
    is_admin: bool
    refusal: str | None = None
    roles: frozenset[Role] = frozenset()


Verdict = Passes | Vanishes | Order


def is_order(text: str) -> bool:
    """Whether the whole text is a command of the host."""
    found = _WORD.match(text)
    return found is not None and found[1].lower() in chat_commands() and not text[found.end() :].strip()


def gate(text: str, *, is_admin: bool, roles: Collection[Role] = (), is_to_us: bool = True) -> Verdict:
    """Who writes it may talk to the agent here. `is_admin`: of this agent; `roles`: wherever they have them.
    `is_to_us`: it is a direct message or mentions us; a name behind a command is another bot's otherwise."""
    found = _WORD.match(text)
    if found is None:
        return Passes()
    name = found[1].lower()
    if found[2] and not is_to_us:
        # The model does not look at whose command it is.
        return Vanishes(f"/{name} is for another bot") if name in FOREIGN else Passes()
    order = Order(name, is_admin, roles=frozenset(roles))
    if is_order(text):
        if chat_commands()[name].who is Who.ADMIN and not is_admin:
            return replace(order, refusal=f"Only an admin may use /{name} here.")
        return order
    if (command := host_commands().get(name)) is not None:
        told = TO_ME.format(name=name) if is_for(command.who, roles) else refusal(command)
        return replace(order, refusal=told)
    foreign = FOREIGN.get(name)
    if foreign is None:
        return Passes()
    if foreign.fate is Fate.VANISHES:
        return Vanishes(f"/{name} is no command for a chat")
    return Passes() if is_admin else replace(order, refusal=f"Only an admin may use /{name} here.")

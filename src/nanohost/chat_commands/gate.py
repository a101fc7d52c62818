"""What becomes of a text that begins with a slash. Pure: text and role in, a decision out.

Commands of the host are the whole text, so that "/stop it, please" is a sentence for the agent. The other two lists are
about commands of the model's own command line, which it would obey: they count as soon as a text begins with them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nanohost.chat_commands.command import Who
from nanohost.chat_commands.registry import chat_commands

FILTERED = {"login", "logout", "config", "doctor", "remote-control"}
"""They are about the machine that the agent runs on: nobody's in a chat."""
ADMINS = {"compact", "context", "cost", "files"}
"""They change or show what the agent works with; an admin's pass to it."""

_WORD = re.compile(r"\s*/([a-z][a-z0-9_-]*)(?:@\w+)?(?=\s|$)", re.IGNORECASE)
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
    """The host deals with it. `refusal`: by saying no."""

    name: str
    is_admin: bool
    refusal: str | None = None


Verdict = Passes | Vanishes | Order


def is_order(text: str) -> bool:
    """Whether the whole text is a command of the host."""
    found = _WORD.match(text)
    return found is not None and found[1].lower() in chat_commands() and not text[found.end() :].strip()


def gate(text: str, *, is_admin: bool) -> Verdict:
    """Who writes it may talk to the agent here."""
    found = _WORD.match(text)
    if found is None:
        return Passes()
    name = found[1].lower()
    if name in FILTERED:
        return Vanishes(f"/{name} is no command for a chat")
    if is_order(text):
        for_admins = chat_commands()[name].who is Who.ADMIN
    elif name in ADMINS:
        for_admins = True
        if is_admin:
            return Passes()
    else:
        return Passes()
    refused = for_admins and not is_admin
    return Order(name, is_admin, refusal=f"Only an admin may use /{name} here." if refused else None)

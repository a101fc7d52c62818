"""What is typed in a conversation and is for this terminal: /quit, what stands in no list but near to one, and more of
/help. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from nanohost.chat_commands.gate import is_order
from nanohost.chat_commands.lists import FOREIGN
from nanohost.chat_commands.registry import chat_commands, host_commands

QUIT = ("quit", "exit")
NEAR = 0.74
"""How alike two words are (difflib's ratio) so that one may be meant by the other: one wrong letter of four is not."""
LOCAL_HELP = """\
And these are for this terminal:
/quit: leave, as Ctrl-D does
Alt-Enter, or \\ before Enter: begin a new line
Up, Ctrl-R: what you typed before
Ctrl-C: drop what is typed, else leave"""
"""Where lines are edited."""
PLAIN_HELP = "And this is for this terminal:\n/quit: leave, as Ctrl-D does"

_COMMAND = re.compile(r"\s*/([a-z][a-z0-9_-]*)(?:@\w+)?(?=\s|$)", re.IGNORECASE)
"""As the host reads it (see chat_commands.gate): a path is none."""


def command_in(text: str) -> str:
    """The command that a text begins with, in small letters; empty for none."""
    found = _COMMAND.match(text)
    return found[1].lower() if found else ""


def is_for_host(text: str, own: Collection[str]) -> bool:
    """Whether the host's own words may be the answer. After one of the install's `own` commands anything may follow, as
    who is not the host does not know which kind it is."""
    return is_order(text) or command_in(text) in {*host_commands(), *FOREIGN, *own}


def leaves(text: str) -> bool:
    return text.strip().lower() in {f"/{word}" for word in QUIT}


def wants_to_leave(text: str) -> bool:
    """Whether it is the word that other programs are left with, and no command here."""
    return text.strip().lower() in QUIT


def meant_instead(text: str, own: Collection[str] = ()) -> str | None:
    """The command that was meant, where a text begins with one that is none; None: it is one, or nothing like it.
    `own`: names of the install's own commands (chat_commands.registry.names_in)."""
    word, known = command_in(text), {*chat_commands(), *host_commands(), *FOREIGN, *QUIT, *own}
    if not word or word in known:
        return None
    near = difflib.get_close_matches(word, sorted(known), 1, NEAR)
    return near[0] if near else None


def did_you_mean(text: str, meant: str) -> str:
    if wants_to_leave(text):
        return f"To leave, type /{meant}. The same again goes to the agent as it is."
    return f"There is no command /{command_in(text)}. Did you mean /{meant}? The same again goes to the agent as it is."

"""Handles what is typed in a chat and is for this terminal: /quit, misspelled commands, and the terminal's own help.
Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from nanohost.chat_commands.agent_commands import AGENT_COMMANDS
from nanohost.chat_commands.classify import is_chat_command
from nanohost.chat_commands.registry import chat_commands, host_commands

QUIT_WORDS = ("quit", "exit")
SIMILARITY_CUTOFF = 0.74
"""How alike two words are (difflib's ratio) so that one may be meant by the other: one wrong letter of four is not."""
LOCAL_HELP = """\
And these are for this terminal:
/quit: leave, as Ctrl-D does
Alt-Enter, or \\ before Enter: begin a new line
Up, Ctrl-R: what you typed before
Ctrl-C: drop what is typed, else leave"""
"""Where lines are edited."""
PLAIN_LOCAL_HELP = "And this is for this terminal:\n/quit: leave, as Ctrl-D does"

_COMMAND = re.compile(r"\s*/([a-z][a-z0-9_-]*)(?:@\w+)?(?=\s|$)", re.IGNORECASE)
"""As the host reads it (see chat_commands.gate): a path is none."""


def parse_command_name(text: str) -> str:
    """The command that a text begins with, in small letters; empty for none."""
    found = _COMMAND.match(text)
    return found[1].lower() if found else ""


def is_for_host(text: str, custom_commands: Collection[str]) -> bool:
    """Whether the host's own words may be the answer. After one of the install's `custom_commands` commands anything
    may follow, as who is not the host does not know which kind it is."""
    return is_chat_command(text) or parse_command_name(text) in {*host_commands(), *AGENT_COMMANDS, *custom_commands}


def is_quit_command(text: str) -> bool:
    return text.strip().lower() in {f"/{word}" for word in QUIT_WORDS}


def is_bare_quit_word(text: str) -> bool:
    """Whether it is the word that other programs are left with, and no command here."""
    return text.strip().lower() in QUIT_WORDS


def suggest_command(text: str, custom_commands: Collection[str] = ()) -> str | None:
    """The command that was meant, where a text begins with one that is none; None: it is one, or nothing like it.
    `custom_commands`: names of the install's own commands (chat_commands.registry.names_in)."""
    word, known = (
        parse_command_name(text),
        {*chat_commands(), *host_commands(), *AGENT_COMMANDS, *QUIT_WORDS, *custom_commands},
    )
    if not word or word in known:
        return None
    near = difflib.get_close_matches(word, sorted(known), 1, SIMILARITY_CUTOFF)
    return near[0] if near else None


def suggestion_text(text: str, suggestion: str) -> str:
    if is_bare_quit_word(text):
        return f"To leave, type /{suggestion}. The same again goes to the agent as it is."
    return (
        f"There is no command /{parse_command_name(text)}. Did you mean /{suggestion}? The same "
        "again goes to the agent as it is."
    )

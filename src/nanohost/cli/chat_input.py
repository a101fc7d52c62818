"""Handles input that is for this terminal: /quit, misspelled commands, and the terminal's own help.
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
"""The similarity of two words (difflib's ratio) for a suggestion: one wrong letter of four is not similar enough."""
LOCAL_HELP = """\
And these are for this terminal:
/quit: leave, as Ctrl-D does
Alt-Enter, or \\ before Enter: begin a new line
Up, Ctrl-R: what you typed before
Ctrl-C: drop what is typed, else leave"""
"""The help for terminals with line editing."""
PLAIN_LOCAL_HELP = "And this is for this terminal:\n/quit: leave, as Ctrl-D does"

_COMMAND = re.compile(r"\s*/([a-z][a-z0-9_-]*)(?:@\w+)?(?=\s|$)", re.IGNORECASE)
"""A command as the host parses it (see chat_commands.classify): a path is none."""


def parse_command_name(text: str) -> str:
    """Returns the command that a text begins with, in lower case; empty for none."""
    found = _COMMAND.match(text)
    return found[1].lower() if found else ""


def is_for_host(text: str, custom_commands: Collection[str]) -> bool:
    """Returns whether the host itself may answer the text. For the install's `custom_commands` that is always so, as
    only the host knows their kind."""
    return is_chat_command(text) or parse_command_name(text) in {*host_commands(), *AGENT_COMMANDS, *custom_commands}


def is_quit_command(text: str) -> bool:
    return text.strip().lower() in {f"/{word}" for word in QUIT_WORDS}


def is_bare_quit_word(text: str) -> bool:
    """Returns whether it is a word that ends other programs, such as exit, but is no command here."""
    return text.strip().lower() in QUIT_WORDS


def suggest_command(text: str, custom_commands: Collection[str] = ()) -> str | None:
    """Returns the command that resembles an unknown one; None if it is known, or resembles none.

    `custom_commands`: names of the install's own commands (chat_commands.registry.extension_names).
    """
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

"""Lines typed in a chat that are for this terminal."""

from __future__ import annotations

import pytest

from nanohost.chat_commands.registry import chat_commands, host_commands
from nanohost.cli.chat_input import is_for_host, is_quit_command, suggest_command


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("/stauts", "status"),
        ("/hlep", "help"),
        (" /STOPP ", "stop"),
        ("/aprove k3f7qd", "approve"),
        ("/qiut", "quit"),
        ("/status@a_bot", None),
        ("/etc", None),
        ("/etc/passwd", None),
        ("/path/like words", None),
        ("/home is where", None),
        ("/deploy", None),
        ("hlep", None),
        ("/", None),
        ("", None),
    ],
)
def test_a_near_miss_of_a_command_is_suggested_and_nothing_else_is(text: str, meant: str | None) -> None:
    assert suggest_command(text) == meant


@pytest.mark.parametrize("name", [*chat_commands(), *host_commands(), "compact", "login", "quit", "exit"])
def test_no_command_is_mistaken_for_another(name: str) -> None:
    assert suggest_command(f"/{name}") is None


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ("/status", True),
        (" /STOP\n", True),
        ("/status@a_bot", True),
        ("/pause 2h", True),
        ("/compact what was said", True),
        ("/tally all of it", True),
        ("/stop it, please", False),
        ("/etc/hosts is what?", False),
        ("/deploy", False),
        ("/quit now", False),
        ("status", False),
        ("/", False),
    ],
)
def test_only_a_line_with_an_existing_command_is_for_the_host(text: str, is_so: bool) -> None:
    assert is_for_host(text, ["tally"]) is is_so


def test_an_installed_command_is_not_corrected_and_can_be_suggested() -> None:
    assert suggest_command("/stats", ["stats"]) is None
    assert suggest_command("/stast", ["stats"]) == "stats"


@pytest.mark.parametrize(
    ("text", "is_left"), [("/quit", True), (" /EXIT\n", True), ("/quit now", False), ("quit", False)]
)
def test_quit_is_recognised_as_a_command_of_its_own(text: str, is_left: bool) -> None:
    assert is_quit_command(text) is is_left

"""What a person in a conversation sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.cli.chat import _doubt
from nanohost.cli.screen import Screen
from nanohost.cli.terminal_client import Shown, TerminalClient
from nanohost.commands.registry import find

OBEYED = "\x1b]0;mine\x07\x9b2J"


@pytest.mark.parametrize("is_error", [False, True])
def test_nothing_that_an_agent_says_or_that_went_wrong_commands_the_terminal(
    capsys: pytest.CaptureFixture[str], is_error: bool
) -> None:
    Screen().show(Shown(text=f"{OBEYED} hello", is_error=is_error))
    shown = capsys.readouterr().out
    assert "hello" in shown
    assert shown.startswith("! ") is is_error
    assert not [one for one in shown if one in "\x1b\x07\x9b"]


@pytest.mark.parametrize("words", ["pause", "resume", "cost"])
def test_no_name_in_the_answer_of_a_host_command_commands_the_terminal(words: str) -> None:
    shown = find(words).render({"answer": f"{OBEYED} paused it"})
    assert "paused it" in shown
    assert not [one for one in shown if one in "\x1b\x07\x9b"]


def test_of_a_host_that_has_gone_nobody_is_told_that_it_does_not_take_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = TerminalClient(tmp_path / "terminal.sock", "local", lambda _: None)
    _doubt(client, Screen(), client.say("hello"))
    assert capsys.readouterr().err == ""

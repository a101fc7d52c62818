"""nanohost chat: with a host in the same process, from a pipe, and once."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell


def test_a_first_chat_needs_no_preparation_and_prints_the_reply_alone(shell: Shell) -> None:
    typed = shell.types("chat", "--once", "hello world")
    assert (typed.code, typed.out) == (0, "You said: hello world\n")
    assert "process, demo" in typed.err
    assert (shell.home / "groups" / "main" / "CLAUDE.md").exists()


def test_what_to_say_can_come_from_standard_input(shell: Shell) -> None:
    typed = shell.types("chat", "--once", "-", stdin="two\nlines")
    assert (typed.code, typed.out) == (0, "You said: two\nlines\n")


def test_a_conversation_from_a_pipe_gets_all_its_answers(shell: Shell) -> None:
    typed = shell.types("chat", stdin="first\n\nsecond\n")
    assert typed.code == 0
    assert [line for line in typed.out.splitlines() if line] == ["You said: first", "You said: second"]


def test_quit_leaves(shell: Shell) -> None:
    assert shell.types("chat", stdin="/quit\nnever said\n").out.strip() == ""


@pytest.mark.behaviour("OP-05")
def test_what_the_terminal_cannot_carry_is_told_at_once(shell: Shell) -> None:
    typed = shell.types("chat", "--once", "-", stdin="x" * 1_200_000)
    assert (typed.code, typed.out) == (1, "")
    assert "a line may be at most" in typed.err


@pytest.mark.behaviour("OP-05")
def test_no_reply_in_time_is_told_and_is_exit_code_one(shell: Shell) -> None:
    shell.reads("groups", "create", "main")
    shell.reads(
        "wirings", "create", "--channel", "terminal", "--chat", "local", "--group", "main", "--engage", "pattern:^x"
    )
    typed = shell.types("chat", "--once", "hello", "--timeout", "0.3")
    assert (typed.code, typed.out) == (1, "")
    assert "no reply within 0.3 s" in typed.err
    assert "Traceback" not in typed.err

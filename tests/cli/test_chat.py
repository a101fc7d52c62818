"""nanohost chat: with a host in the same process, from a pipe, and once."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from nanohost.cli.chat import _run_conversation
from nanohost.config.home import Home
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Daemon, Shell


def test_a_first_chat_needs_no_preparation_and_prints_the_reply_alone(shell: Shell) -> None:
    typed = shell.run("chat", "--once", "hello world")
    assert (typed.code, typed.out) == (0, "You said: hello world\n")
    assert "process, demo" in typed.err
    assert (shell.home / "groups" / "main" / "CLAUDE.md").exists()


def test_what_to_say_can_come_from_standard_input(shell: Shell) -> None:
    typed = shell.run("chat", "--once", "-", stdin="two\nlines")
    assert (typed.code, typed.out) == (0, "You said: two\nlines\n")


def test_a_conversation_from_a_pipe_gets_all_its_answers(shell: Shell) -> None:
    typed = shell.run("chat", stdin="first\n\nsecond\n")
    assert typed.code == 0
    assert [line for line in typed.out.splitlines() if line] == ["You said: first", "You said: second"]


def test_a_question_that_comes_before_the_answer_to_an_earlier_line_does_not_end_a_conversation_from_a_pipe(
    shell: Shell,
) -> None:
    typed = shell.run("chat", stdin="hello there\nask me\n")
    assert typed.code == 0
    assert "You said: hello there" in typed.out
    assert "Which one do you like best?" in typed.out


async def test_a_pipe_whose_answer_does_not_come_is_told_so_and_is_exit_code_one(
    shell: Shell, daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_json("agents", "create", "main")
    words = ("--channel", "terminal", "--chat", "local", "--group", "main", "--engage", "pattern:^x")
    shell.run_json("wirings", "create", *words)
    code = await _run_conversation(Home(shell.home), io.StringIO("hello\n"), lambda: None, drain_timeout_s=0.3)
    assert code == 1
    assert "No answer within 0.3 s to 1 of your messages" in capsys.readouterr().err


def test_a_pipe_with_a_mistyped_command_says_the_rest_and_is_exit_code_one(shell: Shell) -> None:
    typed = shell.run("chat", stdin="/stauts\n/etc/hosts is a path\n")
    assert (typed.code, typed.out) == (1, "You said: /etc/hosts is a path\n")
    assert "There is no command /stauts. Did you mean /status?" in typed.err


def test_in_a_pipe_too_a_word_that_is_typed_again_goes_to_the_agent(shell: Shell) -> None:
    typed = shell.run("chat", stdin="/stauts\n/stauts\n")
    assert (typed.code, typed.out) == (0, "You said: /stauts\n")


@pytest.mark.parametrize("word", ["exit", "Quit"])
def test_the_word_that_other_programs_are_left_with_is_asked_about(shell: Shell, word: str) -> None:
    typed = shell.run("chat", stdin=f"{word}\n")
    assert (typed.code, typed.out) == (1, "")
    assert "To leave, type /quit. The same again goes to the agent as it is." in typed.err
    assert shell.run("chat", stdin=f"{word}\n{word}\n").out == f"You said: {word}\n"


@pytest.mark.parametrize(
    ("stdin", "code", "asked", "said"),
    [
        ("exit\nexit\nexit\n", 1, 2, 1),
        ("exit\nexit\nexit\nexit\n", 0, 2, 2),
        ("exit\nexit\nexit\n/stauts\n", 1, 3, 1),
    ],
)
def test_each_word_that_is_none_is_asked_about_anew_and_fails_a_pipe_until_it_is_typed_again(
    shell: Shell, stdin: str, code: int, asked: int, said: int
) -> None:
    typed = shell.run("chat", stdin=stdin)
    assert (typed.code, typed.err.count("The same again"), typed.out.count("You said:")) == (code, asked, said)


@pytest.mark.parametrize(("line", "is_told"), [("/help", True), (" /HELP ", True), ("/help me with a letter", False)])
def test_what_is_for_this_terminal_stands_below_the_answer_to_help_alone(
    shell: Shell, line: str, is_told: bool
) -> None:
    assert ("this is for this terminal" in shell.run("chat", stdin=f"{line}\n").err) is is_told


def test_quit_leaves(shell: Shell) -> None:
    assert shell.run("chat", stdin="/quit\nnever said\n").out.strip() == ""


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("once", [True, False])
def test_who_plans_something_is_told_that_no_host_stays_to_do_it(shell: Shell, once: bool) -> None:
    wish = "remind me in 600s to drink water"
    typed = shell.run("chat", "--once", wish) if once else shell.run("chat", stdin=f"{wish}\n")
    assert (typed.code, "No host stays" in typed.out) == (0, False)
    assert "No host stays behind: 1 planned task waits for the next one. Leave one running: nanohost run" in typed.err
    assert "No host stays" in shell.run("chat", "--once", "hello").err


@pytest.mark.behaviour("OP-05")
def test_beside_a_host_that_runs_nothing_is_left_behind(shell: Shell, daemon: Daemon) -> None:
    shell.run("chat", "--once", "hello")
    assert "No host stays" not in shell.run("chat", "--once", "remind me in 600s to drink water").err


@pytest.mark.behaviour("OP-05")
def test_what_the_terminal_cannot_carry_is_told_at_once(shell: Shell) -> None:
    typed = shell.run("chat", "--once", "-", stdin="x" * 1_200_000)
    assert (typed.code, typed.out) == (1, "")
    assert "a line may be at most" in typed.err


@pytest.mark.behaviour("OP-05")
def test_no_reply_in_time_is_told_and_is_exit_code_one(shell: Shell) -> None:
    shell.run_json("agents", "create", "main")
    shell.run_json(
        "wirings", "create", "--channel", "terminal", "--chat", "local", "--group", "main", "--engage", "pattern:^x"
    )
    typed = shell.run("chat", "--once", "hello", "--timeout", "0.3")
    assert (typed.code, typed.out) == (1, "")
    assert "no reply within 0.3 s" in typed.err
    assert "Traceback" not in typed.err


@pytest.mark.behaviour("OP-05")
def test_nothing_to_say_is_a_usage_error(shell: Shell) -> None:
    for typed in (shell.run("chat", "--once", " "), shell.run("chat", "--once", "-")):
        assert (typed.code, typed.out) == (2, "")
        assert "nothing to say" in typed.err


@pytest.mark.parametrize("limit", ["-1", "0", "nan", "inf"])
def test_a_limit_that_never_ends_or_has_ended_is_a_usage_error(shell: Shell, limit: str) -> None:
    typed = shell.run("chat", "--once", "hello", f"--timeout={limit}")
    assert typed.code == 2
    assert f"'{limit}' is not a number of seconds" in typed.err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_a_locale_cannot_carry_harms_nothing(shell: Shell, tmp_path: Path, encoding: str) -> None:
    said = tmp_path / "said"
    said.write_bytes(b"bad \xff byte\n")
    with said.open("rb") as stdin:
        typed = subprocess.run(
            [sys.executable, "-m", "nanohost", "--home", shell.home, "chat"],
            stdin=stdin,
            capture_output=True,
            timeout=scaled_timeout(HANG_TIMEOUT_S),
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "NANOHOST_RUNTIME": "process",
                "NANOHOST_PROVIDER": "demo",
                "PYTHONIOENCODING": encoding,
            },
        )
    assert typed.returncode == 0
    assert typed.stdout.startswith(b"You said: bad ")
    assert b"Traceback" not in typed.stderr


def test_what_the_host_of_a_chat_logs_is_in_the_home(shell: Shell) -> None:
    typed = shell.run("chat", stdin="hello\n")
    log = (shell.home / "run" / "chat.log").read_text()
    assert "host_ready" in log
    assert "host_ready" not in typed.err


def test_a_host_that_goes_and_comes_back_is_told_and_answers(shell: Shell, daemon: Daemon) -> None:
    with shell.start("chat") as chat:
        assert chat.stdin is not None
        assert chat.stderr is not None
        assert "Talking to" in chat.stderr.readline()
        daemon.stop()
        assert "The host has gone" in chat.stderr.readline()
        chat.stdin.write("are you there?\n")
        chat.stdin.flush()
        with shell.start("run", NANOHOST_LOG="json") as second:
            assert "The host is back" in chat.stderr.readline()
            out, _ = chat.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
            second.terminate()
            second.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
    assert "are you there?" in out


def test_a_message_that_no_host_took_is_not_silently_forgotten(shell: Shell, daemon: Daemon) -> None:
    with shell.start("chat") as chat:
        assert chat.stderr is not None
        assert "Talking to" in chat.stderr.readline()
        daemon.stop()
        assert "The host has gone" in chat.stderr.readline()
        _, err = chat.communicate("are you there?\n/quit\n", timeout=scaled_timeout(HANG_TIMEOUT_S))
    assert "no host took them: 1 of your messages" in err


def test_a_window_that_is_closed_ends_the_chat_and_its_containers(shell: Shell) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(
            sys.executable,
            [sys.executable, "-m", "nanohost", "--home", str(shell.home), "chat"],
            {
                "PATH": os.environ["PATH"],
                "NANOHOST_RUNTIME": "process",
                "NANOHOST_PROVIDER": "demo",
                "NANOHOST_TIMEZONE": "UTC",
            },
        )
    shown = b""
    while b"> " not in shown:
        shown += os.read(terminal, 1000)
    os.write(terminal, b"hello\n")
    while b"Hello!" not in shown:
        shown += os.read(terminal, 1000)
    os.close(terminal)
    os.waitpid(pid, 0)
    assert "host_stopping" in (shell.home / "run" / "chat.log").read_text()
    assert [one["container"] for one in shell.run_json("sessions", "list")] == [None]

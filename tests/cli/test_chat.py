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


def test_a_first_chat_needs_no_preparation_and_prints_only_the_reply(shell: Shell) -> None:
    typed = shell.run("chat", "--once", "hello world")
    assert (typed.code, typed.out) == (0, "You said: hello world\n")
    assert "process, demo" in typed.err
    assert (shell.home / "groups" / "main" / "CLAUDE.md").exists()


def test_the_message_can_come_from_standard_input(shell: Shell) -> None:
    typed = shell.run("chat", "--once", "-", stdin="two\nlines")
    assert (typed.code, typed.out) == (0, "You said: two\nlines\n")


def test_a_piped_conversation_gets_all_its_answers(shell: Shell) -> None:
    typed = shell.run("chat", stdin="first\n\nsecond\n")
    assert typed.code == 0
    assert [line for line in typed.out.splitlines() if line] == ["You said: first", "You said: second"]


def test_a_question_before_the_answer_to_an_earlier_line_does_not_end_a_piped_conversation(
    shell: Shell,
) -> None:
    typed = shell.run("chat", stdin="hello there\nask me\n")
    assert typed.code == 0
    assert "You said: hello there" in typed.out
    assert "Which one do you like best?" in typed.out


async def test_a_pipe_without_an_answer_in_time_ends_with_exit_code_one(
    shell: Shell, daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_json("agents", "create", "main")
    words = ("--channel", "terminal", "--chat", "local", "--group", "main", "--engage", "pattern:^x")
    shell.run_json("wirings", "create", *words)
    code = await _run_conversation(Home(shell.home), io.StringIO("hello\n"), lambda: None, drain_timeout_s=0.3)
    assert code == 1
    assert "No answer within 0.3 s to 1 of your messages" in capsys.readouterr().err


def test_a_pipe_with_a_mistyped_command_sends_the_rest_and_ends_with_exit_code_one(shell: Shell) -> None:
    typed = shell.run("chat", stdin="/stauts\n/etc/hosts is a path\n")
    assert (typed.code, typed.out) == (1, "You said: /etc/hosts is a path\n")
    assert "There is no command /stauts. Did you mean /status?" in typed.err


def test_a_repeated_unknown_command_in_a_pipe_goes_to_the_agent(shell: Shell) -> None:
    typed = shell.run("chat", stdin="/stauts\n/stauts\n")
    assert (typed.code, typed.out) == (0, "You said: /stauts\n")


@pytest.mark.parametrize("word", ["exit", "Quit"])
def test_quit_words_of_other_programs_are_queried(shell: Shell, word: str) -> None:
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
def test_each_unknown_command_is_queried_again_and_fails_a_pipe_unless_repeated(
    shell: Shell, stdin: str, code: int, asked: int, said: int
) -> None:
    typed = shell.run("chat", stdin=stdin)
    assert (typed.code, typed.err.count("The same again"), typed.out.count("You said:")) == (code, asked, said)


@pytest.mark.parametrize(("line", "is_told"), [("/help", True), (" /HELP ", True), ("/help me with a letter", False)])
def test_hints_about_the_terminal_follow_the_answer_to_help_only(shell: Shell, line: str, is_told: bool) -> None:
    assert ("this is for this terminal" in shell.run("chat", stdin=f"{line}\n").err) is is_told


def test_quit_leaves(shell: Shell) -> None:
    assert shell.run("chat", stdin="/quit\nnever said\n").out.strip() == ""


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("once", [True, False])
def test_a_person_who_plans_a_task_is_told_that_no_host_stays_to_run_it(shell: Shell, once: bool) -> None:
    wish = "remind me in 600s to drink water"
    typed = shell.run("chat", "--once", wish) if once else shell.run("chat", stdin=f"{wish}\n")
    assert (typed.code, "No host stays" in typed.out) == (0, False)
    assert "No host stays behind: 1 planned task waits for the next one. Leave one running: nanohost run" in typed.err
    assert "No host stays" in shell.run("chat", "--once", "hello").err


@pytest.mark.behaviour("OP-05")
def test_with_a_running_host_a_chat_does_not_warn_that_no_host_stays(shell: Shell, daemon: Daemon) -> None:
    shell.run("chat", "--once", "hello")
    assert "No host stays" not in shell.run("chat", "--once", "remind me in 600s to drink water").err


@pytest.mark.behaviour("OP-05")
def test_a_line_too_long_for_the_terminal_channel_is_reported_at_once(shell: Shell) -> None:
    typed = shell.run("chat", "--once", "-", stdin="x" * 1_200_000)
    assert (typed.code, typed.out) == (1, "")
    assert "a line may be at most" in typed.err


@pytest.mark.behaviour("OP-05")
def test_a_missing_reply_is_reported_with_exit_code_one(shell: Shell) -> None:
    shell.run_json("agents", "create", "main")
    shell.run_json(
        "wirings", "create", "--channel", "terminal", "--chat", "local", "--group", "main", "--engage", "pattern:^x"
    )
    typed = shell.run("chat", "--once", "hello", "--timeout", "0.3")
    assert (typed.code, typed.out) == (1, "")
    assert "no reply within 0.3 s" in typed.err
    assert "Traceback" not in typed.err


@pytest.mark.behaviour("OP-05")
def test_an_empty_message_is_a_usage_error(shell: Shell) -> None:
    for typed in (shell.run("chat", "--once", " "), shell.run("chat", "--once", "-")):
        assert (typed.code, typed.out) == (2, "")
        assert "nothing to say" in typed.err


@pytest.mark.parametrize("limit", ["-1", "0", "nan", "inf"])
def test_a_timeout_that_is_not_a_positive_number_is_a_usage_error(shell: Shell, limit: str) -> None:
    typed = shell.run("chat", "--once", "hello", f"--timeout={limit}")
    assert typed.code == 2
    assert f"'{limit}' is not a number of seconds" in typed.err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_text_that_the_locale_cannot_encode_does_not_break_the_chat(
    shell: Shell, tmp_path: Path, encoding: str
) -> None:
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


def test_the_log_of_a_chats_own_host_is_in_the_home(shell: Shell) -> None:
    typed = shell.run("chat", stdin="hello\n")
    log = (shell.home / "run" / "chat.log").read_text()
    assert "host_ready" in log
    assert "host_ready" not in typed.err


def test_a_host_that_restarts_is_reported_and_answers_again(shell: Shell, daemon: Daemon) -> None:
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


def test_a_message_that_no_host_accepted_is_reported(shell: Shell, daemon: Daemon) -> None:
    with shell.start("chat") as chat:
        assert chat.stderr is not None
        assert "Talking to" in chat.stderr.readline()
        daemon.stop()
        assert "The host has gone" in chat.stderr.readline()
        _, err = chat.communicate("are you there?\n/quit\n", timeout=scaled_timeout(HANG_TIMEOUT_S))
    assert "no host took them: 1 of your messages" in err


def test_a_closed_window_ends_the_chat_and_its_containers(shell: Shell) -> None:
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

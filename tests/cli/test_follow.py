"""nanohost logs --follow: existing lines, then new ones, until Ctrl-C; on a running host and a stopped one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Daemon, Shell


def a_log(shell: Shell) -> Path:
    """The log of the only session, after a first message to its agent."""
    assert shell.run("chat", "--once", "hello").code == 0
    [folder] = shell.home.glob("sessions/*/*")
    return folder / "log" / "container.log"


def follow(shell: Shell, log: Path) -> None:
    with log.open("a") as file:
        file.write("one\ntwo\n")
    with shell.start("logs", log.parent.parent.name, "--lines", "1", "--follow") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"session {log.parent.parent.name}, in terminal:\n"
        assert process.stdout.readline() == "two\n"
        with log.open("a") as file:
            file.write("three\n")
        assert process.stdout.readline() == "three\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
    assert (process.returncode, err) == (130, "")


@pytest.mark.behaviour("SE-11")
def test_a_log_is_followed_until_ctrl_c(shell: Shell) -> None:
    follow(shell, a_log(shell))
    typed = shell.run("logs", "nobody", "--follow")
    assert (typed.code, typed.out) == (2, "")
    assert "no session whose id begins with 'nobody'" in typed.err


@pytest.mark.behaviour("SE-11")
def test_a_log_is_followed_on_a_running_host(shell: Shell, daemon: Daemon) -> None:
    follow(shell, a_log(shell))

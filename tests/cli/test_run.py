"""nanohost run: ready, answering commands, alone on its home, and stopped in order."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import ExitStack, closing

import pytest

from nanohost.runtimes.procfs import find_processes
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Daemon, Shell


def test_commands_are_answered_by_the_running_host_and_take_effect_at_once(shell: Shell, daemon: Daemon) -> None:
    status = shell.run_json("status")
    assert (status["running"], status["host"]["pid"]) == (True, daemon.process.pid)
    shell.run_json("agents", "create", "main")
    shell.run_json(
        "wirings", "create", "--channel", "terminal", "--chat", "local", "--group", "main", "--unknown", "public"
    )
    typed = shell.run("chat", "--once", "are you there?")
    assert (typed.code, typed.out) == (0, "You said: are you there?\n")


@pytest.mark.behaviour("SE-02")
def test_a_second_host_on_the_same_home_refuses_to_start(shell: Shell, daemon: Daemon) -> None:
    typed = shell.run("run")
    assert typed.code == 1
    assert f"another nanohost (pid {daemon.process.pid}, begun " in typed.err
    assert "  hint: nanohost status\n" in typed.err


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_stops_the_host_in_order(shell: Shell, daemon: Daemon, by: signal.Signals) -> None:
    assert daemon.stop(by) == 0
    assert not (shell.home / "run" / "control.sock").exists()
    assert shell.run_json("status")["running"] is False


def test_a_closed_window_stops_the_host_in_order_unless_hangup_is_ignored(shell: Shell, daemon: Daemon) -> None:
    assert daemon.stop(signal.SIGHUP) == 0
    with ExitStack() as stack:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; a child has it from us
        try:
            staying = stack.enter_context(shell.start("run", NANOHOST_LOG="json"))
        finally:
            signal.signal(signal.SIGHUP, before)
        assert staying.stderr is not None
        assert any("host_ready" in line for line in staying.stderr)
        staying.send_signal(signal.SIGHUP)
        assert shell.run_json("status")["running"] is True
        staying.terminate()
        staying.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
    assert staying.returncode == 0


def test_after_a_kill_commands_work_at_once(shell: Shell, daemon: Daemon) -> None:
    assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    assert shell.run_json("agents", "create", "main")["folder"] == "main"


def _runners(shell: Shell) -> int:
    """The number of running agents of this install."""
    with closing(sqlite3.connect(shell.home / "data" / "nanohost.db")) as database:
        [[install]] = database.execute("SELECT id FROM install")
    return len(list(find_processes(install)))


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("who", ["one", "all"])
def test_a_container_that_outlived_its_host_can_be_stopped_without_one(shell: Shell, daemon: Daemon, who: str) -> None:
    shell.run_json("agents", "create", "main")
    shell.run_json(
        "wirings", "create", "--channel", "terminal", "--chat", "local", "--group", "main", "--unknown", "public"
    )
    assert shell.run("chat", "--once", "hello").code == 0
    [session] = shell.run_json("sessions", "list")
    daemon.stop()
    assert _runners(shell) == 1
    typed = shell.run("sessions", "stop", "all" if who == "all" else session["id"])
    assert typed.code == 0, typed.err
    assert session["id"] in typed.out
    assert _runners(shell) == 0
    again = shell.run("sessions", "stop", session["id"])
    assert (again.code, "no container that runs" in again.err) == (2, True)
    assert shell.run_json("sessions", "stop", "all") == []
    assert shell.run("chat", "--once", "are you back?").out == "You said: are you back?\n"


def test_where_nothing_ever_ran_stop_finds_nothing(shell: Shell) -> None:
    shell.run_json("agents", "create", "main")
    assert shell.run_json("sessions", "stop", "all") == []

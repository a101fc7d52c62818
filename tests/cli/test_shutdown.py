"""A stop ends whatever hangs, and names it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nanohost.cli.shutdown import EXIT_TIMED_OUT
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Daemon, Shell
from tests.support.invariants import wait_until

CHANNEL = Path(__file__).parent / "channels" / "hangs.py"
STOP_LIMIT_S = 2.0
LEASED = """
import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = os.open(sys.argv[1], os.O_RDONLY)
while True:
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        break
    except BlockingIOError:
        time.sleep(0.01)
print("leased", flush=True)
sys.stdin.read()
"""
"""Opening the file for writing waits until the kernel breaks the lease, after 45 s."""


@contextmanager
def running(shell: Shell, where: str = "", *, ready: bool = True, **environ: str) -> Iterator[Daemon]:
    """A running host, perhaps with a channel that hangs at this point."""
    if where:
        (shell.home / "channels").mkdir(parents=True)
        shutil.copy(CHANNEL, shell.home / "channels")
        (shell.home / "nanohost.toml").write_text(f'[channels.hangs]\nwhere = "{where}"\n')
    with shell.start("run", NANOHOST_LOG="json", **environ) as process:
        assert process.stderr is not None
        assert not ready or any("host_ready" in line for line in process.stderr)
        yield Daemon(process)
        process.kill()


async def hang(shell: Shell) -> None:
    os.mkfifo(shell.home / "pipe")
    await wait_until((shell.home / "hanging").exists)


def stopped(daemon: Daemon, by: signal.Signals = signal.SIGTERM) -> tuple[int, dict[str, Any]]:
    """The exit code, and the log entry about what hung."""
    daemon.process.send_signal(by)
    _, log = daemon.process.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
    [said] = [json.loads(line) for line in log.splitlines() if '"stop_timed_out"' in line]
    return daemon.process.returncode, said


@pytest.mark.parametrize(("by", "limit_s"), [(signal.SIGTERM, 60.0), (signal.SIGINT, STOP_LIMIT_S)])
async def test_a_keyed_worker_that_does_not_return_is_named_and_the_host_ends(
    shell: Shell, by: signal.Signals, limit_s: float
) -> None:
    with running(shell, "worker", NANOHOST_STOP_LIMIT_S=str(scaled_timeout(limit_s))) as daemon:
        await hang(shell)
        code, said = stopped(daemon, by)
    assert code == EXIT_TIMED_OUT
    [worker] = [each for each in said["threads"] if each.startswith("worker_")]
    assert f"HangingChannel._wait {shell.home / 'pipe'} for " in worker


async def test_a_thread_that_does_not_end_is_named_and_the_host_ends(shell: Shell) -> None:
    with running(shell, "thread") as daemon:
        await hang(shell)
        code, said = stopped(daemon)
    assert code == EXIT_TIMED_OUT
    assert any(each.startswith("of its own: in _wait (hangs.py:") for each in said["threads"])


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
async def test_a_blocked_event_loop_still_reacts_to_a_signal(shell: Shell, by: signal.Signals) -> None:
    with running(shell, "loop", NANOHOST_STOP_LIMIT_S=str(scaled_timeout(STOP_LIMIT_S))) as daemon:
        await hang(shell)
        code, said = stopped(daemon, by)
    assert code == EXIT_TIMED_OUT
    assert said["threads"][0].startswith("MainThread: in _wait (hangs.py:")


async def test_a_second_signal_ends_a_blocked_event_loop_at_once(shell: Shell) -> None:
    with running(shell, "loop") as daemon:
        await hang(shell)
        daemon.process.send_signal(signal.SIGTERM)
        await wait_until(lambda: not _pending(daemon.process.pid))
        assert daemon.stop(signal.SIGTERM) == 130


def _pending(process: int) -> bool:
    """Whether a signal is pending for the process."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return bool(int(status["ShdPnd"], 16) | int(status["SigPnd"], 16))


async def test_a_stage_that_does_not_close_is_named_and_the_host_ends(shell: Shell) -> None:
    with running(shell, "closing", NANOHOST_STOP_LIMIT_S=str(scaled_timeout(STOP_LIMIT_S))) as daemon:
        await hang(shell)
        code, said = stopped(daemon)
    assert code == EXIT_TIMED_OUT
    assert any(each.startswith("Task-1: in connected (hangs.py:") for each in said["tasks"])


async def test_a_mailbox_that_hangs_on_opening_is_named_and_the_host_ends(shell: Shell) -> None:
    with running(shell, NANOHOST_STOP_LIMIT_S=str(scaled_timeout(STOP_LIMIT_S))) as daemon:
        shell.run_json("agents", "create", "main")
        shell.run_json(
            "wirings", "create", "--channel", "terminal", "--chat", "local", "--group", "main", "--unknown", "public"
        )
        assert shell.run("chat", "--once", "hello").code == 0
        [mailbox] = shell.home.glob("sessions/*/*/in/inbound.db")
        with leased(mailbox), shell.start("chat", "--once", "are you there?") as chat:
            await wait_until(lambda: _opens(daemon.process.pid))
            code, said = stopped(daemon)
            chat.kill()
        shell.run("chat", "--once", "bye")  # adopts the container and ends it
    assert code == EXIT_TIMED_OUT
    [thread] = [each for each in said["threads"] if each.startswith("mailbox_")]
    assert f" {mailbox} for " in thread


@contextmanager
def leased(file: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", LEASED, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "leased\n"
        yield
        holder.kill()


def _opens(process: int) -> bool:
    """Whether one of its threads waits for a lease to be released."""
    return any("break_lease" in path.read_text() for path in Path(f"/proc/{process}/task").glob("*/wchan"))


async def test_a_start_that_hangs_can_be_ended(shell: Shell) -> None:
    (shell.home / "channels").mkdir(parents=True)
    os.mkfifo(shell.home / "channels" / "pipe.py")
    with running(shell, ready=False, NANOHOST_STOP_LIMIT_S=str(scaled_timeout(STOP_LIMIT_S))) as daemon:
        await wait_until(lambda: _reads(daemon.process.pid))
        code, said = stopped(daemon)
    assert code == EXIT_TIMED_OUT
    assert any("discover" in each for each in said["threads"])


def _reads(process: int) -> bool:
    return any("wait_for_partner" in path.read_text() for path in Path(f"/proc/{process}/task").glob("*/wchan"))

"""A cloned runner or reader is what a started one is, as far as the host and the tests can see."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nanohost.mailbox import reader_client
from nanohost.runtimes import launch
from nanohost.runtimes.runner_command import RUNNER_ARGUMENTS, RUNNER_PACKAGES, package_folder
from tests.support.cloned_processes import HostChild

ROOTS = os.pathsep.join(dict.fromkeys(str(package_folder(name).parent) for name in RUNNER_PACKAGES))
ENVIRONMENT = {"LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "PYTHONPATH": ROOTS, "PATH": "/usr/bin"}


def run_runner(kind: type[subprocess.Popen[Any]], folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and the log."""
    log = folder / "log"
    with log.open("wb") as output:
        process = kind(
            [sys.executable, *RUNNER_ARGUMENTS, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        code = process.wait()
    return code, log.read_text().partition(" ")[2]


@pytest.mark.parametrize("arguments", [(), ("--install", "i", "--session", "s", "--lease", "l")])
def test_a_cloned_runner_ends_and_logs_as_a_started_one(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run_runner(HostChild, tmp_path, *arguments) == run_runner(subprocess.Popen, tmp_path, *arguments)


def facts(process: subprocess.Popen[bytes]) -> dict[str, object]:
    """What others see of a process."""
    folder = Path("/proc", str(process.pid))
    status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    descriptors = {int(entry.name) for entry in (folder / "fd").iterdir()}
    return {
        "arguments": (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0"),
        "parent": int(status["PPid"]),
        "leads its session": os.getsid(process.pid) == process.pid,
        "folder": (folder / "cwd").readlink(),
        "descriptors": descriptors,
        "signals": [status[name] for name in ("SigBlk", "SigIgn")],
    }


def test_a_cloned_reader_looks_as_a_started_one_and_is_our_child(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for kind in (HostChild, subprocess.Popen):
        monkeypatch.setattr("nanohost.mailbox.reader_client.subprocess.Popen", kind)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = reader_client.spawn_reader(theirs)
            request = b'{"path": "/nowhere", "look": "acks", "arguments": {}, "busy_s": 0, "deadline_s": 9}'
            ours.sendall(len(request).to_bytes(4, "big") + request)
            assert ours.recv(4), "it serves requests"
            seen.append(facts(process))
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
    assert seen[0] == seen[1]
    assert seen[0]["parent"] == os.getpid()


def test_the_hosts_of_tests_clone_their_children() -> None:
    assert {vars(module)["subprocess"].Popen for module in (launch, reader_client)} == {HostChild}

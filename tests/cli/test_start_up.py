"""What a short command imports: each module delays somebody who only asked for help."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanohost.config.install_root import CONTROL_SOCKET
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Daemon, Shell

MOST_MODULES = 100
"""598 before the catalogue. Python alone imports 35 modules, and argparse 20."""
COUNT = """
import sys
from nanohost.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(len(sys.modules), *(name for name in HEAVY if name in sys.modules), file=sys.stderr)
"""
HEAVY = ("asyncio", "dataclasses", "pathlib", "pydantic", "sqlite3", "structlog", "typing", "nanohost.app")


def loaded(home: Path, *words: str) -> tuple[int, list[str]]:
    """How many modules a command imported, and which of the heavy ones."""
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY!r}\n{COUNT}", *words],
        env={"PATH": os.environ["PATH"], "NANOHOST_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=scaled_timeout(HANG_TIMEOUT_S),
        check=True,
    )
    count, *heavy = done.stderr.splitlines()[-1].split()
    return int(count), heavy


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], [], ["stauts"], ["roles", "lst"], ["roles", "--help"], ["roles", "list", "--help"]],
    ids=" ".join,
)
def test_help_version_and_usage_errors_import_few_modules(tmp_path: Path, words: list[str]) -> None:
    count, heavy = loaded(tmp_path, *words)
    assert heavy == []
    assert count <= MOST_MODULES


def test_a_command_answered_by_the_running_host_imports_few_modules(shell: Shell, daemon: Daemon) -> None:
    for words in (["status"], ["status", "--json"], ["agents", "list"], ["sessions", "get", "none"]):
        count, heavy = loaded(shell.home, *words)
        assert heavy == [], words
        assert count <= MOST_MODULES, words


def test_a_command_without_a_host_imports_no_platform_runtime_or_host(shell: Shell) -> None:
    assert shell.run("agents", "create", "main").code == 0
    script = f"HEAVY = ('docker', 'aiohttp', 'discord', 'nanohost.app', 'nanohost.commands.groups')\n{COUNT}"
    done = subprocess.run(
        [sys.executable, "-c", script, "status"],
        env={"PATH": os.environ["PATH"], "NANOHOST_HOME": str(shell.home)},
        capture_output=True,
        text=True,
        timeout=scaled_timeout(HANG_TIMEOUT_S),
        check=True,
    )
    assert done.stderr.split()[1:] == []


@contextmanager
def asking_a_stand_in(shell: Shell, *words: str) -> Iterator[tuple[subprocess.Popen[str], socket.socket, bytes]]:
    """A running command, the host's end of its connection, and the request that it sent."""
    place = shell.home / CONTROL_SOCKET
    place.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as host:
        host.bind(str(place))
        host.listen()
        host.settimeout(scaled_timeout(HANG_TIMEOUT_S))
        with shell.start(*words) as process:
            connection, _ = host.accept()
            with connection:
                connection.settimeout(scaled_timeout(HANG_TIMEOUT_S))
                yield process, connection, connection.recv(1000)


def test_ctrl_c_ends_a_command_whose_host_does_not_answer(shell: Shell) -> None:
    with asking_a_stand_in(shell, "status") as (process, _, asked):
        assert b'"status"' in asked
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
    assert process.returncode == 130
    assert "Traceback" not in said


def test_a_failed_check_of_the_host_is_exit_code_1(shell: Shell) -> None:
    with asking_a_stand_in(shell, "verify") as (process, connection, _):
        connection.sendall(b'{"ok": true, "text": "one row is wrong", "failed": true}\n')
        said, _ = process.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
    assert (process.returncode, said) == (1, "one row is wrong\n")


@pytest.mark.parametrize(
    ("columns", "least", "most"), [("60", 40, 58), ("200", 79, 198), ("0", 60, 78), ("wide", 60, 78)]
)
def test_help_is_as_wide_as_the_terminal(shell: Shell, columns: str, least: int, most: int) -> None:
    lines = shell.run("--help", COLUMNS=columns).out.splitlines()
    assert least <= max(len(line) for line in lines) <= most

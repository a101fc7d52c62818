"""A host with a low limit of open files raises it, reports where that is not enough, and does not flood its log."""

from __future__ import annotations

import resource
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Shell

SENTENCE = "This process may have"


@contextmanager
def start_host_with_limits(
    shell: Shell, limits: tuple[int, int]
) -> Iterator[tuple[subprocess.Popen[str], Callable[[], str]]]:
    """A ready host that was started with these limits of open files, soft and hard; and a function that stops it and
    returns its log."""
    with shell.start("run", program=["prlimit", f"--nofile={limits[0]}:{limits[1]}"], NANOHOST_LOG="json") as host:
        lines = []
        assert host.stderr is not None
        for line in host.stderr:
            lines.append(line)
            if "host_ready" in line:
                break

        def end() -> str:
            host.terminate()
            _, rest = host.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
            return "".join(lines) + rest

        yield host, end


def test_the_soft_limit_is_raised_to_the_hard_one(shell: Shell) -> None:
    with start_host_with_limits(shell, (200, 4096)) as (host, end):
        assert resource.prlimit(host.pid, resource.RLIMIT_NOFILE) == (4096, 4096)
        assert SENTENCE not in end()


def test_a_host_out_of_file_descriptors_reports_it_once_and_does_not_flood_the_log(shell: Shell) -> None:
    with start_host_with_limits(shell, (64, 64)) as (_, end), ExitStack() as stack:
        for _number in range(100):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(0)
            with suppress(OSError):
                client.connect(str(shell.home / "run" / "control.sock"))
        logged = end()
    assert logged.count(f"{SENTENCE} 64 files open") == 1
    assert logged.count("Traceback") <= 20
    assert len(logged) <= 200_000

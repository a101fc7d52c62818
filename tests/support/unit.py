"""Which tests are unit tests, and that they start no process and open no socket.

A test is one unless it lies in a folder or a file that is named here, or uses a fixture that is. Nobody has to mark
any: what is new and starts something fails until its file is named.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import PurePath

import croniter  # type: ignore[import-untyped]  # noqa: F401 - it starts a process when it is loaded, so not in a test
import urllib3.util.connection  # noqa: F401 - it binds a socket when it is loaded, to learn whether there is IPv6

INTEGRATION_PATHS = (
    "access/test_overheard.py",
    "actions/test_collecting.py",
    "actions/test_crash.py",
    "actions/test_killed_while_held.py",
    "approvals/",
    "channels/",
    "cli/",
    "commands/test_channels.py",
    "commands/test_qr.py",
    "control/",
    "crash/",
    "delivery/test_budget.py",
    "delivery/test_collector.py",
    "delivery/test_killed_sender.py",
    "delivery/test_typing_indicator.py",
    "flows/",
    "gateway/",
    "config/test_home.py",
    "extensions/",
    "maintenance/",
    "hostile/",
    "containers/",
    "mailbox/",
    "pages/",
    "protocol/test_killed_writers.py",
    "routing/test_commands.py",
    "routing/test_deletions.py",
    "runner/test_abilities.py",
    "runner/test_claude.py",
    "runner/test_memory.py",
    "runner/test_process.py",
    "runner/test_questions.py",
    "runtimes/",
    "config/test_declared.py",
    "scheduler/test_crash.py",
    "scheduler/test_run_results.py",
    "support/test_cloned_processes.py",
    "test_install.py",
    "gateway/test_model_monitor.py",
    "test_reserved_port.py",
    "containers/test_pause_service.py",
    "verify/",
)
"""Folders and files below tests/ without unit tests."""
INTEGRATION_FIXTURES = frozenset(
    {"docker_engine", "host_env", "host_env_with_events", "shell", "daemon", "unused_tcp_port"}
)
"""A test that uses one of these is not a unit test, wherever it is."""
PROCESS_EVENTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"})
SOCKET_EVENTS = frozenset({"socket.bind", "socket.connect", "socket.sendto", "socket.getaddrinfo"})
"""Audit events, see sys.addaudithook. The socket pair of each event loop binds and connects nothing."""


class NotUnitTestError(BaseException):
    """A unit test starts a process or opens a socket. Not an Exception, which the code under test might catch and
    retry."""


def is_unit(file: PurePath, fixtures: Iterable[str] = ()) -> bool:
    """Whether the tests of a file below tests/ are unit tests, or one of them that uses these fixtures."""
    return _has_unit_tests(file) and INTEGRATION_FIXTURES.isdisjoint(fixtures)


@cache
def _has_unit_tests(file: PurePath) -> bool:
    places = {file.as_posix(), *(f"{folder.as_posix()}/" for folder in file.parents)}
    return places.isdisjoint(INTEGRATION_PATHS)


_violations: list[str] | None = None
"""The forbidden calls so far; None while they are allowed."""


@contextmanager
def forbid_processes_and_sockets() -> Iterator[None]:
    """Refuse to start a process or to open a socket while entered. Raises NotUnitTestError there, and again at the end:
    the code under test may have caught it."""
    global _violations
    before, _violations = _violations, []
    try:
        yield
    finally:
        found, _violations = _violations, before
    if found:
        raise NotUnitTestError(_violation_message(found[0]))


def _violation_message(event: str) -> str:
    what = "starts a process" if event in PROCESS_EVENTS else "opens a socket"
    return f"A unit test {what} ({event}): name its file in INTEGRATION_PATHS of tests/support/unit.py, or do without."


def _audit_hook(event: str, _: tuple[object, ...]) -> None:
    if _violations is not None and (event in PROCESS_EVENTS or event in SOCKET_EVENTS):
        _violations.append(event)
        raise NotUnitTestError(_violation_message(event))


sys.addaudithook(_audit_hook)

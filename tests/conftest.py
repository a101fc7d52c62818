"""Settings for all tests: property tests have no deadline, because machines are shared and noisy, and child processes
receive signals even if the tests run in the background of a shell. Unit tests are marked and checked (support/unit.py).
"""

import faulthandler
import logging
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import structlog
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import settings

from nanohost.testing.reserved_port import ReservedPort
from nanohost.testing.time_limits import scaled_timeout
from nanohost.work.tree_removal import remove_tree
from tests.support.cloned_processes import clone_host_children
from tests.support.unit import forbid_processes_and_sockets, is_unit

pytest.register_assert_rewrite("nanohost.testing.channel_suite", "nanohost.testing.simulator_suite")

SHARED_MEMORY = Path("/dev/shm")
TESTS = Path(__file__).parent
SLOWEST_FIRST = ("crash", "cli", "runtimes", "flows", "hostile", "runner", "channels")
"""Folders with the slowest files: the last file of a run occupies one worker."""
STARTS_PROCESSES = ("runtimes", "mailbox/test_reader_pool.py")
"""What tests how runners and readers start: they are started there, and cloned elsewhere."""

for _signal, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _handler)

settings.register_profile("nanohost", deadline=None)
settings.load_profile("nanohost")


def _use_plain_tracebacks() -> None:
    """Have tracebacks in logs as Python writes them. Where rich is installed structlog has it draw them, with all their
    local variables: half a second of processor time for each error that a test makes happen."""
    structlog.reset_defaults()
    *processors, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors, plain])


_use_plain_tracebacks()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files that cannot have a unit test are not even loaded when only unit tests are run."""
    is_test = collection_path.name.startswith("test_")
    if config.getoption("markexpr") == "unit" and is_test and not is_unit(collection_path.relative_to(TESTS)):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_unit(item.path.relative_to(TESTS), getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.unit)
    items.sort(key=_run_order)


def _run_order(item: pytest.Item) -> tuple[bool, int]:
    """Files that start processes come first, the slowest of them first of all; the others in order of collection."""
    file = item.path.relative_to(TESTS)
    folder = file.parts[0]
    return is_unit(file), SLOWEST_FIRST.index(folder) if folder in SLOWEST_FIRST else len(SLOWEST_FIRST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    _watch_for_hanging(item)
    with _io_guard(item):
        return (yield)


def _watch_for_hanging(item: pytest.Item) -> None:
    """The timeout of pytest-timeout is scaled like the others."""
    quiet_s = float(item.config.getini("faulthandler_timeout") or 0)
    if quiet_s and fault_handler_stderr_fd_key in item.config.stash:
        stderr = item.config.stash[fault_handler_stderr_fd_key]
        faulthandler.dump_traceback_later(scaled_timeout(quiet_s), file=stderr, exit=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    with _io_guard(item):
        return (yield)


def _io_guard(item: pytest.Item) -> AbstractContextManager[None]:
    return forbid_processes_and_sockets() if item.get_closest_marker("unit") else nullcontext()


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """A test that configures logging, or runs a command that does, does not affect the next."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    if (root.handlers, root.level) != (handlers, level):
        root.handlers = handlers
        root.setLevel(level)
        _use_plain_tracebacks()


@pytest.fixture(autouse=True)
def _clone_host_children(request: pytest.FixtureRequest) -> Iterator[None]:
    """Loading their code is most of what runners and readers cost the tests (support/cloned_processes.py)."""
    file = request.path.relative_to(TESTS)
    is_started = any(file.is_relative_to(place) for place in STARTS_PROCESSES)
    with nullcontext() if is_started else clone_host_children():
        yield


@pytest.fixture
def unused_tcp_port() -> Iterator[int]:
    """Replaces the fixture of pytest-asyncio, whose port may be taken before it is used."""
    port = ReservedPort()
    yield port.number
    port.release()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, in memory where possible, so that very many files are created quickly."""
    made = Path(tempfile.mkdtemp(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else tmp_path, prefix="nanohost-test-"))
    yield made
    remove_tree(made)

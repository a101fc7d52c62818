"""Unit tests are found by their location, and their limits are enforced."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path, PurePath

import pytest

from tests.support.unit import INTEGRATION_PATHS, NotUnitTestError, forbid_processes_and_sockets, is_unit

TESTS = Path(__file__).parents[1]


def test_this_test_is_marked_as_a_unit_test(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("unit") is not None


def test_a_process_is_refused_in_a_unit_test() -> None:
    with pytest.raises(NotUnitTestError, match=r"starts a process.*INTEGRATION_PATHS"), forbid_processes_and_sockets():
        subprocess.run([sys.executable, "-c", "pass"], check=True)


def test_a_socket_is_refused_in_a_unit_test() -> None:
    with (
        pytest.raises(NotUnitTestError, match="opens a socket"),
        forbid_processes_and_sockets(),
        socket.socket() as one,
    ):
        one.bind(("127.0.0.1", 0))


def test_a_refused_process_that_is_caught_still_fails_the_test_at_its_end() -> None:
    with (
        pytest.raises(NotUnitTestError, match="starts a process"),
        forbid_processes_and_sockets(),
        suppress(NotUnitTestError),
    ):
        subprocess.run([sys.executable, "-c", "pass"], check=True)


def test_a_test_is_not_a_unit_test_by_its_folder_its_file_or_its_fixtures() -> None:
    assert not is_unit(PurePath("flows/test_night.py"))
    assert not is_unit(PurePath("channels/slack/test_sending.py"))
    assert is_unit(PurePath("rendering/test_split.py"))
    assert not is_unit(PurePath("rendering/test_split.py"), ["tmp_path", "docker_engine"])


@pytest.mark.parametrize("place", INTEGRATION_PATHS)
def test_every_listed_path_exists(place: str) -> None:
    assert (TESTS / place).is_dir() == place.endswith("/")
    assert (TESTS / place).exists()

"""Sockets in folders deeper than the kernel's limit."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nanohost.net import socket_path
from nanohost.net.socket_path import MAX_PATH_BYTES, short_socket_path


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    deep = tmp_path.joinpath(*["ein-tiefer-Ordner-für-Sockets"] * 6)
    deep.mkdir(parents=True)
    return deep


def test_a_path_that_fits_is_used_unchanged() -> None:
    with short_socket_path(Path("/run/x.sock")) as short:
        assert short == "/run/x.sock"


@pytest.mark.parametrize("has_descriptors", [True, False])
def test_a_socket_in_a_deep_folder_can_be_bound_and_reached_and_leaves_nothing_behind(
    deep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_descriptors: bool
) -> None:
    if not has_descriptors:
        monkeypatch.setattr(socket_path, "_FD_DIR", tmp_path / "no-proc")
    before = len(list(Path("/proc/self/fd").iterdir()))
    path = deep / "x.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with short_socket_path(path) as short:
            assert len(os.fsencode(short)) <= MAX_PATH_BYTES
            server.bind(short)
        server.listen()
        assert path.is_socket()
        with short_socket_path(path) as short:
            client.connect(short)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_missing_folder_is_an_os_error(deep: Path) -> None:
    with pytest.raises(FileNotFoundError), short_socket_path(deep / "none" / "x.sock"):
        pass

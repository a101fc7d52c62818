"""A process that is just starting has no arguments for a moment, and is not overlooked."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from nanohost.runtimes import procfs


def test_a_process_without_arguments_yet_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cmdline").write_bytes(b"")
    (tmp_path / "exe").symlink_to("/bin/true")
    monkeypatch.setattr(procfs, "MAX_CMDLINE_READS", 10_000)
    started = threading.Timer(0.01, (tmp_path / "cmdline").write_bytes, [b"true\0x\0"])
    started.start()
    assert procfs._read_cmdline(tmp_path) == b"true\0x\0"
    started.join()


def test_a_process_without_a_program_has_no_arguments_either(tmp_path: Path) -> None:
    (tmp_path / "cmdline").write_bytes(b"")
    with pytest.raises(FileNotFoundError):
        procfs._read_cmdline(tmp_path)

"""How much disk a container's folder takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.keeper.footprint import ENTRY_BYTES, footprint

PLENTY = 1024**3


@pytest.mark.behaviour("SE-06")
def test_files_count_in_every_depth_and_empty_ones_too(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "full").write_bytes(b"\1" * 100_000)
    (deep / "empty").touch()
    assert 100_000 + 3 * ENTRY_BYTES <= footprint(tmp_path, limit=PLENTY) < 200_000


@pytest.mark.behaviour("SE-06")
def test_links_lead_nowhere_and_a_folder_that_is_gone_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "large").write_bytes(b"\1" * 100_000)
    (tmp_path / "out" / "file").symlink_to(tmp_path / "large")
    (tmp_path / "out" / "loop").symlink_to(tmp_path)
    assert footprint(tmp_path / "out", limit=PLENTY) == 2 * ENTRY_BYTES
    assert footprint(tmp_path / "gone", limit=PLENTY) == 0


@pytest.mark.behaviour("SE-06")
def test_no_more_is_looked_at_than_the_limit_needs(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).touch()
    assert footprint(tmp_path, limit=2 * ENTRY_BYTES) == 3 * ENTRY_BYTES

"""How much disk a container's folders take: counted a moment at a time, whatever lies in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from nanohost.keeper import footprint
from nanohost.keeper.footprint import ENTRIES_A_CHECK, ENTRY_BYTES, STEP_S, Footprint, Grown, Watched, look_at

STANDS: Callable[[], float] = lambda: 0.0  # noqa: E731


def watched(path: Path, *, limit: int, name: str = "out") -> Footprint:
    """Counted to its end by one look: time stands still."""
    return Footprint(Watched(name=name, path=path, limit=limit), STANDS)


@pytest.mark.behaviour("SE-06")
def test_files_count_in_every_depth_and_empty_ones_too(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "full").write_bytes(b"\1" * 100_000)
    (deep / "empty").touch()
    assert watched(tmp_path, limit=100_000 + 3 * ENTRY_BYTES - 1).look() is not None
    assert watched(tmp_path, limit=200_000).look() is None


@pytest.mark.behaviour("SE-06")
def test_links_lead_nowhere_and_a_folder_that_is_gone_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "large").write_bytes(b"\1" * 100_000)
    (tmp_path / "out" / "file").symlink_to(tmp_path / "large")
    (tmp_path / "out" / "loop").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path)
    assert watched(tmp_path / "out", limit=2 * ENTRY_BYTES).look() is None
    assert watched(tmp_path / "linked", limit=0).look() is None
    assert watched(tmp_path / "gone", limit=0).look() is None


@pytest.mark.behaviour("SE-06")
def test_the_folder_that_has_grown_is_named_and_whose_it_is(tmp_path: Path) -> None:
    for name in ("out", "state", "workspace"):
        (tmp_path / name).mkdir()
    (tmp_path / "state" / "hoard").write_bytes(b"\1" * 3 * 1024**2)
    folders = [watched(tmp_path / name, limit=1024**2, name=name) for name in ("out", "state", "workspace")]
    sentence = f"its state folder has grown beyond 1 MiB: remove what should not be there ({tmp_path / 'state'})"
    assert look_at(folders) == Grown(sentence=sentence, of_group=False)


@pytest.mark.behaviour("SE-06")
def test_a_look_ends_after_a_moment_and_the_next_goes_on_where_it_ended(tmp_path: Path) -> None:
    for number in range(3 * ENTRIES_A_CHECK):
        (tmp_path / str(number)).touch()
    ticks = count(step=STEP_S)
    slow = Footprint(Watched(name="out", path=tmp_path, limit=(3 * ENTRIES_A_CHECK - 1) * ENTRY_BYTES), ticks.__next__)
    looks = [slow.look() is not None for _ in range(3)]
    assert looks == [False, False, True]


@pytest.mark.behaviour("SE-06")
def test_more_folders_than_can_be_remembered_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "MOST_PENDING", 10 * len(str(tmp_path)))
    for number in range(20):
        (tmp_path / str(number)).mkdir()
    grown = watched(tmp_path, limit=1024**3).look()
    assert grown is not None
    assert "more folders than can be counted" in grown.sentence


@pytest.mark.behaviour("SE-06")
def test_a_folder_too_deep_to_be_opened_hides_nothing(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    name = "d" * 200
    for _ in range(25):  # 5,000 characters: no path leads there
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    grown = watched(tmp_path, limit=1024**3).look()
    assert grown is not None
    assert "nested deeper than can be counted" in grown.sentence

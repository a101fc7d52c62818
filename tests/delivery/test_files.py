"""The description of a file that the platform cannot be sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.delivery.files import describe_file, remove_outbox_step
from nanohost.work.tree_removal import RemovalResult
from nanohost_protocol.layout import SessionLayout


@pytest.fixture
def layout(tmp_path: Path) -> SessionLayout:
    layout = SessionLayout(tmp_path / "home" / "sessions" / "main" / "s1")
    (layout.out_dir / "outbox" / "o1").mkdir(parents=True)
    return layout


def test_a_file_is_described_with_its_size_and_its_path_in_the_home(layout: SessionLayout) -> None:
    (layout.out_dir / "outbox" / "o1" / "plan.txt").write_text("buy milk")
    told = describe_file(layout, "o1", "plan.txt")
    assert told == "plan.txt, 8 bytes, kept in sessions/main/s1/out/outbox/o1/plan.txt"


@pytest.mark.parametrize("name", ["../../../secret", "/etc/passwd", "..", "", "a/b", "x" * 300])
def test_a_file_name_with_a_path_is_not_looked_up(layout: SessionLayout, name: str) -> None:
    assert describe_file(layout, "o1", name) == "a file whose name cannot be used"


def test_a_symlink_is_not_followed(layout: SessionLayout) -> None:
    (layout.out_dir / "outbox" / "o1" / "link").symlink_to("/etc/hostname")
    assert describe_file(layout, "o1", "link") == "link, which is not there"


@pytest.mark.parametrize("linked", ["outbox", "outbox/o2"])
def test_a_symlink_in_place_of_a_folder_is_not_followed(layout: SessionLayout, tmp_path: Path, linked: str) -> None:
    (tmp_path / "host" / "o2").mkdir(parents=True)
    for folder in (tmp_path / "host", tmp_path / "host" / "o2"):
        (folder / "secret").write_text("12345")
    (layout.out_dir / "outbox").rename(layout.out_dir / "was")
    (layout.out_dir / linked).parent.mkdir(exist_ok=True)
    (layout.out_dir / linked).symlink_to(tmp_path / "host")
    assert describe_file(layout, "o2", "secret") == "secret, which is not there"


def test_a_name_that_no_file_can_have_is_reported_as_missing(layout: SessionLayout) -> None:
    assert describe_file(layout, "o1", "half\ud800").endswith("which is not there")
    assert remove_outbox_step(layout, "half\ud800") is RemovalResult.BLOCKED


@pytest.mark.parametrize("linked", ["outbox", "outbox/o1"])
def test_a_symlink_swapped_in_is_not_followed(layout: SessionLayout, tmp_path: Path, linked: str) -> None:
    (tmp_path / "host" / "o1").mkdir(parents=True)
    for folder in (tmp_path / "host", tmp_path / "host" / "o1"):
        (folder / "precious").write_text("12345")
    (layout.out_dir / "outbox").rename(layout.out_dir / "was")
    (layout.out_dir / linked).parent.mkdir(exist_ok=True)
    (layout.out_dir / linked).symlink_to(tmp_path / "host")
    remove_outbox_step(layout, "o1")
    assert sorted(path.name for path in (tmp_path / "host").rglob("*")) == ["o1", "precious", "precious"]

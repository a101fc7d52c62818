"""Container logs read by command: the last lines, without control characters, and new lines."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import pytest

from nanohost.commands.logs import MAX_LINES
from nanohost.commands.registry import find_command
from nanohost.config.settings import make_settings
from nanohost.db import sessions
from nanohost.errors import UsageError
from nanohost.mailbox.session_dirs import prepare_session_dir, session_layout
from nanohost.runtimes.container_log import MAX_READ_BYTES, truncate_log
from nanohost.runtimes.session_folders import container_log_path
from tests.commands.conftest import Operator
from tests.db.test_entities import a_session


@pytest.fixture
async def log(operator: Operator) -> Path:
    """The log of the only session, which does not exist yet."""
    session = await sessions.get(operator.context.store, await a_session(operator.context.store))
    layout = session_layout(operator.context.home.sessions, session.group_folder, session.id)
    prepare_session_dir(layout)
    return container_log_path(layout.root)


@pytest.mark.behaviour("SE-11")
async def test_the_last_lines_are_shown_for_a_prefix_of_a_session_id(operator: Operator, log: Path) -> None:
    log.write_text("".join(f"line {number}\n" for number in range(200)))
    assert (await operator.run("logs", session="s"))["lines"] == [f"line {number}" for number in range(100, 200)]
    shown = await operator.render("logs", session="s", lines="2")
    assert shown.splitlines() == [f"session {log.parent.parent.name}, in no chat:", "line 198", "line 199"]


@pytest.mark.behaviour("SE-11")
async def test_log_times_are_in_the_hosts_time_zone_and_in_utc_as_json(operator: Operator, log: Path) -> None:
    log.write_text("2026-01-01T12:00:00Z turn_failed turn=t1\n9999-99-99T12:00:00Z x\nTraceback\n")
    settings = make_settings(host={"timezone": "Europe/Berlin"})
    there = Operator(replace(operator.context, settings=settings))
    shown = (await there.render("logs", session="s")).splitlines()
    assert shown[1:] == ["2026-01-01 13:00:00+01:00 turn_failed turn=t1", "9999-99-99T12:00:00Z x", "Traceback"]
    assert (await there.run("logs", session="s"))["lines"][0].startswith("2026-01-01T12:00:00Z ")


@pytest.mark.behaviour("SE-11")
async def test_a_session_without_log_output_says_so(operator: Operator, log: Path) -> None:
    assert (await operator.render("logs", session="s")).splitlines()[1:] == ["No log output yet."]
    log.touch()
    assert (await operator.render("logs", session="s")).splitlines()[1:] == ["No log output yet."]


@pytest.mark.behaviour("SE-11")
async def test_log_output_is_shown_without_control_characters(operator: Operator, log: Path) -> None:
    log.write_bytes(b"\x1b]0;owned\x07 \xff half\ra text\n")
    shown = await operator.render("logs", session="s")
    assert not set(shown) & set("\x1b\x07\r")
    assert "owned" in shown


@pytest.mark.behaviour("SE-11")
async def test_a_huge_log_is_read_from_its_end_and_a_symlink_is_not_read(operator: Operator, log: Path) -> None:
    log.write_bytes(b"x" * (3 * MAX_READ_BYTES) + b"\nlast\n")
    lines = (await operator.run("logs", session="s"))["lines"]
    assert lines[-1] == "last"
    assert sum(map(len, lines)) <= MAX_READ_BYTES
    log.unlink()
    log.symlink_to("/etc/hostname")
    assert (await operator.run("logs", session="s"))["lines"] == []


@pytest.mark.behaviour("SE-11")
async def test_an_endlessly_written_container_log_is_truncated_to_its_latest_lines(log: Path) -> None:
    with log.open("ab", buffering=0) as container:
        container.write(b"x" * MAX_READ_BYTES + b"\nlatest\n")
        truncate_log(log.parent.parent)
        container.write(b"and on\n")
    assert log.stat().st_size <= MAX_READ_BYTES
    assert log.read_bytes().endswith(b"\nlatest\nand on\n")
    before = log.read_bytes()
    truncate_log(log.parent.parent)
    assert log.read_bytes() == before


@pytest.mark.behaviour("SE-11", "SE-06")
async def test_disk_space_reserved_behind_the_end_of_a_log_is_released(log: Path) -> None:
    keep_size = 1
    with log.open("ab", buffering=0) as container:
        container.write(b"said\n")
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
        fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
        if fallocate(container.fileno(), keep_size, 0, 8 * MAX_READ_BYTES):
            pytest.skip("no disk can be reserved here")
        assert log.stat().st_blocks * 512 > MAX_READ_BYTES
        truncate_log(log.parent.parent)
    assert log.read_bytes() == b"said\n"
    assert log.stat().st_blocks * 512 < MAX_READ_BYTES


@pytest.mark.behaviour("SE-11", "OP-05")
@pytest.mark.parametrize("lines", ["0", str(MAX_LINES + 1), "many"])
async def test_an_invalid_number_of_lines_is_refused(operator: Operator, log: Path, lines: str) -> None:
    with pytest.raises(UsageError, match="logs: lines"):
        await operator.run("logs", session="s", lines=lines)


@pytest.mark.behaviour("SE-11")
@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("", "", None),
        ("", "ab", "ab"),
        ("ab", "ab", None),
        ("ab", "abc", "c"),
        ("abc", "bcd", "d"),
        ("aaa", "aaaa", "a"),
        ("abab", "babab", "ab"),
        ("abc", "xyz", "xyz"),
        ("abc", "", None),
    ],
)
def test_a_followed_log_shows_each_line_once(before: str, now: str, new: str | None) -> None:
    following = find_command("logs").follow_mode
    assert following is not None
    known = {"session": "s", "missing": ""}
    news = following.changes(*(known | {"chat": "c", "note": "", "lines": list(text)} for text in (before, now)))
    assert news == (None if new is None else known | {"chat": "", "note": "", "lines": list(new)})

"""Logging: one format for all libraries, and no secret in any line."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest
import structlog

from nanohost.logs import REDACTED, SecretScrubber, configure_logging, scrubber

Lines = Callable[[], list[str]]


@pytest.fixture
def lines() -> Lines:
    """The lines logged so far."""
    written = io.StringIO()
    configure_logging({}, stream=written)
    return lambda: written.getvalue().splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdefghijkl",
        "sk-ant-api03-AbCdEf",
        "https://api.telegram.org/bot123456789:AAbbCCddEEffGGhhIIjjKKll/getMe",
        "xoxb-1234567890-abcdef",
        "xapp-1-A0-123456",
    ],
)
def test_text_like_a_token_is_hidden(text: str) -> None:
    cleaned = SecretScrubber().scrub(f"before {text} after")
    assert REDACTED in cleaned
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")
    assert text.split()[-1] not in cleaned


@pytest.mark.parametrize("text", ["robot 12:30", "the bearer of news", "session s4kq7 of main", "2026-01-01T12:00:00Z"])
def test_ordinary_words_are_not_hidden(text: str) -> None:
    assert SecretScrubber().scrub(text) == text


def test_a_known_secret_is_hidden_everywhere_in_an_event() -> None:
    cleaner = SecretScrubber()
    cleaner.add_secrets(["hunter22", "hunter22-and-more", "abc"])
    event = cleaner(
        None, "info", {"event": "x", "deep": {"list": ["hunter22-and-more", 1]}, "error": ValueError("hunter22")}
    )
    assert event == {"event": "x", "deep": {"list": [REDACTED, 1]}, "error": REDACTED}
    assert cleaner.scrub("abc") == "abc"  # too short to be told from a word


def test_a_secret_in_a_traceback_is_hidden(lines: Lines) -> None:
    scrubber.add_secrets(["correct-horse"])
    try:
        raise ValueError("correct-horse")
    except ValueError as error:
        structlog.get_logger().error("worker_failed", exc_info=error)
    [line] = lines()
    assert "correct-horse" not in line
    assert "Traceback" in json.loads(line)["exception"]


def test_log_lines_of_libraries_have_the_same_format(lines: Lines) -> None:
    logging.getLogger("elsewhere").warning("token is %s", "sk-ant-abcdefgh")
    structlog.get_logger().info("host_ready", session="s1")
    theirs, ours = (json.loads(line) for line in lines())
    assert (theirs["event"], theirs["level"]) == (f"token is {REDACTED}", "warning")
    assert (ours["event"], ours["level"], ours["session"]) == ("host_ready", "info", "s1")


def test_requests_of_a_library_are_not_logged_at_info_level(lines: Lines) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET …")
    assert lines() == []


def test_quiet_shows_errors_only(lines: Lines) -> None:
    quiet = io.StringIO()
    configure_logging({"NANOHOST_LOG": "quiet"}, stream=quiet)
    structlog.get_logger().warning("not_said")
    structlog.get_logger().error("said")
    assert "not_said" not in quiet.getvalue()
    assert "said" in quiet.getvalue()


@pytest.mark.behaviour("OP-09")
@pytest.mark.parametrize(
    ("asked", "said", "is_json"),
    [
        ("", {"info", "warning", "error"}, True),
        ("json", {"info", "warning", "error"}, True),
        ("plain", {"info", "warning", "error"}, False),
        ("quiet", {"error"}, False),
        ("debug", {"debug", "info", "warning", "error"}, True),
        ("plain,debug", {"debug", "info", "warning", "error"}, False),
        ("JSON Quiet", {"error"}, True),
    ],
)
def test_the_variable_selects_format_and_level(lines: Lines, asked: str, said: set[str], is_json: bool) -> None:
    written = io.StringIO()
    configure_logging({"NANOHOST_LOG": asked}, stream=written)
    for level in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger(), level)(f"at_{level}")
    shown = written.getvalue()
    assert {level for level in ("debug", "info", "warning", "error") if f"at_{level}" in shown} == said
    assert all(line.startswith("{") is is_json for line in shown.splitlines())


def test_at_debug_level_low_level_messages_of_a_library_are_left_out(lines: Lines) -> None:
    written = io.StringIO()
    configure_logging({"NANOHOST_LOG": "json,debug"}, stream=written)
    library = logging.getLogger("aiosqlite")
    library.debug("executing %s", "SELECT 1")
    library.info("connected")
    structlog.get_logger().debug("ours")
    assert [json.loads(line)["event"] for line in written.getvalue().splitlines()] == ["connected", "ours"]


def test_the_callers_format_applies_where_the_variable_is_not_set(lines: Lines) -> None:
    for environ, is_said in (({}, False), ({"NANOHOST_LOG": "debug"}, True)):
        written = io.StringIO()
        configure_logging(environ, stream=written, log_format="quiet")
        structlog.get_logger().info("said")
        assert ("said" in written.getvalue()) is is_said


def test_an_unknown_word_in_the_variable_is_reported_and_ignored(lines: Lines) -> None:
    written = io.StringIO()
    configure_logging({"NANOHOST_LOG": "json,loud"}, stream=written)
    structlog.get_logger().info("said")
    wrong, said = map(json.loads, written.getvalue().splitlines())
    assert (wrong["event"], wrong["word"]) == ("log_level_unknown", "loud")
    assert wrong["hint"] == "NANOHOST_LOG takes plain, json, quiet, debug"
    assert said["event"] == "said"


def test_a_repeated_failure_is_logged_in_full_once(lines: Lines) -> None:
    mine, librarys = structlog.get_logger(), logging.getLogger("asyncio")
    for number in range(10_000):
        try:
            raise OSError(24, "Too many open files")
        except OSError as error:
            mine.warning("worker_failed", lane="routing", key=str(number), exc_info=error)
            librarys.error("socket.accept() out of system resource", exc_info=error)
    mine.warning("worker_failed", lane="routing", key="another", exc_info=KeyError("another"))
    *_, before_last, last_of_librarys, other = [json.loads(line) for line in lines()]
    assert sum("exception" in json.loads(line) for line in lines()) == 3, "one of each kind"
    assert len(lines()) <= 2 * 15 + 1
    assert before_last["times"] == 8192
    assert "8192 times" in last_of_librarys["event"]
    assert other["key"] == "another"


def test_plain_lines_have_local_time_and_json_lines_utc() -> None:
    shown = []
    for form in ("plain", "json"):
        written = io.StringIO()
        configure_logging({"NANOHOST_LOG": form}, stream=written, zone=ZoneInfo("Asia/Tokyo"))
        structlog.get_logger().info("hello")
        shown.append(written.getvalue())
    plain, told = shown
    assert re.match(r"\d\d:\d\d:\d\d\+09:00 ", plain)
    assert json.loads(told)["timestamp"].endswith("Z")

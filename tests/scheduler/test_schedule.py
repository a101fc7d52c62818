"""When cron expressions are due, above all at daylight saving changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from nanohost.errors import UsageError
from nanohost.scheduler.schedule import list_times_until, next_time, validate_cron, validate_timezone

BERLIN = "Europe/Berlin"
"""Forward on 29 March 2026 from 02:00 to 03:00 (01:00 UTC), back on 25 October from 03:00 to 02:00 (01:00 UTC)."""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def following(cron: str, zone: str, after: str, count: int) -> list[str]:
    """The next times, as wall-clock times with their offset."""
    moment, found = utc(after), []
    for _ in range(count):
        moment = next_time(cron, zone, moment)
        found.append(moment.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes"))
    return found


@pytest.mark.behaviour("TK-01")
@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 9 * * 1-5", "UTC", "2026-01-02T09:00", ["2026-01-05T09:00+00:00", "2026-01-06T09:00+00:00"]),
        ("0 9 * * *", BERLIN, "2026-01-01T12:00", ["2026-01-02T09:00+01:00"]),
        ("0 9 * * *", "Asia/Kathmandu", "2026-01-01T00:00", ["2026-01-01T09:00+05:45"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["2028-02-29T00:00+00:00"]),
        ("0 0 1 jan mon", "UTC", "2026-01-01T00:00", ["2026-01-05T00:00+00:00"]),  # either day field is enough
        ("0 0 * * 7", "UTC", "2026-01-01T00:00", ["2026-01-04T00:00+00:00"]),
        # Nine stays nine when the clocks change.
        ("0 9 * * *", BERLIN, "2026-03-28T07:00", ["2026-03-28T09:00+01:00", "2026-03-29T09:00+02:00"]),
        ("0 9 * * *", BERLIN, "2026-10-24T06:00", ["2026-10-24T09:00+02:00", "2026-10-25T09:00+01:00"]),
        # 02:30 does not exist: the end of the gap, that day only.
        (
            "30 2 * * *",
            BERLIN,
            "2026-03-28T00:00",
            ["2026-03-28T02:30+01:00", "2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"],
        ),
        # Several times in the gap are one.
        ("*/20 2 * * *", BERLIN, "2026-03-29T00:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
        # 02:30 exists twice: the first.
        ("30 2 * * *", BERLIN, "2026-10-25T00:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("30 2 * * *", BERLIN, "2026-10-25T00:45", ["2026-10-26T02:30+01:00"]),
        # Every hour is every real hour.
        (
            "30 * * * *",
            BERLIN,
            "2026-10-24T23:00",
            ["2026-10-25T01:30+02:00", "2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00", "2026-10-25T03:30+01:00"],
        ),
        ("30 * * * *", BERLIN, "2026-03-29T00:00", ["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00"]),
        (
            "*/30 * * * *",
            BERLIN,
            "2026-10-25T00:15",
            ["2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00", "2026-10-25T03:00+01:00"],
        ),
        # Half an hour forward on Lord Howe Island (4 October 2026, 02:00 becomes 02:30).
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00", ["2026-10-04T02:30+11:00"]),
    ],
)
def test_a_cron_expression_is_due_by_local_time(cron: str, zone: str, after: str, expected: list[str]) -> None:
    assert following(cron, zone, after, len(expected)) == expected


@pytest.mark.behaviour("TK-01")
@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "* * * * * *",
        "0 0 * * * 2026",
        "@daily",
        "60 * * * *",
        "* 24 * * *",
        "*/0 * * * *",
        "*/70 * * * *",
        "0 0 L * *",
        "H H * * *",
        "0 0 30 2 *",
        "0 0 31 4,6 *",
        "a b c d e",
        "1,,2 * * * *",
        "0 0 * * 1#2",
    ],
)
def test_an_invalid_or_never_due_expression_is_refused_with_a_sentence(cron: str) -> None:
    with pytest.raises(UsageError) as refused:
        validate_cron(cron)
    assert "cron" in str(refused.value) or "field" in str(refused.value)
    assert refused.value.hint


def test_a_cron_expression_is_normalized() -> None:
    assert validate_cron("  0  9 * JAN-MAR   Mon,fri ") == "0 9 * jan-mar mon,fri"


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../etc/passwd", "Europe"])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(UsageError):
        validate_timezone(zone)


@pytest.mark.behaviour("TK-03")
def test_of_many_missed_times_the_last_ones_are_listed() -> None:
    found = list_times_until("* * * * *", "UTC", utc("2020-01-01T00:00"), utc("2026-01-01T00:00"), limit=3)
    assert found == [utc("2025-12-31T23:58"), utc("2025-12-31T23:59"), utc("2026-01-01T00:00")]


@pytest.mark.behaviour("TK-03")
def test_the_first_missed_time_is_the_scheduled_one_even_if_the_expression_changed() -> None:
    found = list_times_until("0 9 * * *", "UTC", utc("2026-01-01T12:34"), utc("2026-01-02T10:00"), limit=10)
    assert found == [utc("2026-01-01T12:34"), utc("2026-01-02T09:00")]


@pytest.mark.behaviour("TK-01")
@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"]),
    cron=st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 */6 * * *", "15 1-3 * * 0", "59 23 * * *", "0 0 1 * *"]),
    days=st.integers(min_value=0, max_value=730),
    minutes=st.integers(min_value=0, max_value=1439),
)
def test_due_times_only_advance_and_none_is_left_out(zone: str, cron: str, days: int, minutes: int) -> None:
    start = utc("2025-01-01T00:00") + timedelta(days=days, minutes=minutes)
    first = next_time(cron, zone, start)
    assert first > start
    assert next_time(cron, zone, first - timedelta(microseconds=1)) == first
    between = start + (first - start) / 2
    assert next_time(cron, zone, between) == first


def gone_through(cron: str, zone: ZoneInfo, start: datetime, hours: int) -> list[datetime]:
    """The expected times, found by checking every minute."""
    every_hour = cron.split()[1] == "*"
    found, walls = [], set[datetime]()
    before = start.astimezone(zone).replace(tzinfo=None)
    for minute in range(1, hours * 60 + 1):
        moment = start + timedelta(minutes=minute)
        wall = moment.astimezone(zone).replace(tzinfo=None)
        jumped = [before + timedelta(minutes=n) for n in range(1, round((wall - before).total_seconds() / 60))]
        skipped = not every_hour and any(croniter.match(cron, one) for one in jumped)
        seen = not every_hour and wall in walls
        if skipped or (croniter.match(cron, wall) and not seen):
            found.append(moment)
        walls.add(wall)
        before = wall
    return found


@pytest.mark.behaviour("TK-01")
@pytest.mark.parametrize("cron", ["*/7 * * * *", "30 2 * * *", "0,45 */2 * * *", "15 0-3 * * *"])
@pytest.mark.parametrize(
    ("zone", "start"),
    [
        (BERLIN, "2026-03-28T22:00"),
        (BERLIN, "2026-10-24T22:00"),
        ("America/New_York", "2026-11-01T03:00"),
        ("Australia/Lord_Howe", "2026-10-03T12:00"),
        ("Australia/Lord_Howe", "2026-04-04T12:00"),
        ("America/Santiago", "2026-09-06T01:00"),
    ],
)
def test_cron_rules_hold_for_every_minute_around_a_daylight_saving_change(cron: str, zone: str, start: str) -> None:
    moment, found = utc(start), []
    end = moment + timedelta(hours=7)
    while (moment := next_time(cron, zone, moment)) <= end:
        found.append(moment)
    assert found == gone_through(cron, ZoneInfo(zone), utc(start), 7)

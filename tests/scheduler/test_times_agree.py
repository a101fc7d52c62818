"""However a time is given, it is the same moment: on every day of the year, also at daylight saving changes."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanohost.scheduler.schedule import next_time
from nanohost_protocol.typed_times import parse_future_moment, parse_moment

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
"""The last one's clocks change by half an hour."""
FIRST, YEARS = date(2026, 1, 1), 4
quick = settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def days_of_change(zone: str) -> list[date]:
    """The days of the zone's clock changes, and the leap day."""
    days = [FIRST + timedelta(days=number) for number in range(366 * YEARS)]
    return [day for day in days if _offset(day, zone) != _offset(day + timedelta(days=1), zone)] + [date(2028, 2, 29)]


def _offset(day: date, zone: str) -> timedelta | None:
    return datetime.combine(day, time(), ZoneInfo(zone)).utcoffset()


wall_times = st.sampled_from(ZONES).flatmap(
    lambda zone: st.tuples(
        st.just(zone),
        st.one_of(st.sampled_from(days_of_change(zone)), st.dates(FIRST, FIRST + timedelta(days=366 * YEARS))),
        st.one_of(st.integers(0, 4 * 60 - 1), st.integers(0, 24 * 60 - 1)).map(lambda at: time(at // 60, at % 60)),
    )
)


@pytest.mark.behaviour("TK-01")
@quick
@given(wall_times)
def test_a_time_and_the_matching_cron_expressions_give_the_same_moment(given: tuple[str, date, time]) -> None:
    zone, day, at = given
    wall = datetime.combine(day, at)
    now = datetime.combine(day, time(), UTC) - timedelta(days=3)
    meant = parse_moment(f"{wall:%Y-%m-%dT%H:%M}", zone=ZoneInfo(zone), now=now)
    assert next_time(f"{at.minute} {at.hour} {day.day} {day.month} *", zone, now) == meant
    a_day_before = meant - timedelta(days=1, hours=2)
    assert next_time(f"{at.minute} {at.hour} * * {day.isoweekday()}", zone, a_day_before) == meant


@quick
@given(wall_times)
def test_a_displayed_time_parses_to_the_same_moment(given: tuple[str, date, time]) -> None:
    zone, day, at = given
    now = datetime.combine(day, time(), UTC) - timedelta(days=3)
    meant = parse_future_moment(f"{day}T{at:%H:%M}", zone=ZoneInfo(zone), now=now)
    shown = meant.astimezone(ZoneInfo(zone))
    assert parse_moment(shown.isoformat(), zone=UTC, now=now) == meant
    assert parse_moment(f"{meant:%Y-%m-%dT%H:%M}Z", zone=ZoneInfo(zone), now=now) == meant
    assert parse_moment(f"+{int((meant - now).total_seconds())}", zone=UTC, now=now) == meant
    # Local time is what was asked for, unless that time does not exist.
    exists = shown.replace(tzinfo=None) == datetime.combine(day, at)
    assert exists or shown.utcoffset() != (meant - timedelta(seconds=1)).astimezone(ZoneInfo(zone)).utcoffset()


@quick
@given(wall_times, st.integers(6, 60 * 24 * 1500))
def test_the_suggested_time_is_accepted(given: tuple[str, date, time], minutes_ago: int) -> None:
    zone, day, at = ZoneInfo(given[0]), given[1], given[2]
    passed = parse_moment(f"{day}T{at:%H:%M}", zone=zone, now=datetime.combine(day, time(), UTC) - timedelta(days=3))
    now = passed + timedelta(minutes=minutes_ago)
    with pytest.raises(ValueError, match="is in the past") as refused:
        parse_future_moment(f"{day}T{at:%H:%M}", zone=zone, now=now)
    [meant] = re.findall(r"You probably meant (\S+):", str(refused.value))
    assert now <= parse_future_moment(meant, zone=zone, now=now) <= now + timedelta(days=366 * 4)


@pytest.mark.parametrize(
    ("cron", "due"),
    [
        ("0 9 */2 * 1", ["2026-06-01", "2026-06-03", "2026-06-05", "2026-06-07", "2026-06-08", "2026-06-09"]),
        ("0 9 13 * */5", ["2026-06-05", "2026-06-07", "2026-06-12", "2026-06-13", "2026-06-14", "2026-06-19"]),
        ("0 9 13 * 5", ["2026-06-05", "2026-06-12", "2026-06-13", "2026-06-19", "2026-06-26", "2026-07-03"]),
        ("0 9 */2 * *", ["2026-06-01", "2026-06-03", "2026-06-05", "2026-06-07", "2026-06-09", "2026-06-11"]),
    ],
)
def test_with_both_day_fields_set_either_matches_even_with_a_step(cron: str, due: list[str]) -> None:
    """cron itself needs both where one begins with a star; docs, help and tools say that it differs here."""
    at, days = datetime(2026, 5, 31, 12, tzinfo=UTC), []
    for _ in due:
        at = next_time(cron, "Etc/UTC", at)
        days.append(f"{at:%Y-%m-%d}")
    assert days == due

"""Times as people and agents write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import process_time
from zoneinfo import ZoneInfo

import pytest

from nanohost_protocol.typed_times import parse_duration_s, parse_future_moment, parse_moment

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("in 10 minutes", 600),
        ("in 10s", 10),
        ("10m", 600),
        ("+600", 600),
        (" In 1 h 30 min ", 5400),
        ("2 weeks", 1_209_600),
        ("in 1 day", 86_400),
        ("5 secs", 5),
        ("1 second", 1),
        ("3 hours", 10_800),
        ("2026", None),
        ("in 5", None),
        ("in hours", None),
        ("1m30", None),
        ("in 5 fortnights", None),
        ("", None),
    ],
)
def test_a_duration_is_a_number_of_seconds(text: str, length: int | None) -> None:
    assert parse_duration_s(text) == length
    if length is not None:
        assert parse_moment(text, zone=BERLIN, now=NOW) == NOW + timedelta(seconds=length)


@pytest.mark.parametrize("text", ["1" * 20_000 + "!", "1  " * 5000 + "!", "1 a " * 5000 + "!", "in " + " " * 20_000])
def test_a_text_made_to_be_slow_is_parsed_at_once(text: str) -> None:
    began = process_time()
    assert parse_duration_s(text) is None
    assert process_time() - began < 1.0


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2026-03-01T09:00", datetime(2026, 3, 1, 8, tzinfo=UTC)),
        ("2026-07-01 09:00:30", datetime(2026, 7, 1, 7, 0, 30, tzinfo=UTC)),
        ("2026-07-01T09:00Z", datetime(2026, 7, 1, 9, tzinfo=UTC)),
        ("2026-07-01T09:00-03:00", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("2026-03-29T02:30", datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),  # skipped by the clocks
        ("2026-10-25T02:30", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # comes twice
    ],
)
def test_a_local_time_is_in_the_persons_time_zone(text: str, when: datetime) -> None:
    assert parse_moment(text, zone=BERLIN, now=NOW) == when


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "09:00", "2026-03-01", "20260301", "2026-13-01T09:00", "in 5", "\ud800", "x" * 5000]
)
def test_an_invalid_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: write for example 2026-03-01T09:00") as caught:
        parse_moment(text, zone=BERLIN, now=NOW)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["9999-12-31T23:00", "in 9999999 weeks", "2036-06-01T09:00"])
def test_a_time_too_far_away_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"more than ten years away|is no time"):
        parse_moment(text, zone=BERLIN, now=NOW)


@pytest.mark.parametrize(
    ("text", "now", "meant"),
    [
        ("2025-01-01T14:00", NOW, "2026-01-01T14:00"),  # the same day last year
        ("2025-01-01T09:00", NOW, "2026-01-02T09:00"),
        ("2025-12-31T14:00", NOW, "2026-01-01T14:00"),
        ("2025-03-01T09:00", NOW, "2026-03-01T09:00"),
        ("2025-11-01T09:00", datetime(2026, 11, 30, tzinfo=UTC), "2027-11-01T09:00"),
        ("2024-02-29T09:00", NOW, "2028-02-29T09:00"),
        ("2026-01-01T12:54:00", NOW, "2026-01-02T12:54"),
    ],
)
def test_a_time_in_the_past_is_refused_with_the_next_such_time(text: str, now: datetime, meant: str) -> None:
    with pytest.raises(ValueError, match="is in the past") as refused:
        parse_future_moment(text, zone=BERLIN, now=now)
    assert f"it is {now.astimezone(BERLIN):%A, %Y-%m-%dT%H:%M} now" in str(refused.value)
    assert f"You probably meant {meant}:" in str(refused.value)


@pytest.mark.parametrize("minutes", [0, 1, 4, 5])
def test_a_time_a_few_minutes_ago_is_accepted(minutes: int) -> None:
    """Its author needed time to think, or asked somebody."""
    passed = NOW - timedelta(minutes=minutes)
    assert parse_future_moment(passed.isoformat(), zone=BERLIN, now=NOW) == passed

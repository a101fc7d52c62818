"""How results are shown to people."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from nanohost.commands.registry import find_command
from nanohost.commands.tables import localize_times

BERLIN = ZoneInfo("Europe/Berlin")


def test_times_are_localized_wherever_they_occur() -> None:
    shown = localize_times(
        {
            "at": "2026-11-30T16:15:01+00:00",
            "summer": "2026-06-30T16:15:01.250000Z",
            "rows": [{"since": "2026-11-30T23:59:59+00:00", "count": 3, "none": None, "on": True}],
        },
        BERLIN,
    )
    assert shown == {
        "at": "2026-11-30 17:15:01+01:00",
        "summer": "2026-06-30 18:15:01+02:00",
        "rows": [{"since": "2026-12-01 00:59:59+01:00", "count": 3, "none": None, "on": True}],
    }


def test_a_row_with_its_own_zone_is_shown_in_that_zone() -> None:
    task = {
        "timezone": "Asia/Tokyo",
        "next_due": "2026-12-01T09:00:00+09:00",
        "at": "2026-11-30T16:15:01+00:00",
    }
    shown = localize_times([task, {"timezone": "no zone", "at": "2026-11-30T16:15:01+00:00"}], BERLIN)
    assert shown == [
        {"timezone": "Asia/Tokyo", "next_due": "2026-12-01 09:00:00+09:00", "at": "2026-12-01 01:15:01+09:00"},
        {"timezone": "no zone", "at": "2026-11-30 17:15:01+01:00"},
    ]


@pytest.mark.parametrize("text", ["2026-11-30T16:15:01", "at 2026-11-30T16:15:01Z", "2026-99-30T16:15:01Z", "16:15"])
def test_text_that_is_not_a_timestamp_is_unchanged(text: str) -> None:
    assert localize_times({"reason": text}, BERLIN) == {"reason": text}


def test_texts_of_people_and_agents_are_unchanged() -> None:
    wrote = {"text": "2026-11-30T16:15:01Z", "prompt": "2026-11-30T16:15:01Z"}
    assert localize_times(wrote, BERLIN) == wrote


def test_a_command_shows_times_in_the_hosts_zone() -> None:
    row = {"id": "s1", "last_active": "2026-11-30T16:15:01+00:00"}
    assert "2026-11-30 17:15:01+01:00" in find_command("sessions list").render_in_zone([row], BERLIN)

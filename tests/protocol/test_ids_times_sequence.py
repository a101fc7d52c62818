"""Ids, times and numbers: both sides must compute the same values, in every version."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanohost_protocol.ids import (
    DERIVED_LENGTH,
    channel_message_id,
    derive_id,
    notice_id,
    out_id,
    random_id,
    task_id,
    turn_id,
)
from nanohost_protocol.sequence import next_even, next_odd
from nanohost_protocol.times import from_text, to_text

MOMENTS = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
PARTS = st.lists(st.text(max_size=8), max_size=5)


# --- ids


def test_ids_of_earlier_versions_are_unchanged() -> None:
    message = channel_message_id(
        channel_type="telegram",
        instance="main",
        platform_id="-100",
        platform_message_id="7",
        event_kind="message",
        wiring=3,
    )
    assert message == "mkq6p6c6by3j7xubj5b2h3tpr"
    assert turn_id("m1") == "trbdvpwx4aftwe7ksi6owvfcf"
    assert out_id(turn="t1", kind="chat", destination="home", content="{}", occurrence=0) == "ossjaiflccqklax4ldqdsy5xi"
    assert derive_id("x") == "x4oymiquy7qobjgx36tejs35z"


def test_both_sides_derive_the_same_ids_for_a_task_and_its_notice() -> None:
    assert task_id(session="s1", request="o1") == "johqbiiv4pr24"
    assert notice_id(session="s1", request="o1") == "aohqbiiv4pr24nfuemthhl5wx"
    assert task_id(session="s2", request="o1") != task_id(session="s1", request="o1")
    assert notice_id(session="s2", request="o1") != notice_id(session="s1", request="o1")


@given(one=PARTS, other=PARTS)
def test_different_causes_give_different_ids(one: list[str], other: list[str]) -> None:
    assert (derive_id("m", *one) == derive_id("m", *other)) == (one == other)


@given(parts=st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=4))
def test_an_id_depends_on_the_boundaries_between_its_parts(parts: list[str]) -> None:
    assert derive_id("m", *parts) != derive_id("m", "".join(parts))
    assert derive_id("m", *parts) != derive_id("m", parts[0] + parts[1], *parts[2:])


def test_a_lone_surrogate_has_an_id_too() -> None:
    assert derive_id("m", "\ud800") != derive_id("m", "\udfff")


def test_ids_are_valid_on_platforms_and_differ_by_their_first_letter() -> None:
    assert len(derive_id("o", "x" * 1000)) == DERIVED_LENGTH + 1 <= 25
    assert derive_id("o", "x").isalnum()
    assert derive_id("o", "x").islower()
    assert derive_id("o", "x")[1:] == derive_id("m", "x")[1:]


def test_random_ids_do_not_repeat() -> None:
    assert len({random_id("s") for _ in range(1000)}) == 1000


# --- times


@given(one=MOMENTS, other=MOMENTS)
def test_text_order_equals_time_order(one: datetime, other: datetime) -> None:
    assert (to_text(one) < to_text(other)) == (one < other)


@given(moment=MOMENTS)
def test_a_time_survives_the_round_trip_through_text(moment: datetime) -> None:
    assert from_text(to_text(moment)) == moment
    assert len(to_text(moment)) == len("2026-01-01T00:00:00.000000Z")


@given(moment=MOMENTS, hours=st.integers(-12, 14))
def test_a_time_has_the_same_text_in_any_time_zone(moment: datetime, hours: int) -> None:
    assert to_text(moment.astimezone(timezone(timedelta(hours=hours)))) == to_text(moment)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        to_text(datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_time_on_a_day_that_utc_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="UTC"):
        to_text(datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-01",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.5Z",
        "2026-1-1T0:0:0.000000Z",
        "2026-01-01T00:00:00.000000",
        "2026-01-01T00:00:00.000000+00:00",
        "2026-01-01 00:00:00.000000Z",
        "2026-13-01T00:00:00.000000Z",
        "2026-01-01T24:00:00.000000Z",
        "2026-01-01T00:60:00.000000Z",
        "2026-W01-1T00:00:00.000000Z",
        "2026-01-01T00:00:00,000000Z",
        "\uff12026-01-01T00:00:00.000000Z",
        " 2026-01-01T00:00:00.000000Z",
        "2026-01-01T00:00:00.000000Z\n",
        "0001-01-01T00:00:00.000000+23:59",
        "9999-12-31T23:59:59.999999-23:59",
    ],
)
def test_a_time_in_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_text(text)


# --- numbers


@given(seen=st.lists(st.integers(0, 2**60), max_size=5))
def test_the_next_number_is_the_lowest_of_its_side_above_all_seen_numbers(seen: list[int]) -> None:
    highest = max([0, *seen])
    for number, parity in ((next_even(*seen), 0), (next_odd(*seen), 1)):
        assert number % 2 == parity
        assert highest < number <= highest + 2


@given(moves=st.lists(st.booleans(), max_size=50))
def test_two_sides_that_see_each_other_never_reuse_a_number(moves: list[bool]) -> None:
    used: list[int] = []
    for host in moves:
        used.append(next_even(*used) if host else next_odd(*used))
    assert used == sorted(set(used))


@given(moves=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=50))
def test_two_sides_that_see_each_other_late_never_reuse_a_number(moves: list[tuple[bool, bool]]) -> None:
    own: dict[bool, list[int]] = {True: [], False: []}
    seen: dict[bool, int] = {True: 0, False: 0}
    for host, looks in moves:
        if looks:
            seen[host] = max([0, *own[not host]])
        own[host].append((next_even if host else next_odd)(*own[host], seen[host]))
    together = own[True] + own[False]
    assert len(together) == len(set(together))
    assert all(each == sorted(each) for each in own.values())

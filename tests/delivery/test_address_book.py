"""The names an agent has for its chats."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from nanohost.delivery.address_book import (
    SessionChats,
    _assign_names,
    build_address_book,
    merge_destinations,
    to_destinations,
    with_known_names,
)
from nanohost.delivery.validate import AddressBook, origin_chat_id
from nanohost.model import MessagingGroup, MessagingGroupId, UnknownSender
from nanohost.testing.manual_clock import START as NOW
from nanohost_protocol.rows import Destination, Origin


def chat(name: str, channel_type: str = "fake", platform_id: str = "c1") -> MessagingGroup:
    return MessagingGroup(
        id=MessagingGroupId(1),
        channel_type=channel_type,
        instance="default",
        platform_id=platform_id,
        is_group=False,
        name=name,
        unknown_sender=UnknownSender.PUBLIC,
        created_at=NOW,
    )


def test_naming_a_chat_costs_the_same_for_any_number_of_equal_names() -> None:
    """It is done for each answer of an agent whose chats share a session."""
    chats, lines = [chat("") for _ in range(500)], 0

    def count(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        lines += frame.f_code.co_name == "_named" and event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        named = _assign_names(chats, {})
    finally:
        sys.settrace(before)
    assert list(named)[-1] == "fake-500"
    assert lines <= 20 * len(chats)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["Family Chat"], ["family-chat"]),
        (["Ann", "ann", "ANN!"], ["ann", "ann-2", "ann-3"]),
        (["ann-2", "ann", "ann"], ["ann-2", "ann", "ann-3"]),
        ([""], ["fake"]),
        (["日本語", "…"], ["fake", "fake-2"]),
        (["x" * 200], ["x" * 40]),
        ([], []),
    ],
)
def test_names_are_short_and_unique(names: list[str], wanted: list[str]) -> None:
    chats = [chat(name) for name in names]
    named = _assign_names(chats, {})
    assert list(named) == wanted
    assert list(named.values()) == chats


def test_a_chat_without_any_name_gets_a_generated_one() -> None:
    assert list(_assign_names([chat("", channel_type="…")], {})) == ["chat"]


HOME = Origin(channel_type="fake", instance="default", platform_id="c1")
WORK = Origin(channel_type="fake", instance="default", platform_id="c2")
GONE = Origin(channel_type="fake", instance="default", platform_id="c3")


def known_destinations(**names: Origin) -> list[Destination]:
    return [Destination(name=name, display_name=name, chat=origin_chat_id(place)) for name, place in names.items()]


@pytest.mark.behaviour("DL-01")
def test_a_name_means_the_chat_it_was_projected_for_whatever_chats_are_called_now() -> None:
    now = AddressBook(by_name={"secret": HOME, "family": WORK}, default=HOME)
    book = with_known_names(now, known_destinations(family=HOME, secret=WORK))
    assert book.by_name == {"family": HOME, "secret": WORK}


@pytest.mark.behaviour("DL-01")
def test_a_chat_removed_from_the_session_is_not_reachable_by_its_old_name() -> None:
    book = with_known_names(AddressBook(by_name={"home": HOME}, default=HOME), known_destinations(home=HOME, gone=GONE))
    assert book.by_name == {"home": HOME}
    assert not book.contains(GONE)


def test_a_chat_added_meanwhile_can_be_answered_but_has_no_name_yet() -> None:
    book = with_known_names(
        AddressBook(by_name={"home": HOME, "work": WORK}, default=HOME), known_destinations(home=HOME)
    )
    assert book.by_name == {"home": HOME}
    assert book.contains(WORK)


# --- destinations -------------------------------------------------------------------------------------------------

FAMILY = chat("The Smiths", platform_id="c2")


@pytest.mark.behaviour("DL-01")
def test_a_destination_is_a_whole_chat_and_never_the_default() -> None:
    book = build_address_book(SessionChats(own={"home": chat("home")}, destinations={"family": FAMILY}), "thread")
    assert book.by_name["family"] == WORK
    assert book.by_name["home"].thread_id == "thread"
    assert book.default == book.by_name["home"]
    nowhere = SessionChats(own={}, destinations={"family": FAMILY})
    assert (build_address_book(nowhere, None).default, nowhere.default) == (None, None)


def test_a_second_name_of_the_current_chat_leads_to_the_same_thread() -> None:
    book = build_address_book(SessionChats(own={"home": chat("home")}, destinations={"here": chat("home")}), "thread")
    assert book.by_name["here"] == book.by_name["home"]


def test_the_agent_knows_a_destination_by_its_assigned_name_and_not_by_the_chats_title() -> None:
    [own, given] = to_destinations(SessionChats(own={"home": chat("Home")}, destinations={"family": FAMILY}))
    assert (own.name, own.display_name) == ("home", "Home")
    assert (given.name, given.display_name) == ("family", "family")


def names(told: list[Destination]) -> dict[str, str]:
    return {one.name: one.chat.platform_id for one in told if one.chat is not None}


@pytest.mark.parametrize(
    ("before", "now", "then"),
    [
        ({"home": HOME}, {"home": HOME, "family": WORK}, {"home": "c1", "family": "c2"}),
        ({"home": HOME, "family": WORK}, {"home": HOME}, {"home": "c1"}),
        ({"home": HOME}, {"home": HOME, "here": HOME}, {"home": "c1", "here": "c1"}),
        ({"home": HOME, "here": HOME}, {"home": HOME}, {"home": "c1"}),
        ({"home": HOME}, {"renamed": HOME, "family": WORK}, {"home": "c1", "family": "c2"}),
        ({"a": HOME, "b": WORK}, {"b": HOME, "a": WORK}, {"a": "c1", "b": "c2"}),
        ({"home": HOME}, {"renamed": HOME, "home": WORK}, {"home": "c1"}),
        ({"home": HOME, "family": WORK}, {"home": HOME, "family": GONE}, {"home": "c1", "family": "c3"}),
        ({}, {"home": HOME}, {"home": "c1"}),
    ],
    ids=[
        "one more",
        "one less",
        "another name for a chat",
        "one of two names less",
        "a chat was renamed",
        "two chats swapped names",
        "a name that still means another chat",
        "a name that was taken away and given to another chat",
        "told of nothing so far",
    ],
)
def test_an_update_for_a_running_agent_changes_no_known_name(
    before: dict[str, Origin], now: dict[str, Origin], then: dict[str, str]
) -> None:
    assert names(merge_destinations(known_destinations(**before), known_destinations(**now))) == then

"""The names an agent has for its chats."""

from __future__ import annotations

import pytest

from nanohost.delivery.addresses import _named, as_told
from nanohost.delivery.examine import AddressBook, chat_of
from nanohost.model import MessagingGroup, MessagingGroupId, UnknownSender
from nanohost.testing.manual_clock import START as NOW
from nanohost_protocol.rows import Destination, Origin


def chat(name: str, channel_type: str = "fake") -> MessagingGroup:
    return MessagingGroup(
        id=MessagingGroupId(1),
        channel_type=channel_type,
        instance="default",
        platform_id="c1",
        is_group=False,
        name=name,
        unknown_sender=UnknownSender.PUBLIC,
        created_at=NOW,
    )


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
def test_names_are_short_and_tell_chats_apart(names: list[str], wanted: list[str]) -> None:
    chats = [chat(name) for name in names]
    named = _named(chats)
    assert list(named) == wanted
    assert list(named.values()) == chats


def test_a_chat_without_any_name_is_still_called_something() -> None:
    assert list(_named([chat("", channel_type="…")])) == ["chat"]


HOME = Origin(channel_type="fake", instance="default", platform_id="c1")
WORK = Origin(channel_type="fake", instance="default", platform_id="c2")
GONE = Origin(channel_type="fake", instance="default", platform_id="c3")


def told(**names: Origin) -> list[Destination]:
    return [Destination(name=name, display_name=name, chat=chat_of(place)) for name, place in names.items()]


@pytest.mark.behaviour("DL-01")
def test_a_name_means_the_chat_that_the_agent_was_told_of_whatever_chats_are_called_now() -> None:
    now = AddressBook(by_name={"secret": HOME, "family": WORK}, default=HOME)
    book = as_told(now, told(family=HOME, secret=WORK))
    assert book.by_name == {"family": HOME, "secret": WORK}


@pytest.mark.behaviour("DL-01")
def test_a_chat_that_the_session_has_no_more_is_not_sent_to_by_the_name_it_had() -> None:
    book = as_told(AddressBook(by_name={"home": HOME}, default=HOME), told(home=HOME, gone=GONE))
    assert book.by_name == {"home": HOME}
    assert not book.has(GONE)


def test_a_chat_that_was_added_meanwhile_can_be_answered_and_has_no_name_yet() -> None:
    book = as_told(AddressBook(by_name={"home": HOME, "work": WORK}, default=HOME), told(home=HOME))
    assert book.by_name == {"home": HOME}
    assert book.has(WORK)

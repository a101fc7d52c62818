"""The names an agent has for its chats."""

from __future__ import annotations

import pytest

from nanohost.delivery.addresses import _named
from nanohost.model import MessagingGroup, MessagingGroupId, UnknownSender
from nanohost.testing.manual_clock import START as NOW


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

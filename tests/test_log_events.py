"""Each event of the log has a name in one style, a meaning, and what to do about it."""

from __future__ import annotations

import re

from nanohost.commands.registry import commands
from tests.test_docs import load_reference

EVENT_NAME = re.compile(r"[a-z]+(_[a-z]+)*")
COMMAND = re.compile(r"`nanohost ((?:[a-z]+ ?)+)")
TOP_LEVEL_COMMANDS = {"pair", "chat", "run"}
"""Words that are not operator commands of the registry."""


def logged_events() -> set[str]:
    return {event for levels in load_reference().log_events().values() for event in levels}


def test_log_event_meanings_match_the_events_in_the_code() -> None:
    assert logged_events() == load_reference().log_event_meanings().keys()


def test_log_events_are_words_in_snake_case() -> None:
    assert [event for event in logged_events() if not EVENT_NAME.fullmatch(event)] == []


def test_every_meaning_is_a_sentence() -> None:
    meanings = load_reference().log_event_meanings()
    assert [event for event, (means, _) in meanings.items() if not (means[0].isupper() and means.endswith("."))] == []


def test_every_command_that_an_action_names_exists() -> None:
    known = TOP_LEVEL_COMMANDS.union(commands())
    named = {
        found.strip()
        for _, action in load_reference().log_event_meanings().values()
        for found in COMMAND.findall(action)
    }
    assert [words for words in named if not any(f"{words} ".startswith(f"{one} ") for one in known)] == []

"""Each event of the log has a name in one style, a meaning, and what to do about it."""

from __future__ import annotations

import re

import pytest

from nanohost.commands.registry import commands
from tests.test_docs import load_reference

COMMAND = re.compile(r"`nanohost ((?:[a-z]+ ?)+)")
TOP_LEVEL_COMMANDS = {"pair", "chat", "run"}
"""Those that are no operator command of the registry."""
STATES = (
    *(
        "busy",
        "duplicate",
        "found",
        "full",
        "held",
        "idle",
        "ignored",
        "incomplete",
        "invalid",
        "lost",
        "low",
        "missing",
    ),
    *("overdue", "reachable", "ready", "restarting", "retrying", "sent", "stopping", "stuck", "unavailable"),
    *("uncountable", "unkillable", "unknown", "unreachable", "unreadable", "unresponsive", "unusable"),
    *("jumped_back", "over_budget", "over_limit", "timed_out", "within_budget"),
)
"""How the name of an event may end, beside a participle in -ed."""
EVENT_NAME = re.compile(rf"[a-z]+(_[a-z]+)*_([a-z]+ed|{'|'.join(STATES)})")
LOGGING_CODE = """
_log = structlog.get_logger(__name__)

def one(ok):
    event = "task_ended" if ok else "task_failed"
    _log.warning(event)
    structlog.get_logger().exception("task_lost")
    _tell("task_held", 3)
    _tell("task_dropped", 3, level="error")

class Two:
    def _say(self, event, number):
        self._log.info(event, number=number)

    def three(self):
        self._say("task_begun", 3)

def _tell(event, number, *, level="warning"):
    getattr(_log, level)(event, number=number)
"""


def logged_events() -> set[tuple[str, str]]:
    return {(event.program, event.name) for event in load_reference().logged_events()}


def descriptions() -> dict[tuple[str, str], dict[str, str]]:
    table = load_reference().log_event_descriptions()
    return {(program, name): texts for program, events in table.items() for name, texts in events.items()}


def test_every_log_event_in_the_code_is_described_and_none_is_described_that_nothing_logs() -> None:
    assert logged_events() == descriptions().keys()


def test_the_name_of_a_log_event_is_a_noun_and_a_participle_or_a_state() -> None:
    assert sorted(name for _, name in logged_events() if not EVENT_NAME.fullmatch(name)) == []


def test_every_description_is_sentences_of_what_it_means_and_what_to_do() -> None:
    for event, texts in descriptions().items():
        assert texts.keys() == {"means", "action"}, event
        assert all(text.endswith(".") and (text[0].isupper() or text[0] == "`") for text in texts.values()), event


def test_descriptions_are_in_order() -> None:
    assert list(descriptions()) == sorted(descriptions())


def test_every_command_that_an_action_names_exists() -> None:
    known = TOP_LEVEL_COMMANDS.union(commands())
    named = {found.strip() for texts in descriptions().values() for found in COMMAND.findall(texts["action"])}
    assert [words for words in named if not any(f"{words} ".startswith(f"{one} ") for one in known)] == []


def test_events_are_found_also_where_a_function_takes_their_name() -> None:
    assert sorted(load_reference().events_in_source(LOGGING_CODE)) == [
        ("task_begun", "info"),
        ("task_dropped", "error"),
        ("task_ended", "warning"),
        ("task_failed", "warning"),
        ("task_held", "warning"),
        ("task_lost", "error"),
    ]


def test_an_event_whose_name_cannot_be_read_from_the_code_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"odd\.py:2: the name of the event"):
        load_reference().events_in_source("\n_log.info(make_name())", "odd.py")

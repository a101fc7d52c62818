"""A problem in one row of status is not repeated in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from nanohost.commands.status import SECTIONS
from nanohost.commands.status_headings import SECTION_SUBJECTS, deduplicate_sections
from nanohost.commands.tables import Json
from nanohost.gateway.model_call import NO_KEY_ERROR, TOO_LARGE_ERROR
from tests.commands.conftest import Operator
from tests.commands.test_status import running

pytestmark = pytest.mark.behaviour("OP-01")

Lists = Mapping[str, Sequence[Mapping[str, Json]]]
SESSION: dict[str, Json] = {"session": "s1"}
WAITS: dict[str, Json] = {"session": "s1", "agent_group": "main"}
DEAD: dict[str, Json] = {"session": "s1", "seq": 7, "channel": "fake:default"}


def late(thing: str, session: str | None = "s1") -> Mapping[str, Json]:
    return {"thing": thing, "session": session, "channel": "fake:default"}


CASES: list[tuple[Lists, dict[str, int]]] = [
    ({"holds": [WAITS], "sessions_waiting": [WAITS]}, {"holds": 1}),
    ({"holds": [WAITS | {"session": ""}], "sessions_waiting": [WAITS]}, {"holds": 1}),
    ({"holds": [WAITS | {"session": "s2"}], "sessions_waiting": [WAITS]}, {"holds": 1, "sessions_waiting": 1}),
    ({"holds": [WAITS], "sessions_in_trouble": [SESSION]}, {"holds": 1}),
    ({"sessions_in_trouble": [SESSION], "sessions_waiting": [WAITS]}, {"sessions_in_trouble": 1}),
    ({"turns_failing": [SESSION | {"class": "auth"}], "sessions_waiting": [WAITS]}, {"turns_failing": 1}),
    (
        {"turns_failing": [SESSION | {"class": "auth"}], "models_failing": [{"status": 401, "error": ""}]},
        {"turns_failing": 1},
    ),
    (
        {"turns_failing": [SESSION | {"class": "overloaded"}], "models_failing": [{"status": 503, "error": ""}]},
        {"turns_failing": 1},
    ),
    (
        {"turns_failing": [SESSION | {"class": "auth"}], "models_failing": [{"status": 404, "error": ""}]},
        {"turns_failing": 1, "models_failing": 1},
    ),
    (
        {"turns_failing": [SESSION | {"class": "auth"}], "models_failing": [{"status": 0, "error": NO_KEY_ERROR}]},
        {"turns_failing": 1},
    ),
    (
        {
            "turns_failing": [SESSION | {"class": "overloaded"}],
            "models_failing": [{"status": 0, "error": TOO_LARGE_ERROR}],
        },
        {"turns_failing": 1, "models_failing": 1},
    ),
    ({"deliveries_dead": [DEAD], "messages_late": [late("delivery s1 7")]}, {"deliveries_dead": 1}),
    ({"deliveries_dead": [DEAD], "messages_late": [late("delivery s1 8")]}, {"deliveries_dead": 1, "messages_late": 1}),
    ({"events_set_aside": [{"event": 3}], "messages_late": [late("event 3", None)]}, {"events_set_aside": 1}),
    ({"mailboxes_refusing": [SESSION], "messages_late": [late("event 3")]}, {"mailboxes_refusing": 1}),
    ({"turns_failing": [SESSION | {"class": "x"}], "messages_late": [late("message i1")]}, {"turns_failing": 1}),
    ({"messages_late": [late("message i1"), late("message i2")], "sessions_waiting": [WAITS]}, {"messages_late": 2}),
    (
        {"platforms_down": [{"channel": "fake:default"}], "messages_late": [late("delivery s1 7")]},
        {"platforms_down": 1},
    ),
    (
        {"platforms_down": [{"channel": "fake:default"}], "messages_late": [late("event 3", None)]},
        {"platforms_down": 1, "messages_late": 1},
    ),
    (
        {
            "platforms_down": [{"channel": "fake:default"}],
            "deliveries_waiting": [{"channel": c, "messages": 2} for c in ("fake:default", "fake:two")],
        },
        {"platforms_down": 1, "deliveries_waiting": 1},
    ),
    (
        {"messages_late": [late("delivery s1 7")], "deliveries_waiting": [{"channel": "fake:default", "messages": 1}]},
        {"messages_late": 1},
    ),
    (
        {
            "channels_failed": [{"name": "fake", "instance": "default"}],
            "services_in_trouble": [{"name": "channel fake:default"}, {"name": "delivery"}],
        },
        {"channels_failed": 1, "services_in_trouble": 1},
    ),
]


@pytest.mark.parametrize(("lists", "kept"), CASES)
def test_a_problem_shown_by_its_cause_is_not_shown_again(lists: Lists, kept: dict[str, int]) -> None:
    assert {name: len(rows) for name, rows in deduplicate_sections(lists).items() if rows} == kept


def test_late_deliveries_are_not_counted_again_as_waiting() -> None:
    waiting: Lists = {
        "messages_late": [late("delivery s1 7")],
        "deliveries_waiting": [{"channel": "fake:default", "messages": 3}],
    }
    assert deduplicate_sections(waiting)["deliveries_waiting"] == [{"channel": "fake:default", "messages": 2}]


def test_each_deduplicated_section_exists() -> None:
    assert {name for name, _ in SECTION_SUBJECTS} <= {section.key for section in SECTIONS}


async def test_a_failed_channel_is_shown_under_one_heading(operator: Operator) -> None:
    since = operator.context.clock.now().isoformat()
    host = running(
        operator,
        channels=[
            {"name": "terminal", "instance": "default", "state": "connected", "detail": ""},
            {"name": "telegram", "instance": "default", "state": "restarting", "detail": "no network"},
        ],
        services_in_trouble=[{"name": "channel telegram:default", "state": "restarting", "since": since, "error": "x"}],
    )
    shown = await host.render("status")
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("  telegram ")] == ["telegram"]
    assert "Services in trouble" not in shown

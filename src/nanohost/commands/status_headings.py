"""Removes rows of status that another section already explains. Pure.

The cause is shown, and not its consequences: a session on hold is not listed as waiting, too, nor a channel that is
down among the services, nor a message that is late because its mailbox cannot be written. Each row has subjects; it is
left out if an earlier section has shown its subject or its cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nanohost.commands.tables import Json
from nanohost.gateway.model_call import NO_KEY_ERROR, TOO_LARGE_ERROR

Row = Mapping[str, Json]
Rows = Sequence[Row]

_CLASS_BY_STATUS = {401: "auth", 403: "auth", 402: "budget", 429: "rate_limited", 529: "overloaded", 0: "overloaded"}
"""The error class of a turn whose model call ends with this HTTP status, if the remedy for both is the same."""
_CLASS_BY_ERROR = {NO_KEY_ERROR: "auth", TOO_LARGE_ERROR: "other"}
"""The same for calls that the gateway did not forward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowSubjects:
    """The subjects of a row. `hidden_by`: its subject and causes; it is left out if one of them was shown. `mentions`:
    what later rows need not show again."""

    hidden_by: frozenset[str]
    mentions: frozenset[str]


def _subjects(*names: str) -> _RowSubjects:
    return _RowSubjects(hidden_by=frozenset(names), mentions=frozenset(names))


def _hold_subjects(row: Row) -> _RowSubjects:
    return _subjects(f"session {row['session']}" if row["session"] else f"agent {row['agent_group']}")


def _session_subjects(row: Row) -> _RowSubjects:
    return _subjects(f"session {row['session']}")


def _turn_subjects(row: Row) -> _RowSubjects:
    return _subjects(f"session {row['session']}", f"model {row['class']}")


def _model_call_subjects(row: Row) -> _RowSubjects:
    status = row["status"]
    assert isinstance(status, int), "a column of numbers"
    by_status = _CLASS_BY_STATUS.get(status, "overloaded" if status >= 500 else "other")
    return _subjects(f"model {_CLASS_BY_ERROR.get(str(row['error']), by_status)}")


def _delivery_subjects(row: Row) -> _RowSubjects:
    return _subjects(f"delivery {row['session']} {row['seq']}")


def _late_subjects(row: Row) -> _RowSubjects:
    """Returns the subjects of a late message of a person, a delivery or an event; `thing` says which."""
    thing = str(row["thing"])
    session = {f"session {row['session']}"} if thing.startswith("message ") else set()
    causes = {f"mailbox {row['session']}"} | ({f"messages to {row['channel']}"} if _is_delivery(row) else set())
    return _RowSubjects(hidden_by=frozenset({thing} | session | causes), mentions=frozenset({thing} | session))


def _is_delivery(late: Row) -> bool:
    return str(late["thing"]).startswith("delivery ")


def _channel_subjects(row: Row) -> _RowSubjects:
    return _subjects(f"messages to {row['channel']}")


SECTION_SUBJECTS: tuple[tuple[str, Callable[[Row], _RowSubjects]], ...] = (
    ("channels_failed", lambda row: _subjects(f"channel {row['name']}:{row['instance']}")),
    ("services_in_trouble", lambda row: _subjects(str(row["name"]))),
    ("holds", _hold_subjects),
    ("sessions_in_trouble", _session_subjects),
    ("mailboxes_refusing", lambda row: _subjects(f"mailbox {row['session']}")),
    ("turns_failing", _turn_subjects),
    ("models_failing", _model_call_subjects),
    ("platforms_down", _channel_subjects),
    ("deliveries_unknown", _delivery_subjects),
    ("deliveries_dead", _delivery_subjects),
    ("events_set_aside", lambda row: _subjects(f"event {row['event']}")),
    ("messages_late", _late_subjects),
    ("deliveries_waiting", _channel_subjects),
    ("sessions_waiting", lambda row: _subjects(f"session {row['session']}", f"agent {row['agent_group']}")),
)
"""Sections, causes first, with the subjects of their rows. Other sections never share a subject."""


def deduplicate_sections(sections: Mapping[str, Rows]) -> dict[str, list[Row]]:
    """Returns the sections without rows that an earlier section has explained."""
    shown: set[str] = set()
    found: dict[str, list[Row]] = {}
    for name, subjects in SECTION_SUBJECTS:
        found[name] = [row for row in sections.get(name, ()) if not shown & subjects(row).hidden_by]
        shown = shown.union(*(subjects(row).mentions for row in found[name]))
    found["deliveries_waiting"] = _subtract_late(found["deliveries_waiting"], found["messages_late"])
    return found


def _subtract_late(waiting: Rows, late: Rows) -> list[Row]:
    """Returns the waiting deliveries by channel, without the messages that are shown as late."""
    shown = Counter(str(row["channel"]) for row in late if _is_delivery(row))
    kept: list[Row] = []
    for row in waiting:
        count, channel = row["messages"], str(row["channel"])
        assert isinstance(count, int), "it is counted"
        taken = min(count, shown[channel])
        shown[channel] -= taken
        if count > taken:
            kept.append({**row, "messages": count - taken})
    return kept

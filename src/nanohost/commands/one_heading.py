"""No thing stands under two headings of status: what one row says is not said again by another. Pure.

The cause is shown, and not what follows from it: a session that is on hold does not stand among those that wait as
well, nor a channel that is down among the services, nor a message that is late because its mailbox refuses. What a row
is about has a name; a row is left out if an earlier section has shown what it is about, or why it is so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nanohost.commands.show import Json
from nanohost.gateway.model_call import NO_KEY, TOO_LARGE

Row = Mapping[str, Json]
Rows = Sequence[Row]

_CLASSES = {401: "auth", 403: "auth", 402: "budget", 429: "rate_limited", 529: "overloaded", 0: "overloaded"}
"""What a turn fails of when a model call ends with this HTTP status, where what to do about both is the same."""
_NEVER_SENT = {NO_KEY: "auth", TOO_LARGE: "other"}
"""The same of calls that the gateway did not make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _About:
    """What a row is about, and why what it says is so: it is left out if one of these was shown (`hidden_by`). What
    others need not say again (`says`)."""

    hidden_by: frozenset[str]
    says: frozenset[str]


def _names(*names: str) -> _About:
    return _About(hidden_by=frozenset(names), says=frozenset(names))


def _hold(row: Row) -> _About:
    return _names(f"session {row['session']}" if row["session"] else f"agent {row['agent_group']}")


def _session(row: Row) -> _About:
    return _names(f"session {row['session']}")


def _turns(row: Row) -> _About:
    return _names(f"session {row['session']}", f"model {row['class']}")


def _calls(row: Row) -> _About:
    status = row["status"]
    assert isinstance(status, int), "a column of numbers"
    by_status = _CLASSES.get(status, "overloaded" if status >= 500 else "other")
    return _names(f"model {_NEVER_SENT.get(str(row['error']), by_status)}")


def _delivery(row: Row) -> _About:
    return _names(f"delivery {row['session']} {row['seq']}")


def _late(row: Row) -> _About:
    """A message of a person, one to a person, or an event: `thing` is its name."""
    thing = str(row["thing"])
    session = {f"session {row['session']}"} if thing.startswith("message ") else set()
    causes = {f"mailbox {row['session']}"} | ({f"messages to {row['channel']}"} if _is_to_people(row) else set())
    return _About(hidden_by=frozenset({thing} | session | causes), says=frozenset({thing} | session))


def _is_to_people(late: Row) -> bool:
    return str(late["thing"]).startswith("delivery ")


def _messages_to(row: Row) -> _About:
    return _names(f"messages to {row['channel']}")


IN_ORDER: tuple[tuple[str, Callable[[Row], _About]], ...] = (
    ("channels_failed", lambda row: _names(f"channel {row['name']}:{row['instance']}")),
    ("services_in_trouble", lambda row: _names(str(row["name"]))),
    ("holds", _hold),
    ("sessions_in_trouble", _session),
    ("mailboxes_refusing", lambda row: _names(f"mailbox {row['session']}")),
    ("turns_failing", _turns),
    ("models_failing", _calls),
    ("platforms_down", _messages_to),
    ("deliveries_unknown", _delivery),
    ("deliveries_dead", _delivery),
    ("events_set_aside", lambda row: _names(f"event {row['event']}")),
    ("messages_late", _late),
    ("deliveries_waiting", _messages_to),
    ("sessions_waiting", lambda row: _names(f"session {row['session']}", f"agent {row['agent_group']}")),
)
"""Sections, causes first, each with what its rows are about. Of others no two are about one thing."""


def once(lists: Mapping[str, Rows]) -> dict[str, list[Row]]:
    """These sections, each row but for those that one of an earlier section has said."""
    said: set[str] = set()
    found: dict[str, list[Row]] = {}
    for name, about in IN_ORDER:
        found[name] = [row for row in lists.get(name, ()) if not said & about(row).hidden_by]
        said = said.union(*(about(row).says for row in found[name]))
    found["deliveries_waiting"] = _without(found["deliveries_waiting"], found["messages_late"])
    return found


def _without(waiting: Rows, late: Rows) -> list[Row]:
    """What waits to be sent, counted by channel, but for the messages that are shown as late."""
    shown = Counter(str(row["channel"]) for row in late if _is_to_people(row))
    kept: list[Row] = []
    for row in waiting:
        count, channel = row["messages"], str(row["channel"])
        assert isinstance(count, int), "it is counted"
        taken = min(count, shown[channel])
        shown[channel] -= taken
        if count > taken:
            kept.append({**row, "messages": count - taken})
    return kept

"""Formats the status line above the prompt: whether an agent works, for how long, and on what. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.rendering.tables import display_width

ACTIVITY_TTL_S = 3.0
"""Seconds without a sign of work after which the agent counts as idle; signs come every second or two."""
REPLY_TIMEOUT_S = 120.0
"""Seconds without a sign of work after which no answer is expected any more."""
SPINNER_INTERVAL_S = 0.1
SPINNER, ASCII_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentActivity:
    """What the host reports about an agent's work, as of `received_at`. Times are monotonic seconds; other fields are
    as
    in channel_api.Work."""

    received_at: float
    elapsed_s: float = 0.0
    tool: str = ""
    tool_elapsed_s: float = 0.0
    is_waiting_for_user: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingState:
    """The pending work. `activity`: the latest report, if any. `unanswered_count`: messages without an answer, the
    latest sent at `sent_at`."""

    activity: AgentActivity | None = None
    unanswered_count: int = 0
    sent_at: float = 0.0


def is_busy(state: PendingState, now: float) -> bool:
    """Returns whether an agent works, or an answer is expected."""
    doing = state.activity
    if doing is not None and now - doing.received_at < ACTIVITY_TTL_S:
        return True
    latest = max(state.sent_at, doing.received_at if doing is not None else 0.0)
    return state.unanswered_count > 0 and now - latest < REPLY_TIMEOUT_S


def status_line(state: PendingState, now: float, columns: int, *, is_ascii_only: bool = False) -> str:
    """Returns the line, narrower than the terminal; empty if nothing is expected. `is_ascii_only`: the terminal has no
    Unicode."""
    if not is_busy(state, now):
        return ""
    spinner = ASCII_SPINNER if is_ascii_only else SPINNER
    dot = " - " if is_ascii_only else " · "
    line = f"{spinner[int(now / SPINNER_INTERVAL_S) % len(spinner)]} {dot.join(_status_parts(state, now))}"
    while display_width(line) >= max(columns, 2):
        line = line[:-1]
    return line


def _status_parts(situation: PendingState, now: float) -> list[str]:
    doing = situation.activity
    if doing is None or now - doing.received_at >= ACTIVITY_TTL_S:
        return [f"no answer yet, {format_duration(now - situation.sent_at)}"]
    since = now - doing.received_at
    words = [
        f"{'waiting for your answer' if doing.is_waiting_for_user else 'working'}, "
        f"{format_duration(doing.elapsed_s + since)}"
    ]
    if doing.tool and not doing.is_waiting_for_user:
        words.append(f"{doing.tool}, {format_duration(doing.tool_elapsed_s + since)}")
    return words


def format_duration(seconds: float) -> str:
    """Formats a duration, such as 12 s or 3 min 5 s."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

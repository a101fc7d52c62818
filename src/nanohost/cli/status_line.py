"""What stands above the prompt while something is owed: that an agent works, for how long, and with what. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.rendering.tables import width

FADES_S = 3.0
"""Without a sign that the agent is at work, of which there is one a second or two (see the terminal's channel)."""
GIVEN_UP_S = 120.0
"""After so long without any sign nothing is shown as if it were to come."""
SPINS_EVERY_S = 0.1
SPINNER, PLAIN_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """What the host says that an agent is doing, as of `heard_at`; times are monotonic seconds, the rest as in
    channel_api.Work."""

    heard_at: float
    for_s: float = 0.0
    tool: str = ""
    tool_for_s: float = 0.0
    for_person: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """`doing`: what was heard last, if anything; `owed`: messages without an answer, the latest said at `asked_at`."""

    doing: Doing | None = None
    owed: int = 0
    asked_at: float = 0.0


def is_busy(situation: Situation, now: float) -> bool:
    """Whether something is being done, or to come."""
    doing = situation.doing
    if doing is not None and now - doing.heard_at < FADES_S:
        return True
    latest = max(situation.asked_at, doing.heard_at if doing is not None else 0.0)
    return situation.owed > 0 and now - latest < GIVEN_UP_S


def status_line(situation: Situation, now: float, columns: int, *, is_plain: bool = False) -> str:
    """The line, narrower than the terminal; empty when nothing is to come. `is_plain`: the terminal has no Unicode."""
    if not is_busy(situation, now):
        return ""
    spinner = PLAIN_SPINNER if is_plain else SPINNER
    dot = " - " if is_plain else " · "
    line = f"{spinner[int(now / SPINS_EVERY_S) % len(spinner)]} {dot.join(_words(situation, now))}"
    while width(line) >= max(columns, 2):
        line = line[:-1]
    return line


def _words(situation: Situation, now: float) -> list[str]:
    doing = situation.doing
    if doing is None or now - doing.heard_at >= FADES_S:
        return [f"no answer yet, {lasting(now - situation.asked_at)}"]
    since = now - doing.heard_at
    words = [f"{'waiting for your answer' if doing.for_person else 'working'}, {lasting(doing.for_s + since)}"]
    if doing.tool and not doing.for_person:
        words.append(f"{doing.tool}, {lasting(doing.tool_for_s + since)}")
    return words


def lasting(seconds: float) -> str:
    """As people say it: 12 s, 3 min 5 s."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

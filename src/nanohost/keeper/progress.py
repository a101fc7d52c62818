"""What was seen of one container, look by look. Facts only: the caller looks, and brings the time.

Time counts only as far as somebody watched: a host that was suspended together with its containers finds, at its first
look, that nothing changed for hours, and must not hold that against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from nanohost.keeper.stuck import Signs
from nanohost_protocol.times import from_text

MOST_A_LOOK_S = 20.0
"""What one look can add to an age, however long ago the look before it was."""
LONGEST_TOOL_S = 24 * 3600.0
"""A tool may say that it takes long; for ever is no answer."""
REFUSED_TWICE = 2
"""Looks in a row: a single one may have met a machine that is busy."""
NAME_CHARACTERS = 40
AFTER_A_LIMIT = timedelta(minutes=5)

Stamp = tuple[int, int] | None
"""Time and inode of the heartbeat; None while there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One look into outbound.db. `change` is anything that differs whenever the turn did something."""

    claims: int
    change: int
    state: Mapping[str, str]


class Progress:
    """One container's, from its start or adoption on. `now` is monotonic, in seconds."""

    def __init__(self, beat: Stamp, now: float) -> None:
        self._beat = beat
        self._has_beaten = False
        self._looked = now
        self._silent_s = self._unclaimed_s = self._quiet_s = 0.0
        self._change: int | None = None
        self._state: Mapping[str, str] = {}
        self._refused = ("", 0)

    def look(self, beat: Stamp, seen: Seen | None, now: float, *, due: bool, busy: bool, refused: str = "") -> None:
        """`seen` None: outbound.db could not be read now, or `refused` says why it never can. `due`: messages wait
        that it should have taken. `busy`: as far as was known before, it works."""
        passed_s = min(max(0.0, now - self._looked), MOST_A_LOOK_S)
        self._looked = now
        self._silent_s = self._silent_s + passed_s if beat == self._beat else 0.0
        self._has_beaten = self._has_beaten or beat != self._beat
        self._beat = beat
        self._refused = (refused, self._refused[1] + 1 if refused else 0)
        # One that never made an outbound.db has claimed nothing; one that was read before may only be locked just now.
        claims_nothing = self._change is None if seen is None else seen.claims == 0
        unclaimed = due and claims_nothing and not refused
        self._unclaimed_s = self._unclaimed_s + passed_s if unclaimed else 0.0
        working = busy if seen is None else seen.claims > 0
        moved = seen is not None and seen.change != self._change
        self._quiet_s = self._quiet_s + passed_s if working and not moved else 0.0
        if seen is not None:
            self._change, self._state = seen.change, seen.state

    @property
    def quiet_s(self) -> float:
        """Since the running turn last showed anything; 0 when none runs."""
        return self._quiet_s

    def signs(self, now: datetime) -> Signs:
        """`now`: by the wall, for what a turn says of times."""
        refused, times = self._refused
        return Signs(
            has_beaten=self._has_beaten,
            silent_s=self._silent_s,
            unclaimed_s=self._unclaimed_s,
            quiet_s=self._quiet_s,
            tool=_printable(self._state.get("tool", "")),
            tool_timeout_s=_seconds(self._state.get("tool_timeout_s", "")) if "tool" in self._state else 0.0,
            for_person="tool" in self._state and "waiting" in self._state,
            limited=_still_limited(self._state.get("rate_limited_until", ""), now),
            refused=refused if times >= REFUSED_TWICE else "",
        )


def _printable(name: object) -> str:
    """A container wrote it, and an operator's terminal shows it."""
    return "".join(letter for letter in str(name)[:NAME_CHARACTERS] if letter.isprintable())


def _still_limited(text: object, now: datetime) -> bool:
    """With some time to ask again once the limit is over."""
    with suppress(ValueError, OverflowError):
        return now < from_text(str(text)[:NAME_CHARACTERS]) + AFTER_A_LIMIT
    return False


def _seconds(text: object) -> float:
    """What a container says, as far as it makes sense; 0 is what it counts for otherwise."""
    seconds = 0.0
    with suppress(ValueError):
        seconds = float(str(text)[:NAME_CHARACTERS])
    return min(seconds, LONGEST_TOOL_S) if seconds > 0 else 0.0

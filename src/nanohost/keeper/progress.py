"""What was seen of one container, look by look. Facts only: the caller looks, and brings the time.

Time counts only as far as somebody watched: a host that was suspended together with its containers finds, at its first
look, that nothing changed for hours, and must not hold that against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from nanohost.keeper.stuck import HealthSignals
from nanohost_protocol.times import from_text

MAX_STEP_S = 20.0
"""What one look can add to an age, however long ago the look before it was."""
MAX_TOOL_S = 24 * 3600.0
"""A tool may say that it takes long; for ever is no answer."""
MIN_REFUSALS = 2
"""Looks in a row: a single one may have met a machine that is busy."""
MAX_NAME_CHARS = 40
RATE_LIMIT_GRACE = timedelta(minutes=5)

HeartbeatStamp = tuple[int, int] | None
"""Time and inode of the heartbeat; None while there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressSample:
    """One look into outbound.db. `fingerprint` is anything that differs whenever the turn did something."""

    claims: int
    fingerprint: int
    state: Mapping[str, str]


class ProgressTracker:
    """One container's, from its start or adoption on. `now` is monotonic, in seconds."""

    def __init__(self, heartbeat: HeartbeatStamp, now: float) -> None:
        self._heartbeat = heartbeat
        self._has_heartbeat = False
        self._last_update = now
        self._heartbeat_age_s = self._unclaimed_s = self._stalled_s = 0.0
        self._fingerprint: int | None = None
        self._state: Mapping[str, str] = {}
        self._read_error = ("", 0)

    def update(
        self,
        heartbeat: HeartbeatStamp,
        sample: ProgressSample | None,
        now: float,
        *,
        is_due: bool,
        is_busy: bool,
        read_error: str = "",
    ) -> None:
        """`sample` None: outbound.db could not be read now, or `read_error` says why it never can. `is_due`: messages wait
        that it should have taken. `is_busy`: as far as was known before, it works."""
        passed_s = min(max(0.0, now - self._last_update), MAX_STEP_S)
        self._last_update = now
        self._heartbeat_age_s = self._heartbeat_age_s + passed_s if heartbeat == self._heartbeat else 0.0
        self._has_heartbeat = self._has_heartbeat or heartbeat != self._heartbeat
        self._heartbeat = heartbeat
        self._read_error = (read_error, self._read_error[1] + 1 if read_error else 0)
        # One that never made an outbound.db has claimed nothing; one that was read before may only be locked just now.
        claims_nothing = self._fingerprint is None if sample is None else sample.claims == 0
        unclaimed = is_due and claims_nothing and not read_error
        self._unclaimed_s = self._unclaimed_s + passed_s if unclaimed else 0.0
        working = is_busy if sample is None else sample.claims > 0
        moved = sample is not None and sample.fingerprint != self._fingerprint
        self._stalled_s = self._stalled_s + passed_s if working and not moved else 0.0
        if sample is not None:
            self._fingerprint, self._state = sample.fingerprint, sample.state

    @property
    def stalled_s(self) -> float:
        """Since the running turn last showed anything; 0 when none runs."""
        return self._stalled_s

    def signals(self, now: datetime) -> HealthSignals:
        """`now`: by the wall, for what a turn says of times."""
        refused, times = self._read_error
        return HealthSignals(
            has_heartbeat=self._has_heartbeat,
            heartbeat_age_s=self._heartbeat_age_s,
            unclaimed_s=self._unclaimed_s,
            stalled_s=self._stalled_s,
            tool_name=_printable(self._state.get("tool", "")),
            tool_timeout_s=_parse_seconds(self._state.get("tool_timeout_s", "")) if "tool" in self._state else 0.0,
            is_waiting_for_user="tool" in self._state and "waiting" in self._state,
            is_rate_limited=_is_rate_limited(self._state.get("rate_limited_until", ""), now),
            read_error=refused if times >= MIN_REFUSALS else "",
        )


def _printable(name: object) -> str:
    """A container wrote it, and an operator's terminal shows it."""
    return "".join(letter for letter in str(name)[:MAX_NAME_CHARS] if letter.isprintable())


def _is_rate_limited(text: object, now: datetime) -> bool:
    """With some time to ask again once the limit is over."""
    with suppress(ValueError, OverflowError):
        return now < from_text(str(text)[:MAX_NAME_CHARS]) + RATE_LIMIT_GRACE
    return False


def _parse_seconds(text: object) -> float:
    """What a container says, as far as it makes sense; 0 is what it counts for otherwise."""
    seconds = 0.0
    with suppress(ValueError):
        seconds = float(str(text)[:MAX_NAME_CHARS])
    return min(seconds, MAX_TOOL_S) if seconds > 0 else 0.0

"""Decides whether a container is stuck, from signals and limits. Pure.

There are two signs. *Alive*: a thread of the runner touches the heartbeat each second, whatever its loop does, until
the process ends. *Progress*: a turn begins and ends tools, sends, and ends; a runner that hangs still has a heartbeat
but no progress. All ages are seconds in which the host watched and saw no change: file times are not used, because a
container sets them and clocks jump.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from nanohost.containers.disk_usage import FolderOverLimit
from nanohost.containers.settings import ContainerSettings, DiskSettings
from nanohost.text.translation import lazy_gettext
from nanohost_protocol.times import from_text

MAX_STEP_S = 20.0
"""The most that one check adds to an age, however long ago the last check was."""
MAX_TOOL_S = 24 * 3600.0
"""The most time that a tool may claim for itself."""
MIN_REFUSALS = 2
"""Failed reads in a row before they count: a single one may be due to a busy machine."""
MAX_NAME_CHARS = 40
RATE_LIMIT_GRACE = timedelta(minutes=5)

HeartbeatStamp = tuple[int, int] | None
"""Time and inode of the heartbeat; None while there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressSample:
    """One read of outbound.db. `fingerprint` changes whenever the turn made progress."""

    claims: int
    fingerprint: int
    state: Mapping[str, str]


class ProgressTracker:
    """Tracks one container's progress from its start or adoption on. `now`: monotonic, in seconds."""

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
        """Add one check. `sample` is None if outbound.db could not be read now; `read_error` says why it never can be.
        `is_due`: messages wait that the container should claim. `is_busy`: whether it was known to work."""
        passed_s = min(max(0.0, now - self._last_update), MAX_STEP_S)
        self._last_update = now
        self._heartbeat_age_s = self._heartbeat_age_s + passed_s if heartbeat == self._heartbeat else 0.0
        self._has_heartbeat = self._has_heartbeat or heartbeat != self._heartbeat
        self._heartbeat = heartbeat
        self._read_error = (read_error, self._read_error[1] + 1 if read_error else 0)
        # Without any read so far there is no outbound.db, hence no claim; after one, the file may only be locked now.
        claims_nothing = self._fingerprint is None if sample is None else sample.claims == 0
        unclaimed = is_due and claims_nothing and not read_error
        self._unclaimed_s = self._unclaimed_s + passed_s if unclaimed else 0.0
        is_working = is_busy if sample is None else sample.claims > 0
        has_progressed = sample is not None and sample.fingerprint != self._fingerprint
        self._stalled_s = self._stalled_s + passed_s if is_working and not has_progressed else 0.0
        if sample is not None:
            self._fingerprint, self._state = sample.fingerprint, sample.state

    @property
    def stalled_s(self) -> float:
        """Seconds since the running turn last showed progress; 0 if none runs."""
        return self._stalled_s

    def signals(self, now: datetime) -> HealthSignals:
        """Returns the signals so far. `now`: the wall clock, to compare with times that a turn reports."""
        read_error, error_count = self._read_error
        return HealthSignals(
            has_heartbeat=self._has_heartbeat,
            heartbeat_age_s=self._heartbeat_age_s,
            unclaimed_s=self._unclaimed_s,
            stalled_s=self._stalled_s,
            tool_name=_printable(self._state.get("tool", "")),
            tool_timeout_s=_parse_seconds(self._state.get("tool_timeout_s", "")) if "tool" in self._state else 0.0,
            is_waiting_for_user="tool" in self._state and "waiting" in self._state,
            is_rate_limited=_is_rate_limited(self._state.get("rate_limited_until", ""), now),
            read_error=read_error if error_count >= MIN_REFUSALS else "",
        )


def _printable(name: object) -> str:
    """Returns the printable characters: a container wrote the name, and an operator's terminal shows it."""
    return "".join(letter for letter in str(name)[:MAX_NAME_CHARS] if letter.isprintable())


def _is_rate_limited(text: object, now: datetime) -> bool:
    """Whether the turn reports a rate limit, with RATE_LIMIT_GRACE to retry after its end."""
    with suppress(ValueError, OverflowError):
        return now < from_text(str(text)[:MAX_NAME_CHARS]) + RATE_LIMIT_GRACE
    return False


def _parse_seconds(text: object) -> float:
    """Returns the seconds that a container reports, at most MAX_TOOL_S; 0 if they are invalid."""
    seconds = 0.0
    with suppress(ValueError):
        seconds = float(str(text)[:MAX_NAME_CHARS])
    return min(seconds, MAX_TOOL_S) if seconds > 0 else 0.0


MAILBOX, DISK = "mailbox", "disk"
"""Reasons for which more is done than to stop the container."""
MAX_HUMAN_WAIT_S = 24 * 3600.0
MAX_RATE_LIMIT_S = 6 * 3600.0
"""For so long the host believes a turn that it waits for a person, or for the end of a rate limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLimits:
    """Limits in seconds and bytes. `startup_timeout_s`: for a container's first heartbeat, and for its claim of a due
    message."""

    heartbeat_timeout_s: float
    startup_timeout_s: float
    turn_timeout_s: float
    max_session_bytes: int = DiskSettings().session_bytes
    max_workspace_bytes: int = DiskSettings().workspace_bytes
    reserve_bytes: int = DiskSettings().reserve_bytes


def health_limits(containers: ContainerSettings, disk: DiskSettings) -> HealthLimits:
    """Returns the limits from the settings. A start may take twice as long as a heartbeat."""
    return HealthLimits(
        heartbeat_timeout_s=containers.heartbeat_limit_s,
        startup_timeout_s=2 * containers.heartbeat_limit_s,
        turn_timeout_s=containers.turn_limit_s,
        max_session_bytes=disk.session_bytes,
        max_workspace_bytes=disk.workspace_bytes,
        reserve_bytes=disk.reserve_bytes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSignals:
    """What the host observed of a running container. Ages in seconds."""

    has_heartbeat: bool = True
    heartbeat_age_s: float = 0.0
    """Since the heartbeat last changed."""
    unclaimed_s: float = 0.0
    """For how long messages are due and none is claimed; 0 otherwise."""
    stalled_s: float = 0.0
    """Since the running turn last showed progress; 0 if none runs."""
    tool_name: str = ""
    tool_timeout_s: float = 0.0
    """The time that the running tool claims for itself; 0 if none runs, or it claims none."""
    is_waiting_for_user: bool = False
    """Whether the running tool waits for a person's answer."""
    is_rate_limited: bool = False
    """Whether the turn reports that the provider's rate limit is not over."""
    read_error: str = ""
    """Why the host can never read outbound.db."""
    oversized_folder: FolderOverLimit | None = None
    """A folder of the session that is over its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """No sign that the container is stuck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """The container is to be stopped. `reason`: a stable word for counters. `detail`: for the operator. `should_hold`:
    the session is also to be held, with `is_group_wide` its whole agent group."""

    reason: str
    detail: str
    should_hold: bool = False
    is_group_wide: bool = False


def evaluate(signals: HealthSignals, limits: HealthLimits) -> Healthy | Stuck:
    """Decide whether the container is stuck, by the most certain sign first."""
    if signals.read_error:
        return Stuck(
            reason=MAILBOX, detail=lazy_gettext("its outbound.db cannot be read: {problem}", problem=signals.read_error)
        )
    if signals.oversized_folder is not None:
        return Stuck(
            reason=DISK,
            detail=signals.oversized_folder.detail,
            should_hold=True,
            is_group_wide=signals.oversized_folder.is_group_wide,
        )
    if not signals.has_heartbeat and signals.heartbeat_age_s > limits.startup_timeout_s:
        return Stuck(reason="start", detail=f"it gave no sign of life for {signals.heartbeat_age_s:.0f} s")
    if signals.has_heartbeat and signals.heartbeat_age_s > limits.heartbeat_timeout_s:
        return Stuck(reason="heartbeat", detail=f"its heartbeat stopped {signals.heartbeat_age_s:.0f} s ago")
    if signals.unclaimed_s > limits.startup_timeout_s:
        return Stuck(reason="claim", detail=f"messages are due for {signals.unclaimed_s:.0f} s and it takes none")
    if signals.stalled_s > _stall_timeout_s(signals, limits):
        what = f"in the tool {signals.tool_name}" if signals.tool_name else "in its turn"
        return Stuck(reason="turn", detail=f"nothing happened {what} for {signals.stalled_s:.0f} s")
    return Healthy()


def _stall_timeout_s(signals: HealthSignals, limits: HealthLimits) -> float:
    """Returns for how long the turn may show no progress, given what it reports."""
    return max(
        limits.turn_timeout_s,
        signals.tool_timeout_s,
        MAX_HUMAN_WAIT_S if signals.is_waiting_for_user else 0.0,
        MAX_RATE_LIMIT_S if signals.is_rate_limited else 0.0,
    )

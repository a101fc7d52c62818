"""Whether a container is stuck. Pure: what was seen of it and the limits in, fine or a reason out.

Two clocks. *Alive*: a thread of the runner touches the heartbeat each second, whatever its loop does; it stops with the
process. *Progress*: a turn begins and ends tools, sends, and ends itself; a runner that hangs goes on beating and does
nothing of that. All ages are seconds for which the host watched and saw no change: the times of the files say nothing,
because a container sets them, and clocks jump.
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
        """`sample` None: outbound.db could not be read now, or `read_error` says why it never can. `is_due`: messages
        wait that it should have taken. `is_busy`: as far as was known before, it works."""
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


MAILBOX, DISK = "mailbox", "disk"
"""Reasons after which more is done than to stop the container."""
MAX_HUMAN_WAIT_S = 24 * 3600.0
MAX_RATE_LIMIT_S = 6 * 3600.0
"""What a turn says of itself is believed for so long: for ever is no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLimits:
    """Seconds, and bytes. `startup_timeout_s`: for the first heartbeat of a container, and for taking a message that is
    due."""

    heartbeat_timeout_s: float
    startup_timeout_s: float
    turn_timeout_s: float
    max_session_bytes: int = DiskSettings().session_bytes
    max_workspace_bytes: int = DiskSettings().workspace_bytes
    reserve_bytes: int = DiskSettings().reserve_bytes


def health_limits(containers: ContainerSettings, disk: DiskSettings) -> HealthLimits:
    """As the operator set them. A start may take twice as long as a sign of life."""
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
    """What was seen of a running container. Ages in seconds."""

    has_heartbeat: bool = True
    heartbeat_age_s: float = 0.0
    """Since the heartbeat last changed."""
    unclaimed_s: float = 0.0
    """Since messages are due and none is claimed; 0 when it is not so."""
    stalled_s: float = 0.0
    """Since the running turn last showed anything; 0 when none runs."""
    tool_name: str = ""
    tool_timeout_s: float = 0.0
    """What the tool in flight said that it may take; 0 when none is, or it said nothing."""
    is_waiting_for_user: bool = False
    """The tool in flight waits for somebody to answer."""
    is_rate_limited: bool = False
    """The provider is not to be asked yet, the turn says."""
    read_error: str = ""
    """Why outbound.db is not a file that the host reads."""
    oversized_folder: FolderOverLimit | None = None
    """A folder of its that takes more of the disk than it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """Nothing is known against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """It is to be stopped. `reason` is a stable word for counters, `detail` is for the operator. `should_hold`: and not
    started again by itself, nor, with `is_group_wide`, any other of its agent group."""

    reason: str
    detail: str
    should_hold: bool = False
    is_group_wide: bool = False


def evaluate(signals: HealthSignals, limits: HealthLimits) -> Healthy | Stuck:
    """The surest sign first."""
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
    """For how long the turn may show nothing, for what it says it is doing."""
    return max(
        limits.turn_timeout_s,
        signals.tool_timeout_s,
        MAX_HUMAN_WAIT_S if signals.is_waiting_for_user else 0.0,
        MAX_RATE_LIMIT_S if signals.is_rate_limited else 0.0,
    )

"""Whether a container is stuck. Pure: what was seen of it and the limits in, fine or a reason out.

Two clocks. *Alive*: a thread of the runner touches the heartbeat each second, whatever its loop does; it stops with the
process. *Progress*: a turn begins and ends tools, sends, and ends itself; a runner that hangs goes on beating and does
nothing of that. All ages are seconds for which the host watched and saw no change: the times of the files say nothing,
because a container sets them, and clocks jump.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.keeper.footprint import FolderOverLimit
from nanohost.keeper.settings import ContainerSettings, DiskSettings

MAILBOX, DISK = "mailbox", "disk"
"""Reasons after which more is done than to stop the container."""
MAX_HUMAN_WAIT_S = 24 * 3600.0
MAX_RATE_LIMIT_S = 6 * 3600.0
"""What a turn says of itself is believed for so long: for ever is no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLimits:
    """Seconds, and bytes. `startup_timeout_s`: for the first heartbeat of a container, and for taking a message that is due."""

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
        return Stuck(reason=MAILBOX, detail=f"its outbound.db cannot be read: {signals.read_error}")
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

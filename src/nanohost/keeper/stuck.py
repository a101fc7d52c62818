"""Whether a container is stuck. Pure: what was seen of it and the limits in, fine or a reason out.

Two clocks. *Alive*: a thread of the runner touches the heartbeat each second, whatever its loop does; it stops with the
process. *Progress*: a turn begins and ends tools, sends, and ends itself; a runner that hangs goes on beating and does
nothing of that. All ages are seconds for which the host watched and saw no change: the times of the files say nothing,
because a container sets them, and clocks jump.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.keeper.footprint import Grown
from nanohost.keeper.settings import ContainerSettings, DiskSettings

MAILBOX, DISK = "mailbox", "disk"
"""Reasons after which more is done than to stop the container."""
LONGEST_FOR_A_PERSON_S = 24 * 3600.0
LONGEST_LIMITED_S = 6 * 3600.0
"""What a turn says of itself is believed for so long: for ever is no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds, and bytes. `first_s`: for the first heartbeat of a container, and for taking a message that is due."""

    heartbeat_s: float
    first_s: float
    turn_s: float
    session_bytes: int = DiskSettings().session_bytes
    workspace_bytes: int = DiskSettings().workspace_bytes
    reserve_bytes: int = DiskSettings().reserve_bytes


def limits_of(containers: ContainerSettings, disk: DiskSettings) -> Limits:
    """As the operator set them. A start may take twice as long as a sign of life."""
    return Limits(
        heartbeat_s=containers.heartbeat_limit_s,
        first_s=2 * containers.heartbeat_limit_s,
        turn_s=containers.turn_limit_s,
        session_bytes=disk.session_bytes,
        workspace_bytes=disk.workspace_bytes,
        reserve_bytes=disk.reserve_bytes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """What was seen of a running container. Ages in seconds."""

    has_beaten: bool = True
    silent_s: float = 0.0
    """Since the heartbeat last changed."""
    unclaimed_s: float = 0.0
    """Since messages are due and none is claimed; 0 when it is not so."""
    quiet_s: float = 0.0
    """Since the running turn last showed anything; 0 when none runs."""
    tool: str = ""
    tool_timeout_s: float = 0.0
    """What the tool in flight said that it may take; 0 when none is, or it said nothing."""
    for_person: bool = False
    """The tool in flight waits for somebody to answer."""
    limited: bool = False
    """The provider is not to be asked yet, the turn says."""
    refused: str = ""
    """Why outbound.db is not a file that the host reads."""
    grown: Grown | None = None
    """A folder of its that takes more of the disk than it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fine:
    """Nothing is known against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """It is to be stopped. `reason` is a stable word for counters, `sentence` is for the operator. `hold`: and not
    started again by itself, nor, with `of_group`, any other of its agent group."""

    reason: str
    sentence: str
    hold: bool = False
    of_group: bool = False


def judge(signs: Signs, limits: Limits) -> Fine | Stuck:
    """The surest sign first."""
    if signs.refused:
        return Stuck(reason=MAILBOX, sentence=f"its outbound.db cannot be read: {signs.refused}")
    if signs.grown is not None:
        return Stuck(reason=DISK, sentence=signs.grown.sentence, hold=True, of_group=signs.grown.of_group)
    if not signs.has_beaten and signs.silent_s > limits.first_s:
        return Stuck(reason="start", sentence=f"it gave no sign of life for {signs.silent_s:.0f} s")
    if signs.has_beaten and signs.silent_s > limits.heartbeat_s:
        return Stuck(reason="heartbeat", sentence=f"its heartbeat stopped {signs.silent_s:.0f} s ago")
    if signs.unclaimed_s > limits.first_s:
        return Stuck(reason="claim", sentence=f"messages are due for {signs.unclaimed_s:.0f} s and it takes none")
    if signs.quiet_s > _patience_s(signs, limits):
        what = f"in the tool {signs.tool}" if signs.tool else "in its turn"
        return Stuck(reason="turn", sentence=f"nothing happened {what} for {signs.quiet_s:.0f} s")
    return Fine()


def _patience_s(signs: Signs, limits: Limits) -> float:
    """For how long the turn may show nothing, for what it says it is doing."""
    return max(
        limits.turn_s,
        signs.tool_timeout_s,
        LONGEST_FOR_A_PERSON_S if signs.for_person else 0.0,
        LONGEST_LIMITED_S if signs.limited else 0.0,
    )

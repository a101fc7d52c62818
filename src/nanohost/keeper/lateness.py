"""Whether a message that waits is late, and for which cause. Pure: facts and a deadline in, a cause out.

Late is what is older than its deadline and shows nothing: a turn that goes on, however long, is not; nor is a pause of
which the people know.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.keeper.slots import SlotState


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingMessage:
    """What is known of a message in a mailbox. Ages in seconds."""

    age_s: float
    is_claimed: bool = False
    """A living container works on it."""
    stalled_s: float = 0.0
    """Since that turn last showed anything."""
    container_state: SlotState | None = None
    is_queued: bool = False
    """Its session stands in line for a container."""
    failure: str = ""
    """Why the session's containers fail."""
    is_between_attempts: bool = False
    is_explained: bool = False
    """The people of its chat know why it waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverdueCause:
    """`reason` is a stable word for counters, `detail` is for the operator."""

    reason: str
    detail: str


def overdue_cause(pending: PendingMessage, deadline_s: float) -> OverdueCause | None:
    """None: it is in time, or at work, or explained."""
    if pending.age_s <= deadline_s or pending.is_explained:
        return None
    if pending.is_claimed:
        if pending.stalled_s <= deadline_s:
            return None
        return OverdueCause(reason="silent turn", detail=f"its turn has shown nothing for {pending.stalled_s:.0f} s")
    if pending.failure:
        return OverdueCause(reason="no container", detail=pending.failure)
    if pending.is_queued:
        return OverdueCause(
            reason="queued", detail="it waits for a free container: all of [host] max_containers are at work"
        )
    if pending.is_between_attempts:
        return OverdueCause(reason="failing", detail="its tries fail, and it waits for the next one")
    if pending.container_state is not None:
        return OverdueCause(
            reason="not taken", detail=f"its container is {pending.container_state} and does not take it"
        )
    return OverdueCause(reason="not started", detail="no container was started for it")

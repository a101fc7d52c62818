"""Whether a message that waits is late, and for which cause. Pure: facts and a deadline in, a cause out.

Late is what is older than its deadline and shows nothing: a turn that goes on, however long, is not; nor is a pause of
which the people know.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.keeper.slots import SlotState


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What is known of a message in a mailbox. Ages in seconds."""

    age_s: float
    claimed: bool = False
    """A living container works on it."""
    quiet_s: float = 0.0
    """Since that turn last showed anything."""
    container: SlotState | None = None
    queued: bool = False
    """Its session stands in line for a container."""
    trouble: str = ""
    """Why the session's containers fail."""
    between_tries: bool = False
    explained: bool = False
    """The people of its chat know why it waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """`reason` is a stable word for counters, `sentence` is for the operator."""

    reason: str
    sentence: str


def late(waiting: Waiting, deadline_s: float) -> Cause | None:
    """None: it is in time, or at work, or explained."""
    if waiting.age_s <= deadline_s or waiting.explained:
        return None
    if waiting.claimed:
        if waiting.quiet_s <= deadline_s:
            return None
        return Cause(reason="silent turn", sentence=f"its turn has shown nothing for {waiting.quiet_s:.0f} s")
    if waiting.trouble:
        return Cause(reason="no container", sentence=waiting.trouble)
    if waiting.queued:
        return Cause(
            reason="queued", sentence="it waits for a free container: all of [host] max_containers are at work"
        )
    if waiting.between_tries:
        return Cause(reason="failing", sentence="its tries fail, and it waits for the next one")
    if waiting.container is not None:
        return Cause(reason="not taken", sentence=f"its container is {waiting.container} and does not take it")
    return Cause(reason="not started", sentence="no container was started for it")

"""What one wiring makes of one event: facts in, a decision with its reason out. Pure.

Promises: what access or sender scope refuses is never kept as context, and nobody is asked about a stranger whom no
agent would have answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from nanohost.access.decision import Access, may_talk
from nanohost.channel_api import EventKind, InboundEvent
from nanohost.model import Ignored, UnknownSender, Wiring
from nanohost.patterns import PatternError
from nanohost.routing.engage import engages, is_command
from nanohost.store.roles import Grant

ANOTHER_BOT = "another bot wrote it"
MOST_BOTS = 20
BOTS_WITHIN = timedelta(hours=1)
"""Two bots that answer each other would do so for ever, and each turn costs. After so many in a row within this time an
agent hears other bots again once a person has spoken to it, or the time has passed."""
BOTS_ALONE = f"{MOST_BOTS} messages in a row were by bots, and no person wrote to the agent within the hour"
NO_PART = "the agent takes no part in it"
NOT_ASKED = "the sender has no role here, and this is nothing to ask anybody about"
_NO_WORDS = {EventKind.REACTION, EventKind.REACTION_REMOVED, EventKind.NOTICE}
"""Nobody is asked about the sender of these."""
_WAKES_NOBODY = {EventKind.REACTION_REMOVED, EventKind.NOTICE}


class Made(StrEnum):
    """What is to be made of it."""

    WRITE = "write"
    """The agent is to answer it."""
    CONTEXT = "context"
    """The agent is to know of it, the next time it is woken."""
    DROP = "drop"
    """It is none of the agent's business."""
    DENY = "deny"
    """Its sender may not talk to the agent."""
    ASK = "ask"
    """Somebody is to be asked whether its sender may."""


@dataclass(frozen=True, slots=True)
class Decision:
    made: Made
    reason: str


def consider(
    wiring: Wiring,
    event: InboundEvent,
    *,
    grants: Sequence[Grant],
    policy: UnknownSender,
    sticks: bool,
    bots_alone: bool = False,
    known: bool = False,
) -> Decision:
    """`grants` of the event's sender, by any identity; `policy` of its chat; `sticks`: the wiring is in a conversation
    in the event's thread; `bots_alone`: nobody but bots spoke to the agent for too long; `known`: it changes a message
    that the agent knows of. For all but presses, which are for whose card it was."""
    if event.sender.is_bot and not wiring.bots:
        return Decision(Made.DROP, ANOTHER_BOT)
    if event.sender.is_bot and bots_alone:
        return Decision(Made.DROP, BOTS_ALONE)
    try:
        engaged = engages(wiring, event, has_session=sticks) or is_command(event)
    except PatternError as error:
        return Decision(Made.DROP, f"the wiring's pattern cannot be used: {error}")
    if not engaged and wiring.ignored is Ignored.DROP and not known:
        return Decision(Made.DROP, NO_PART)
    access = may_talk(grants, policy, wiring.agent_group_id, wiring.sender_scope)
    if access.allowed:
        wakes = engaged and event.kind not in _WAKES_NOBODY
        return Decision(Made.WRITE, access.reason) if wakes else Decision(Made.CONTEXT, NO_PART)
    if access.may_ask and engaged and event.kind not in _NO_WORDS:
        return Decision(Made.ASK, access.reason)
    return Decision(Made.DENY, why_denied(access))


def why_denied(access: Access) -> str:
    """The reason on record of a refusal that makes nobody ask: nobody is to look for a request that is not there."""
    return NOT_ASKED if access.may_ask else access.reason

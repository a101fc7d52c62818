"""Decides whether a wiring's agent takes part in an event, with the reason. Pure.

Promises: a message that access or sender scope denies is never kept as context. Nobody is asked about an unknown sender
if the agent would not have engaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from nanohost.access.decision import Access, check_access
from nanohost.channel_api import EventKind, InboundEvent
from nanohost.chat_commands.classify import is_chat_command
from nanohost.db.roles import RoleGrant
from nanohost.model import EngageMode, IgnoredMessagePolicy, UnknownSender, Wiring
from nanohost.routing.patterns import PatternError, matches

SENT_BY_BOT = "another bot wrote it"
MAX_BOT_MESSAGES = 20
BOT_LOOP_WINDOW = timedelta(hours=1)
"""Two bots that answer each other would never stop, and each turn costs money. After MAX_BOT_MESSAGES in a row within
this time, an agent ignores bots until a person writes to it or the time has passed."""
BOT_LOOP = f"{MAX_BOT_MESSAGES} messages in a row were by bots, and no person wrote to the agent within the hour"
NOT_ENGAGED = "the agent takes no part in it"
NO_APPROVAL_REQUESTED = "the sender has no role here, and this is nothing to ask anybody about"
_NO_APPROVAL_KINDS = {EventKind.REACTION, EventKind.REACTION_REMOVED, EventKind.NOTICE}
"""Nobody is asked about the sender of these."""
_NON_WAKING_KINDS = {EventKind.REACTION_REMOVED, EventKind.NOTICE}


class Engagement(StrEnum):
    """What a wiring does with an event."""

    WRITE = "write"
    """The agent gets it and answers."""
    CONTEXT = "context"
    """The agent reads it with the next message that wakes it."""
    DROP = "drop"
    """The agent does not engage and does not get it."""
    DENY = "deny"
    """Its sender may not talk to the agent."""
    REQUEST_APPROVAL = "ask"
    """An approver is asked whether its sender may talk to the agent."""


@dataclass(frozen=True, slots=True)
class EngagementDecision:
    engagement: Engagement
    reason: str


def decide_engagement(
    wiring: Wiring,
    event: InboundEvent,
    *,
    grants: Sequence[RoleGrant],
    policy: UnknownSender,
    is_sticky: bool,
    is_bot_loop: bool = False,
    is_known: bool = False,
) -> EngagementDecision:
    """Decides what a wiring does with an event. Not for button presses, which go to the session that sent the card.

    `grants`: of the event's sender, by any identity. `policy`: of its chat. `is_sticky`: the wiring has a conversation
    in the event's thread. `is_bot_loop`: only bots have written to the agent for too long. `is_known`: the event
    changes a message that the agent has received.
    """
    if event.sender.is_bot and not wiring.bots:
        return EngagementDecision(Engagement.DROP, SENT_BY_BOT)
    if event.sender.is_bot and is_bot_loop:
        return EngagementDecision(Engagement.DROP, BOT_LOOP)
    try:
        engaged = should_engage(wiring, event, has_session=is_sticky) or is_command(event)
    except PatternError as error:
        return EngagementDecision(Engagement.DROP, f"the wiring's pattern cannot be used: {error}")
    if not engaged and wiring.ignored is IgnoredMessagePolicy.DROP and not is_known:
        return EngagementDecision(Engagement.DROP, NOT_ENGAGED)
    access = check_access(grants, policy, wiring.agent_group_id, wiring.sender_scope)
    if access.is_allowed:
        wakes = engaged and event.kind not in _NON_WAKING_KINDS
        return (
            EngagementDecision(Engagement.WRITE, access.reason)
            if wakes
            else EngagementDecision(Engagement.CONTEXT, NOT_ENGAGED)
        )
    if access.can_request_approval and engaged and event.kind not in _NO_APPROVAL_KINDS:
        return EngagementDecision(Engagement.REQUEST_APPROVAL, access.reason)
    return EngagementDecision(Engagement.DENY, denial_reason(access))


def denial_reason(access: Access) -> str:
    """Returns the reason to record for a denial; it must not suggest that an approval was requested."""
    return NO_APPROVAL_REQUESTED if access.can_request_approval else access.reason


MATCH_ALL = "."
MAX_MATCHED_CHARS = 4096
"""Characters from the beginning of a text that a pattern is matched against: matching blocks the event loop."""


def should_engage(wiring: Wiring, event: InboundEvent, *, has_session: bool) -> bool:
    """Returns whether the wiring's mode or pattern matches the event.

    `has_session`: the wiring already has a session in the event's thread (for sticky mentions). Raises PatternError if
    the wiring's pattern is invalid.
    """
    if wiring.engage_mode is EngageMode.PATTERN:
        return wiring.engage_pattern == MATCH_ALL or matches(wiring.engage_pattern, event.text[:MAX_MATCHED_CHARS])
    return is_addressed(event) or (wiring.engage_mode is EngageMode.MENTION_STICKY and has_session)


def is_addressed(event: InboundEvent) -> bool:
    """Returns whether the event is addressed to the bot: by a mention or in a direct message."""
    return event.mentions_bot or not event.is_group


def is_command(event: InboundEvent) -> bool:
    """Returns whether the event is a typed command for the bot, which need not match a pattern. An edit is not."""
    return event.kind is EventKind.MESSAGE and is_addressed(event) and is_chat_command(event.text)

"""Derives the status of a message from its records. Pure.

A message has one status for each agent that it may be for; the overall status is the one that best explains why there
was no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from nanohost.db.deliveries import DeliveryStatus
from nanohost.db.events import REASON_FOR_HOST
from nanohost.db.message_turns import TurnOutcome
from nanohost.db.messages import Message, MessageRoute, SentMessage
from nanohost.db.routes import RouteOutcome


class MessageStatus(StrEnum):
    """The statuses, in order of precedence if agents differ."""

    SET_ASIDE = "set_aside"
    UNDELIVERED = "undelivered"
    FAILED = "failed"
    WAITING = "waiting"
    WORKING = "working"
    SENDING = "sending"
    HELD = "held"
    RECEIVED = "received"
    ANSWERED = "answered"
    SILENT = "silent"
    STOPPED = "stopped"
    ROUTED = "routed"
    CONTEXT = "context"
    DENIED = "denied"
    IGNORED = "ignored"
    DROPPED = "dropped"
    HOST = "host"


_PRIORITY = list(MessageStatus)

STATUS_DESCRIPTIONS = {
    MessageStatus.SET_ASIDE: "routing it failed again and again",
    MessageStatus.UNDELIVERED: "the answer did not arrive",
    MessageStatus.FAILED: "the turn over it failed",
    MessageStatus.WAITING: "no turn has begun with it, or one was interrupted and is tried again",
    MessageStatus.WORKING: "a turn over it runs",
    MessageStatus.SENDING: "the answer is on its way",
    MessageStatus.HELD: "it waits for approval",
    MessageStatus.RECEIVED: "it is not routed yet",
    MessageStatus.ANSWERED: "an answer was sent",
    MessageStatus.SILENT: "the turn over it ended well, and sent nothing",
    MessageStatus.STOPPED: "it was ended before a turn began with it",
    MessageStatus.ROUTED: "it went to its agent; what came then is from before that was kept",
    MessageStatus.CONTEXT: "the agent reads it with the next message that wakes it",
    MessageStatus.DENIED: "its sender may not talk to the agent",
    MessageStatus.IGNORED: "it was not for the agent",
    MessageStatus.DROPPED: "it was for no agent",
    MessageStatus.HOST: "it was for the host itself",
}

NOT_STARTED_REASON = "its agent has not begun with it"
STOPPED_REASON = "/stop or /clear in the chat ended it"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageOutcome:
    """The status of a message. `reason` is empty if the status needs none."""

    status: MessageStatus
    reason: str = ""
    route: MessageRoute | None = None
    """The route to the agent; None if it concerns no agent."""


def message_outcome(message: Message, routes: Sequence[tuple[MessageRoute, Sequence[SentMessage]]]) -> MessageOutcome:
    """Returns the overall outcome of a message. `routes`: its routes, each with the messages sent for it."""
    by_agent = [agent_outcome(route, sent) for route, sent in routes]
    if message.status != "new" and by_agent:
        return min(by_agent, key=lambda one: _PRIORITY.index(one.status))
    reason = message.reason or ""
    match message.status:
        case "new":
            return MessageOutcome(status=MessageStatus.RECEIVED, reason=reason)
        case "held":
            return MessageOutcome(status=MessageStatus.HELD, reason=_approval_reason(message.approval_id))
        case "set_aside":
            return MessageOutcome(status=MessageStatus.SET_ASIDE, reason=reason)
        case "dropped":
            return MessageOutcome(status=MessageStatus.DROPPED, reason=reason)
    return MessageOutcome(status=MessageStatus.HOST, reason="" if reason == REASON_FOR_HOST else reason)


def agent_outcome(route: MessageRoute, sent: Sequence[SentMessage]) -> MessageOutcome:
    """Returns the outcome for one agent."""
    status, why = _agent_status(route, sent)
    return MessageOutcome(status=status, reason=why, route=route)


def _agent_status(route: MessageRoute, sent: Sequence[SentMessage]) -> tuple[MessageStatus, str]:
    match route.outcome:
        case RouteOutcome.DENIED:
            return MessageStatus.DENIED, route.reason
        case RouteOutcome.NOT_ENGAGED:
            return MessageStatus.IGNORED, route.reason
        case RouteOutcome.HELD:
            return MessageStatus.HELD, _approval_reason(route.approval_id)
        case RouteOutcome.CONTEXT:
            return MessageStatus.CONTEXT, ""
        case RouteOutcome.WAITING:
            return MessageStatus.WAITING, route.reason
        case RouteOutcome.WRITTEN:
            return _turn_status(route, sent)


def _turn_status(route: MessageRoute, sent: Sequence[SentMessage]) -> tuple[MessageStatus, str]:
    turn = route.turn
    if turn is None:
        if sent and route.is_at_rest:
            return _delivery_status(sent)  # the host answered it itself, as with commands
        if route.decided_at is None:
            return MessageStatus.ROUTED, ""
        return (
            (MessageStatus.STOPPED, STOPPED_REASON) if route.is_at_rest else (MessageStatus.WAITING, NOT_STARTED_REASON)
        )
    match turn.outcome:
        case None:
            return MessageStatus.WORKING, ""
        case TurnOutcome.INTERRUPTED:
            return MessageStatus.WAITING, f"its turn ended without an answer, and is tried again: {turn.error or ''}"
        case TurnOutcome.FAILED:
            return MessageStatus.FAILED, turn.error or ""
        case TurnOutcome.COMPLETED:
            return _delivery_status(sent)


def _delivery_status(sent: Sequence[SentMessage]) -> tuple[MessageStatus, str]:
    by_status = {one.status: one for one in sent}
    for status in (DeliveryStatus.DEAD, DeliveryStatus.UNKNOWN):
        if (one := by_status.get(status)) is not None:
            return MessageStatus.UNDELIVERED, one.reason or ""
    for status in (DeliveryStatus.PENDING, DeliveryStatus.SENDING):
        if (one := by_status.get(status)) is not None:
            return MessageStatus.SENDING, one.reason or ""
    if DeliveryStatus.SENT in by_status:
        return MessageStatus.ANSWERED, ""
    if (one := by_status.get(DeliveryStatus.DROPPED)) is not None:
        return MessageStatus.UNDELIVERED, one.reason or ""
    return MessageStatus.SILENT, ""


def _approval_reason(id: str | None) -> str:
    return "" if id is None else f"it waits for approval {id}"

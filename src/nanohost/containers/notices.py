"""Builds the host's own notices to people as deliveries. Each possible notice has one place in the ledger.

The numbers of notices are below zero, where no row of an agent is, and derived from their cause: to add a notice again,
after a crash or by two stages, changes nothing. A queue sends the lowest number first, so notices about a later message
have higher numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from nanohost.db.deliveries import Delivery, DeliveryQueueKey, DeliveryStatus
from nanohost.db.notice_numbers import (
    DELIVERY_NOTICES_START,
    EVENT_NOTICES_START,
    FAILED_NOTICE,
    LAST_ATTEMPT_NOTICE,
    MESSAGE_NOTICES_START,
    MODEL_HELD_NOTICE,
    NO_CONTAINER_NOTICE,
    NOTICES_PER_MESSAGE,
    ON_HOLD_NOTICE,
    OVERDUE_NOTICE,
)
from nanohost.errors import RuntimeUnavailable, SpawnError
from nanohost.model import Session, SessionId
from nanohost.text.translation import gettext_noop, lazy, lazy_gettext, translate
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import ChatOut, encode
from nanohost_protocol.rows import MessageIn, Origin

TERMINAL = "terminal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A sentence about a message. `number`: the try that it reports, or one of the constants in notice_numbers."""

    message: MessageIn
    number: int
    text: str


def notice_delivery(session: Session, notice: Notice, now: datetime) -> Delivery:
    """Returns the notice's entry in the ledger. Its message must have an origin."""
    origin = notice.message.origin
    assert origin is not None
    id = notice_id(session.id, notice.message.id, notice.number)
    return _build_delivery(session.id, notice_seq(notice.message, notice.number), id, origin, notice.text, now)


def event_notice(session: SessionId, event: int, origin: Origin, text: str, now: datetime) -> Delivery:
    """Returns a notice about an event that did not reach a mailbox."""
    return _build_delivery(
        session, EVENT_NOTICES_START + event, derive_id("n", session, "event", str(event)), origin, text, now
    )


def delivery_notice(delivery: Delivery, text: str, now: datetime) -> Delivery:
    """Returns a notice about a message that cannot be delivered, to the chat that it was for."""
    queue = delivery.queue
    origin = Origin(
        channel_type=queue.channel_type,
        instance=queue.instance,
        platform_id=delivery.platform_id,
        thread_id=delivery.thread_id,
        platform_message_id=delivery.reply_to,
    )
    id = derive_id("n", queue.session_id, "delivery", str(delivery.seq))
    return _build_delivery(queue.session_id, DELIVERY_NOTICES_START + delivery.seq, id, origin, text, now)


def notice_id(session: SessionId, message_id: str, number: int) -> str:
    """Returns the id of a notice about a message."""
    return derive_id("n", session, message_id, str(number))


def notice_seq(message: MessageIn, number: int) -> int:
    """Returns the number of a notice in the ledger."""
    number = (
        number
        if number in (NO_CONTAINER_NOTICE, FAILED_NOTICE, OVERDUE_NOTICE, MODEL_HELD_NOTICE, ON_HOLD_NOTICE)
        else min(number, LAST_ATTEMPT_NOTICE)
    )
    return MESSAGE_NOTICES_START + message.seq * NOTICES_PER_MESSAGE + number


def notice_seqs(message: MessageIn) -> range:
    """Returns all numbers that notices about this message can have."""
    first = MESSAGE_NOTICES_START + message.seq * NOTICES_PER_MESSAGE
    return range(first, first + NOTICES_PER_MESSAGE)


def _adapt_to_channel(origin: Origin, text: str) -> str:
    """Add a hint for the operator in the terminal: who writes there can read the files (decision 0083)."""
    return translate(with_operator_hint(text) if origin.channel_type == TERMINAL else text)


def _build_delivery(session: SessionId, seq: int, out_id: str, origin: Origin, text: str, now: datetime) -> Delivery:
    return Delivery(
        queue=DeliveryQueueKey(session, origin.channel_type, origin.instance, origin.platform_id),
        seq=seq,
        out_id=out_id,
        kind="chat",
        thread_id=origin.thread_id,
        reply_to=origin.platform_message_id,
        content=encode(ChatOut(text=_adapt_to_channel(origin, text))),
        status=DeliveryStatus.PENDING,
        created_at=now,
    )


START_FAILURE_NOTICE = gettext_noop(
    "I cannot work right now. I keep your message and try again; the operator's log says why."
)
CRASH_NOTICE = gettext_noop(
    "I broke down before I could look at your message. I keep it and try again; the operator's log says why."
)

_COMMAND_HINTS = (
    ("its key", "nanohost model set"),
    (
        "none of its name",  # no check detects this, since a check names no model
        gettext_noop(
            "[agent] model, or nanohost agents update GROUP --model NAME where the agent has one of its own; nanohost"
            " model check tries the address"
        ),
    ),
    ("my model", "nanohost model check"),
)
"""Commands for the operator, by words of a sentence. Some sentences are the runner's (agent_runner.failures)."""


def start_failure_notice(error: Exception) -> str:
    """Returns the notice that no container was started. It gives the reason if that is about the machine in general
    and contains no path."""
    if not isinstance(error, (SpawnError, RuntimeUnavailable)) or _contains_path(str(error)):
        return START_FAILURE_NOTICE
    said = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    problem = lazy(said) if said.endswith(".") else lazy_gettext("{problem}.", problem=lazy(said))
    if not error.hint or _contains_path(error.hint):
        return lazy_gettext("I cannot work right now: {problem} I keep your message and try again.", problem=problem)
    return lazy_gettext(
        "I cannot work right now: {problem} I keep your message and try again. (For the operator: {hint})",
        problem=problem,
        hint=lazy(error.hint),
    )


def with_operator_hint(text: str) -> str:
    """Add to a text that mentions the operator the command to type, for the operator at the machine."""
    lower = text.casefold()
    if "the operator" not in lower or "for the operator:" in lower:
        return text
    command = next((command for words, command in _COMMAND_HINTS if words in lower), "nanohost status")
    return lazy_gettext("{text} In this terminal that is you: {command}", text=lazy(text), command=lazy(command))


def _contains_path(text: str) -> bool:
    return "/" in text

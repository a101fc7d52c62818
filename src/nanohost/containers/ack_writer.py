"""Applies retry decisions to a session's inbound.db: closes messages, reschedules them, and collects notices.

Everything runs in one transaction of the caller's and can be repeated after a crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nanohost.containers.control_messages import deferred_answer
from nanohost.containers.model_backoff import backoff_notice, messages_to_notify
from nanohost.containers.notices import Notice
from nanohost.containers.retry_policy import CloseMessage, RetryDecision, RetryMessage
from nanohost.db.notice_numbers import FAILED_NOTICE, MODEL_HELD_NOTICE
from nanohost.db.turn_failures import TurnFailures
from nanohost.model import Session
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import Ack, ChatId, InKind, MessageIn


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedAcks:
    """The result of one update of inbound.db: when work is due next, the notices to send, the tries (message, number)
    that do not count, the closed and the retried messages. `of_tasks`: the closed messages that a task created."""

    due_at: datetime | None
    notices: Sequence[Notice]
    uncounted_attempts: Sequence[tuple[str, int]]
    closed: Sequence[tuple[Ack, CloseMessage]]
    retried: Sequence[tuple[Ack, RetryMessage]]
    of_tasks: frozenset[str]


def apply_decisions(
    box: InboundWriter,
    session: Session,
    decisions: Sequence[tuple[Ack, RetryDecision]],
    now: datetime,
    failures: TurnFailures | None,
) -> AppliedAcks:
    """Apply the decisions and the model's backoff. Of one turn each chat gets one notice, in reply to its last message.

    Returns what was applied.
    """
    notices: dict[tuple[str, ChatId], Notice] = {}
    uncounted: list[tuple[str, int]] = []
    closed: list[tuple[Ack, CloseMessage]] = []
    retried: list[tuple[Ack, RetryMessage]] = []
    of_tasks: set[str] = set()
    for ack, decision in decisions:
        message = _apply_decision(box, ack, decision, now)
        if message is None:
            continue
        match decision:
            case CloseMessage():
                closed.append((ack, decision))
                if message.kind is InKind.TASK:
                    of_tasks.add(message.id)
            case RetryMessage():
                retried.append((ack, decision))
                if not decision.is_counted:
                    uncounted.append((message.id, ack.tries))
        if (
            message.origin is not None
            and isinstance(decision, CloseMessage)
            and (answer := deferred_answer(message)) is not None
        ):
            notices[message.id, message.origin.chat] = Notice(message=message, number=0, text=answer)
        elif message.origin is not None and decision.notice:
            number = FAILED_NOTICE if isinstance(decision, CloseMessage) else message.tries
            earlier = notices.get((ack.turn_id, message.origin.chat))
            if earlier is None or earlier.message.seq < message.seq:
                notice = Notice(message=message, number=number, text=decision.notice)
                notices[ack.turn_id, message.origin.chat] = notice
    all_notices = [*notices.values(), *_apply_backoff(box, failures, now)]
    # The recorded cursor: the runner deletes acks up to it, and the caller has not recorded the new one yet.
    box.set_meta({"ack_cursor": str(session.ack_cursor)})
    return AppliedAcks(
        due_at=next_due(box, session, now),
        notices=all_notices,
        uncounted_attempts=uncounted,
        closed=closed,
        retried=retried,
        of_tasks=frozenset(of_tasks),
    )


def _apply_backoff(box: InboundWriter, failures: TurnFailures | None, now: datetime) -> list[Notice]:
    """Hold all messages while the model is in backoff, or release them. Returns the notices to send about it."""
    if failures is None or failures.held_until is None:
        box.release_hold()
        return []
    box.hold(failures.held_until)
    sentence = backoff_notice(failures, now)
    return [
        Notice(message=one, number=MODEL_HELD_NOTICE, text=sentence)
        for one in messages_to_notify(failures, box.latest_per_chat())
    ]


def notified_chats(notices: Sequence[Notice], number: int) -> set[ChatId]:
    return {one.message.origin.chat for one in notices if one.number == number and one.message.origin is not None}


def _apply_decision(box: InboundWriter, ack: Ack, decision: RetryDecision, now: datetime) -> MessageIn | None:
    """Apply one decision. Returns the message if the decision is valid for it, also if it was applied before."""
    message = box.find(ack.message_id)
    if message is None:
        return None
    if isinstance(decision, RetryMessage):
        # A control message does not wait: later messages would be answered before it is carried out.
        at = now if message.kind is InKind.CONTROL else decision.retry_at
        box.retry(message.id, tries=ack.tries, process_after=at)
        is_valid = message.status == "pending" and message.tries in (ack.tries, ack.tries + 1)
    else:
        # A failure of an earlier try must not close a later one: a lost claim may be processed more than once.
        is_latest = decision.status == "completed" or message.tries == ack.tries
        is_valid = message.status in ("pending", decision.status) and is_latest
        if is_latest:
            box.close(message.id, decision.status)
    return box.find(message.id) if is_valid else None


def stable_due(previous: datetime | None, found: datetime | None, now: datetime) -> datetime | None:
    """Returns `found`, or `previous` if both are due by `now`: a changed time would wake the sweep, which would process
    the acks again."""
    are_both_due = previous is not None and found is not None and previous <= now and found <= now
    return previous if are_both_due else found


def next_due(box: InboundWriter, session: Session, now: datetime) -> datetime | None:
    """Returns when the first message that triggers a turn is due; None if none waits. While the session has a lease,
    a message for a fresh container does not count."""
    return box.first_due(now, has_container=session.lease is not None)

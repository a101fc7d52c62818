"""Carries verdicts out in a session's inbound.db: what is closed, what is due again and when, and what is to be said.

All of it in one transaction of the caller's, and all of it can be done twice: what a crash cut short is found as it is.
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
    """What one update of inbound.db found: when work is due next, which notices to send, which tries (message, count)
    do not count, and which messages are closed, or tried again. `of_tasks`: the closed ones that a task made."""

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
    """Carry the verdicts out. One notice a turn and chat is enough: it answers the turn's last message there."""
    notices: dict[tuple[str, ChatId], Notice] = {}
    spared: list[tuple[str, int]] = []
    closed: list[tuple[Ack, CloseMessage]] = []
    retried: list[tuple[Ack, RetryMessage]] = []
    of_tasks: set[str] = set()
    for ack, judged in decisions:
        message = _apply_decision(box, ack, judged, now)
        if message is None:
            continue
        match judged:
            case CloseMessage():
                closed.append((ack, judged))
                if message.kind is InKind.TASK:
                    of_tasks.add(message.id)
            case RetryMessage():
                retried.append((ack, judged))
                if not judged.is_counted:
                    spared.append((message.id, ack.tries))
        if (
            message.origin is not None
            and isinstance(judged, CloseMessage)
            and (said := deferred_answer(message)) is not None
        ):
            notices[message.id, message.origin.chat] = Notice(message=message, number=0, text=said)
        elif message.origin is not None and judged.notice:
            number = FAILED_NOTICE if isinstance(judged, CloseMessage) else message.tries
            earlier = notices.get((ack.turn_id, message.origin.chat))
            if earlier is None or earlier.message.seq < message.seq:
                notice = Notice(message=message, number=number, text=judged.notice)
                notices[ack.turn_id, message.origin.chat] = notice
    to_say = [*notices.values(), *_apply_backoff(box, failures, now)]
    # The one on record: the runner deletes what this has passed, and the caller has yet to put the new one there.
    box.set_meta({"ack_cursor": str(session.ack_cursor)})
    return AppliedAcks(
        due_at=next_due(box, session, now),
        notices=to_say,
        uncounted_attempts=spared,
        closed=closed,
        retried=retried,
        of_tasks=frozenset(of_tasks),
    )


def _apply_backoff(box: InboundWriter, failures: TurnFailures | None, now: datetime) -> list[Notice]:
    """Have everything wait while the model cannot be asked, and go on when it can. Returns what is to be said of it."""
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
    """The message if the verdict holds for it, be it since now or since a try that a crash cut short."""
    message = box.find(ack.message_id)
    if message is None:
        return None
    match decision:
        case RetryMessage():
            # An order does not wait: what was written after it would be answered before it is obeyed.
            at = now if message.kind is InKind.CONTROL else decision.retry_at
            box.retry(message.id, tries=ack.tries, process_after=at)
            holds = message.status == "pending" and message.tries in (ack.tries, ack.tries + 1)
        case CloseMessage(status="completed"):
            box.close(message.id, decision.status)
            holds = message.status in ("pending", decision.status)
        case CloseMessage():
            # What is said of an earlier try does not end a later one: a claim of the dead is looked at more than once.
            holds = message.status in ("pending", decision.status) and message.tries == ack.tries
            if holds:
                box.close(message.id, decision.status)
    return box.find(message.id) if holds else None


def stable_due(previous: datetime | None, found: datetime | None, now: datetime) -> datetime | None:
    """`found`, but what was due and is due stays due since the same moment: a change would wake the sweep, which looks
    here again."""
    was_and_is = previous is not None and found is not None and previous <= now and found <= now
    return previous if was_and_is else found


def next_due(box: InboundWriter, session: Session, now: datetime) -> datetime | None:
    """When the first of the messages that wake an agent is due; None: nothing waits. One for a fresh container that
    was never taken is none for the container that lives."""
    return box.first_due(now, has_container=session.lease is not None)

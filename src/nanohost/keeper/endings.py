"""Carries verdicts out in a session's inbound.db: what is closed, what is due again and when, and what is to be said.

All of it in one transaction of the caller's, and all of it can be done twice: what a crash cut short is found as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from nanohost.keeper.holds import explained, to_tell
from nanohost.keeper.notices import Notice
from nanohost.keeper.orders import late_answer
from nanohost.keeper.verdict import Close, Retry, Verdict
from nanohost.model import Session
from nanohost.store.notice_numbers import GIVEN_UP, HELD
from nanohost.store.turn_failures import TurnFailures
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.rows import Ack, ChatId, InKind, MessageIn


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one update of inbound.db found: when work is due next, which notices to send, which tries (message, count)
    do not count, and which messages are closed, or tried again. `of_tasks`: the closed ones that a task made."""

    due_at: datetime | None
    notices: Sequence[Notice]
    spared: Sequence[tuple[str, int]]
    closed: Sequence[tuple[Ack, Close]]
    retried: Sequence[tuple[Ack, Retry]]
    of_tasks: frozenset[str]


def apply(
    box: InboundWriter,
    session: Session,
    verdicts: Sequence[tuple[Ack, Verdict]],
    now: datetime,
    failures: TurnFailures | None,
) -> Taken:
    """Carry the verdicts out. One notice a turn and chat is enough: it answers the turn's last message there."""
    notices: dict[tuple[str, ChatId], Notice] = {}
    spared: list[tuple[str, int]] = []
    closed: list[tuple[Ack, Close]] = []
    retried: list[tuple[Ack, Retry]] = []
    of_tasks: set[str] = set()
    for ack, judged in verdicts:
        message = _carry_out(box, ack, judged, now)
        if message is None:
            continue
        match judged:
            case Close():
                closed.append((ack, judged))
                if message.kind is InKind.TASK:
                    of_tasks.add(message.id)
            case Retry():
                retried.append((ack, judged))
                if not judged.counts:
                    spared.append((message.id, ack.tries))
        if message.origin is not None and isinstance(judged, Close) and (said := late_answer(message)) is not None:
            notices[message.id, message.origin.chat] = Notice(message=message, number=0, sentence=said)
        elif message.origin is not None and judged.notice:
            number = GIVEN_UP if isinstance(judged, Close) else message.tries
            earlier = notices.get((ack.turn_id, message.origin.chat))
            if earlier is None or earlier.message.seq < message.seq:
                notice = Notice(message=message, number=number, sentence=judged.notice)
                notices[ack.turn_id, message.origin.chat] = notice
    to_say = [*notices.values(), *_hold(box, failures, now)]
    # The one on record: the runner deletes what this has passed, and the caller has yet to put the new one there.
    box.set_meta({"ack_cursor": str(session.ack_cursor)})
    return Taken(
        due_at=next_due(box, session, now),
        notices=to_say,
        spared=spared,
        closed=closed,
        retried=retried,
        of_tasks=frozenset(of_tasks),
    )


def _hold(box: InboundWriter, failures: TurnFailures | None, now: datetime) -> list[Notice]:
    """Have everything wait while the model cannot be asked, and go on when it can. Returns what is to be said of it."""
    if failures is None or failures.until is None:
        box.unhold()
        return []
    box.hold(failures.until)
    sentence = explained(failures, now)
    return [Notice(message=one, number=HELD, sentence=sentence) for one in to_tell(failures, box.latest_of_chats())]


def chats_of(notices: Sequence[Notice], number: int) -> set[ChatId]:
    return {one.message.origin.chat for one in notices if one.number == number and one.message.origin is not None}


def _carry_out(box: InboundWriter, ack: Ack, judged: Verdict, now: datetime) -> MessageIn | None:
    """The message if the verdict holds for it, be it since now or since a try that a crash cut short."""
    message = box.find(ack.message_id)
    if message is None:
        return None
    match judged:
        case Retry():
            # An order does not wait: what was written after it would be answered before it is obeyed.
            at = now if message.kind is InKind.CONTROL else judged.at
            box.retry(message.id, tries=ack.tries, process_after=at)
            holds = message.status == "pending" and message.tries in (ack.tries, ack.tries + 1)
        case Close(status="completed"):
            box.close(message.id, judged.status)
            holds = message.status in ("pending", judged.status)
        case Close():
            # What is said of an earlier try does not end a later one: a claim of the dead is looked at more than once.
            holds = message.status in ("pending", judged.status) and message.tries == ack.tries
            if holds:
                box.close(message.id, judged.status)
    return box.find(message.id) if holds else None


def still_due(seen: datetime | None, found: datetime | None, now: datetime) -> datetime | None:
    """`found`, but what was due and is due stays due since the same moment: a change would wake the sweep, which looks
    here again."""
    was_and_is = seen is not None and found is not None and seen <= now and found <= now
    return seen if was_and_is else found


def next_due(box: InboundWriter, session: Session, now: datetime) -> datetime | None:
    """When the first of the messages that wake an agent is due; None: nothing waits. One for a fresh container that
    was never taken is none for the container that lives."""
    return box.first_due(now, has_container=session.lease is not None)

"""Processes answers to questions: decides who may answer and which answer counts, and replies to the others.

Promises: the first answer of somebody who may talk to the agent is the answer, and there is no second one. It is
recorded with its event before the session gets it: if this is repeated after a crash, that event is still the answer.
It goes to the session that asked, in whichever chat the question was, and to no other agent. An answer that is late or
not allowed changes nothing; its sender gets one reply per question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from nanohost.access.contacts import record_contact
from nanohost.access.decision import check_access
from nanohost.channel_api import EventKind
from nanohost.clock import Clock
from nanohost.db import (
    cards,
    deliveries,
    dropped,
    events,
    host_messages,
    messaging_groups,
    questions,
    roles,
    sessions,
    users,
    wirings,
)
from nanohost.db.database import Queries, Store, Transaction
from nanohost.db.deliveries import Delivery, DeliveryStatus
from nanohost.db.events import StoredEvent
from nanohost.db.questions import OpenQuestion, Question, QuestionStatus
from nanohost.model import MessagingGroup, SenderScope, Session, SessionId, SessionMode, Wiring
from nanohost.routing.engagement import denial_reason, should_engage
from nanohost.routing.patterns import PatternError
from nanohost.routing.typed_answer import is_same_conversation, match_typed_answer
from nanohost.text.quoting import MAX_NAME_CHARS, escape_inline
from nanohost.text.translation import _, gettext_noop
from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import ChatOut, EditOut, QuestionOut, decode_out, encode
from nanohost_protocol.rows import Origin, OutKind

NOT_ALLOWED_TO_ANSWER = gettext_noop("Only people who may talk to the agent here can answer this.")
QUESTION_CLOSED_TEXT = gettext_noop("Nobody waits for an answer to this any more.")
ALREADY_ANSWERED = "the question is answered already"
QUESTION_CLOSED = "the question is closed"

MAX_ANSWER_CHARS = 200
"""Characters of an answer that are quoted to people."""
QUESTION_TAIL_CHARS = 500
"""Characters kept from the end of a question that is longer than a message of its platform: roughly its last part."""
SEND_GRACE = timedelta(seconds=5)
"""The wait for the receipt of a question that people already see."""
_QUESTION_EDIT_SEQ_BASE = 2**62
"""Edits of question messages get negative numbers, below those of all notices."""


class Handled(Enum):
    """The event is handled, and no row is written."""

    HANDLED = auto()


HANDLED = Handled.HANDLED


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedAnswer:
    """An event of the chat `group` answers a question of `session`, and is routed there by `wiring`."""

    session: Session
    wiring: Wiring
    group: MessagingGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class _AnswerCandidate:
    """A question, and the answer that the event gives. `is_explicit`: see TypedAnswer."""

    question: Question
    text: str
    is_explicit: bool = True


class AnswerProcessor:
    """One per router."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def can_handle(self, stored: StoredEvent) -> bool:
        """Returns whether the event may be an answer. A message costs no query if no question was open."""
        if stored.event.kind is EventKind.MESSAGE and not stored.may_be_answer:
            return False
        return await self._find_candidate(stored) is not None

    async def process(self, stored: StoredEvent) -> AcceptedAnswer | Handled | None:
        """Records an answer, or tells its sender why it does not count.

        Returns None if the event is no answer; then nothing was changed.
        """
        found = await self._find_candidate(stored)
        group = await messaging_groups.find_by_chat(self._store, stored.chat)
        if found is None or group is None:
            return None
        question = found.question
        session = await sessions.get(self._store, question.session_id)
        wiring = await self._find_wiring(session, group)
        if wiring is None:
            return None
        taken = AcceptedAnswer(session=session, wiring=wiring, group=group)
        if question.event_id == stored.id:
            return taken
        is_press = stored.event.kind is EventKind.CLICK
        if not await events.is_new(self._store, stored.id):
            # Another event of its batch failed, and the whole batch is repeated: return the same result again.
            return HANDLED if is_press else None
        if (denied := await self._denial_reason(self._store, stored, group, wiring)) is not None:
            return await self._refuse(stored, session, question, denied, _(NOT_ALLOWED_TO_ANSWER)) if is_press else None
        if question.status is not QuestionStatus.OPEN:
            return await self._refuse_late(stored, session, question, found.text)
        if not found.is_explicit and not _would_engage(wiring, group, stored, question):
            return None
        return taken if await self._claim(stored, found, group, wiring) else await self.process(stored)

    async def find_answered_question(self, stored: StoredEvent) -> Question | None:
        """Returns the question that this event has answered, with the answer; None if there is none."""
        return await questions.find_by_answer_event(self._store, stored.id)

    async def _find_candidate(self, stored: StoredEvent) -> _AnswerCandidate | None:
        if stored.event.kind is EventKind.CLICK:
            return await self._find_pressed(stored)
        if stored.event.kind is not EventKind.MESSAGE:
            return None
        if (own := await self.find_answered_question(stored)) is not None:
            return _AnswerCandidate(question=own, text=own.answer or "")
        open_questions = await questions.list_open_in_chat(self._store, stored.chat)
        denied = await self._denied_sessions(stored, open_questions)
        typed = match_typed_answer(stored.event, open_questions, denied_sessions=denied)
        if typed is None:
            return None
        return _AnswerCandidate(question=typed.open_question.question, text=typed.text, is_explicit=typed.is_explicit)

    async def _denied_sessions(self, stored: StoredEvent, open_questions: Sequence[OpenQuestion]) -> set[SessionId]:
        """Returns the sessions with an open question in this conversation whose agents the sender may not talk to."""
        group = await messaging_groups.find_by_chat(self._store, stored.chat)
        if group is None:
            return set()
        denied = set[SessionId]()
        for id in {one.question.session_id for one in open_questions if is_same_conversation(stored.event, one)}:
            wiring = await self._find_wiring(await sessions.get(self._store, id), group)
            if wiring is None or await self._denial_reason(self._store, stored, group, wiring) is not None:
                denied.add(id)
        return denied

    async def _find_pressed(self, stored: StoredEvent) -> _AnswerCandidate | None:
        choice = await cards.find_choice(self._store, stored.event.value)
        if choice is None:
            return None
        queue = choice.card.queue
        question = await questions.find(self._store, queue.session_id, choice.card.seq)
        if question is None or question.chat != stored.chat:
            return None
        return _AnswerCandidate(question=question, text=choice.label)

    async def _find_wiring(self, session: Session, group: MessagingGroup) -> Wiring | None:
        """Returns the wiring of the asking agent in this chat, else in the chat of the session that asks."""
        here = [one for one in await wirings.list_for_chat(self._store, group.id) if _is_same_agent_group(one, session)]
        if here:
            return here[0]
        if session.messaging_group_id is not None:
            there = await wirings.list_for_chat(self._store, session.messaging_group_id)
        else:
            there = [one for one in await wirings.list_all(self._store) if one.session_mode is SessionMode.AGENT_SHARED]
        return next((one for one in there if _is_same_agent_group(one, session)), None)

    async def _denial_reason(
        self, db: Queries, stored: StoredEvent, group: MessagingGroup, wiring: Wiring
    ) -> str | None:
        """Returns why the sender may not answer, by the rules of the event's chat; None if they may."""
        scope = wiring.sender_scope if wiring.messaging_group_id == group.id else SenderScope.ALL
        grants = await roles.list_for_user(db, stored.user_id)
        access = check_access(grants, group.unknown_sender, wiring.agent_group_id, scope)
        return None if access.is_allowed else denial_reason(access)

    async def _claim(
        self, stored: StoredEvent, candidate: _AnswerCandidate, group: MessagingGroup, wiring: Wiring
    ) -> bool:
        """Records the answer; returns False if the question is no longer open, or the sender no longer allowed."""
        now, question = self._clock.now(), candidate.question
        async with self._store.transaction() as tx:
            if await self._denial_reason(tx, stored, group, wiring) is not None:
                return False
            won = await questions.claim(
                tx, question, answer=candidate.text, user=stored.user_id, event=stored.id, now=now
            )
            if not won:
                return False
            await record_contact(tx, stored, now)
            delivery = await deliveries.find(tx, question.session_id, question.seq)
            if delivery is not None:
                await deliveries.add(
                    tx, _answered_edit(delivery, candidate.text, answered_by=_sender_name(stored), now=now)
                )
        crash_point("answers.claimed")
        return True

    async def _refuse_late(self, stored: StoredEvent, session: Session, question: Question, answer: str) -> Handled:
        if question.status is QuestionStatus.CLOSED:
            return await self._refuse(stored, session, question, QUESTION_CLOSED, _(QUESTION_CLOSED_TEXT))
        if (question.answered_by, question.answer) == (stored.user_id, answer):
            return await self._refuse(stored, session, question, ALREADY_ANSWERED, None)
        by = await users.find(self._store, question.answered_by or "")
        name = escape_inline(by.name, limit=MAX_NAME_CHARS) if by else ""
        answered = escape_inline(question.answer or "", limit=MAX_ANSWER_CHARS)
        sentence = _("{person} answered already: {answer}", person=name or _("Somebody"), answer=answered)
        return await self._refuse(stored, session, question, ALREADY_ANSWERED, sentence)

    async def _refuse(
        self, stored: StoredEvent, session: Session, question: Question, reason: str, reply: str | None
    ) -> Handled:
        now = self._clock.now()
        async with self._store.transaction() as tx:
            await events.mark_dropped(tx, stored.id, reason)
            await dropped.record(tx, stored.chat, stored.user_id, reason, now=now, agent_group=session.group_folder)
            if reply is not None:
                await _reply_once(tx, stored, question, reply, now)
        return HANDLED


async def _reply_once(tx: Transaction, stored: StoredEvent, question: Question, text: str, now: datetime) -> Delivery:
    """Replies once per person and question, whatever the reason: further presses get no reply."""
    chat = question.chat
    place = Origin(
        channel_type=chat.channel_type,
        instance=chat.instance,
        platform_id=chat.platform_id,
        thread_id=question.thread_id,
        platform_message_id=stored.event.refers_to,
    )
    out_id = derive_id("h", "answer", question.session_id, str(question.seq), stored.user_id)
    return await host_messages.enqueue(tx, place, ChatOut(text=text), out_id=out_id, now=now)


def _is_same_agent_group(wiring: Wiring, session: Session) -> bool:
    return wiring.agent_group_id == session.agent_group_id


def _would_engage(wiring: Wiring, group: MessagingGroup, stored: StoredEvent, question: Question) -> bool:
    """Returns whether the agent would engage in the event without the question, in the question's thread."""
    is_there = stored.event.thread_id == question.thread_id
    try:
        return wiring.messaging_group_id == group.id and should_engage(wiring, stored.event, has_session=is_there)
    except PatternError:
        return False


def _answered_edit(question_delivery: Delivery, answer: str, *, answered_by: str, now: datetime) -> Delivery:
    """Returns an edit of the question's message: with the answer, without the buttons.

    A channel that cannot edit messages leaves it out.
    """
    payload = decode_out(OutKind.QUESTION, question_delivery.content)
    assert isinstance(payload, QuestionOut), "it is a question"
    text = payload.text if len(question_delivery.receipt) < 2 else f"…{payload.text[-QUESTION_TAIL_CHARS:]}"
    shown = escape_inline(answer, limit=MAX_ANSWER_CHARS)
    text = f"{text}\n\n{_('Answered by {person}: {answer}', person=answered_by, answer=shown)}"
    is_sent = question_delivery.status is DeliveryStatus.SENT
    return replace(
        question_delivery,
        seq=-(_QUESTION_EDIT_SEQ_BASE + question_delivery.seq),
        out_id=derive_id("n", question_delivery.queue.session_id, "question", str(question_delivery.seq)),
        kind=OutKind.EDIT,
        reply_to=None,
        content=encode(EditOut(message=question_delivery.seq, text=text)),
        status=DeliveryStatus.PENDING,
        created_at=now,
        not_before=None if is_sent else now + SEND_GRACE,
        attempts=0,
        attempts_before_resend=0,
        next_attempt_at=None,
        reason=None,
        decision=None,
        receipt=(),
    )


def _sender_name(stored: StoredEvent) -> str:
    sender = stored.event.sender
    return escape_inline(sender.name, limit=MAX_NAME_CHARS) or escape_inline(sender.handle, limit=MAX_NAME_CHARS)

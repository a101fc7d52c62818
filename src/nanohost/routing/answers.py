"""Answers to questions of agents: who may answer, which answer counts, and what people are told of it.

Promises: the first answer of somebody who may talk to the agent is the answer, and there is no second one. It is on
record before the session has it, with the event that it came in: done again after a crash, that event is the answer
still. It goes to the session that asked, wherever it was asked, and to no other agent. Whoever comes too late, or may
not answer, changes nothing and reads one sentence a question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from nanohost.access.acquaintance import meet
from nanohost.access.decision import may_talk
from nanohost.channel_api import EventKind
from nanohost.clock import Clock
from nanohost.model import MessagingGroup, SenderScope, Session, SessionId, SessionMode, Wiring
from nanohost.patterns import PatternError
from nanohost.quoting import LONGEST_NAME, plain
from nanohost.routing.consider import why_denied
from nanohost.routing.engage import engages
from nanohost.routing.typed_answer import is_beside, typed_answer
from nanohost.store import (
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
from nanohost.store.database import Queries, Store, Transaction
from nanohost.store.deliveries import Delivery, DeliveryStatus
from nanohost.store.events import StoredEvent
from nanohost.store.questions import Asked, Question, QuestionStatus
from nanohost_protocol.crash_points import reach
from nanohost_protocol.ids import derive
from nanohost_protocol.payloads import ChatOut, EditOut, QuestionOut, decode_out, encode
from nanohost_protocol.rows import Origin, OutKind

NOT_THEIRS = "Only people who may talk to the agent here can answer this."
CLOSED = "Nobody waits for an answer to this any more."
TOO_LATE = "the question is answered already"
IS_CLOSED = "the question is closed"

LONGEST_SHOWN = 200
"""Characters of an answer that people are shown again."""
TAIL = 500
"""Characters of a question that is longer than its platform takes: its last message ends with about these."""
SETTLES_WITHIN = timedelta(seconds=5)
"""For a question that people see and whose sending is not on record yet."""
_OF_QUESTIONS = 2**62
"""Below zero, and below the numbers of all notices: what becomes of the messages of questions."""


class Settled(Enum):
    """The event is dealt with, and nothing is to be written."""

    SETTLED = auto()


SETTLED = Settled.SETTLED


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The event, of the chat `group`, is the answer to a question of this session. `wiring` brings it there."""

    session: Session
    wiring: Wiring
    group: MessagingGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A question, and what the event would answer. `is_meant`: see TypedAnswer."""

    question: Question
    text: str
    is_meant: bool = True


class Answers:
    """One per router."""

    def __init__(self, *, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def wants(self, stored: StoredEvent) -> bool:
        """Whether the event may be an answer. One indexed look-up for a message where no question is open."""
        is_message = stored.event.kind is EventKind.MESSAGE
        if is_message and not await questions.may_concern(self._store, stored.id, stored.chat):
            return False
        return await self._find(stored) is not None

    async def take(self, stored: StoredEvent) -> Taken | Settled | None:
        """Put an answer on record, or tell its sender why it is none. None: nothing was done, it is like any other
        event."""
        found = await self._find(stored)
        group = await messaging_groups.of_chat(self._store, stored.chat)
        if found is None or group is None:
            return None
        question = found.question
        session = await sessions.get(self._store, question.session_id)
        wiring = await self._wiring(session, group)
        if wiring is None:
            return None
        taken = Taken(session=session, wiring=wiring, group=group)
        if question.event_id == stored.id:
            return taken
        is_press = stored.event.kind is EventKind.CLICK
        if not await events.is_new(self._store, stored.id):
            # What came with it in a batch failed, and all of the batch is done again: as it was.
            return SETTLED if is_press else None
        if (denied := await self._denied(self._store, stored, group, wiring)) is not None:
            return await self._refuse(stored, session, question, denied, NOT_THEIRS) if is_press else None
        if question.status is not QuestionStatus.OPEN:
            return await self._too_late(stored, session, question, found.text)
        if not found.is_meant and not _would_hear(wiring, group, stored, question):
            return None
        return taken if await self._claim(stored, found, group, wiring) else await self.take(stored)

    async def answered_by(self, stored: StoredEvent) -> Question | None:
        """The question that this event is the answer to, with the answer."""
        return await questions.answered_by_event(self._store, stored.id)

    async def _find(self, stored: StoredEvent) -> _Found | None:
        if stored.event.kind is EventKind.CLICK:
            return await self._pressed(stored)
        if stored.event.kind is not EventKind.MESSAGE:
            return None
        if (own := await self.answered_by(stored)) is not None:
            return _Found(question=own, text=own.answer or "")
        asked = await questions.open_in_chat(self._store, stored.chat)
        typed = typed_answer(stored.event, asked, deaf=await self._deaf(stored, asked))
        if typed is None:
            return None
        return _Found(question=typed.asked.question, text=typed.text, is_meant=typed.is_meant)

    async def _deaf(self, stored: StoredEvent, asked: Sequence[Asked]) -> set[SessionId]:
        """Of the sessions that ask in this conversation, those whose agents may not hear the sender."""
        group = await messaging_groups.of_chat(self._store, stored.chat)
        if group is None:
            return set()
        deaf = set[SessionId]()
        for id in {one.question.session_id for one in asked if is_beside(stored.event, one)}:
            wiring = await self._wiring(await sessions.get(self._store, id), group)
            if wiring is None or await self._denied(self._store, stored, group, wiring) is not None:
                deaf.add(id)
        return deaf

    async def _pressed(self, stored: StoredEvent) -> _Found | None:
        choice = await cards.chosen(self._store, stored.event.value)
        if choice is None:
            return None
        lane = choice.card.lane
        question = await questions.find(self._store, lane.session_id, choice.card.seq)
        if question is None or question.chat != stored.chat:
            return None
        return _Found(question=question, text=choice.label)

    async def _wiring(self, session: Session, group: MessagingGroup) -> Wiring | None:
        """By which the asking agent is in this chat; elsewhere, by which it is in the conversation it asks from."""
        here = [one for one in await wirings.of_chat(self._store, group.id) if _is_agents(one, session)]
        if here:
            return here[0]
        if session.messaging_group_id is not None:
            there = await wirings.of_chat(self._store, session.messaging_group_id)
        else:
            there = [one for one in await wirings.every(self._store) if one.session_mode is SessionMode.AGENT_SHARED]
        return next((one for one in there if _is_agents(one, session)), None)

    async def _denied(self, db: Queries, stored: StoredEvent, group: MessagingGroup, wiring: Wiring) -> str | None:
        """Judged for the chat that it comes from."""
        scope = wiring.sender_scope if wiring.messaging_group_id == group.id else SenderScope.ALL
        grants = await roles.of_user(db, stored.user)
        access = may_talk(grants, group.unknown_sender, wiring.agent_group_id, scope)
        return None if access.allowed else why_denied(access)

    async def _claim(self, stored: StoredEvent, found: _Found, group: MessagingGroup, wiring: Wiring) -> bool:
        """False: it is answered or closed, or they may not talk to the agent any more."""
        now, question = self._clock.now(), found.question
        async with self._store.transaction() as tx:
            if await self._denied(tx, stored, group, wiring) is not None:
                return False
            won = await questions.claim(tx, question, answer=found.text, user=stored.user, event=stored.id, now=now)
            if not won:
                return False
            await meet(tx, stored, now)
            asked = await deliveries.find(tx, question.session_id, question.seq)
            if asked is not None:
                await deliveries.add(tx, _shown(asked, found.text, by=_name(stored), now=now))
        reach("answers.claimed")
        return True

    async def _too_late(self, stored: StoredEvent, session: Session, question: Question, text: str) -> Settled:
        if question.status is QuestionStatus.CLOSED:
            return await self._refuse(stored, session, question, IS_CLOSED, CLOSED)
        if (question.answered_by, question.answer) == (stored.user, text):
            return await self._refuse(stored, session, question, TOO_LATE, None)
        by = await users.find(self._store, question.answered_by or "")
        name = plain(by.name, limit=LONGEST_NAME) if by else ""
        sentence = f"{name or 'Somebody'} answered already: {plain(question.answer or '', limit=LONGEST_SHOWN)}"
        return await self._refuse(stored, session, question, TOO_LATE, sentence)

    async def _refuse(
        self, stored: StoredEvent, session: Session, question: Question, reason: str, sentence: str | None
    ) -> Settled:
        now = self._clock.now()
        async with self._store.transaction() as tx:
            await events.mark_dropped(tx, stored.id, reason)
            await dropped.count(tx, stored.chat, stored.user, reason, now=now, agent_group=session.group_folder)
            if sentence is not None:
                await _tell(tx, stored, question, sentence, now)
        return SETTLED


async def _tell(tx: Transaction, stored: StoredEvent, question: Question, sentence: str, now: datetime) -> Delivery:
    """Once a person and question, whatever the reason: pressing on changes nothing and says nothing."""
    chat = question.chat
    place = Origin(
        channel_type=chat.channel_type,
        instance=chat.instance,
        platform_id=chat.platform_id,
        thread_id=question.thread_id,
        platform_message_id=stored.event.refers_to,
    )
    out_id = derive("h", "answer", question.session_id, str(question.seq), stored.user)
    return await host_messages.say(tx, place, ChatOut(text=sentence), out_id=out_id, now=now)


def _is_agents(wiring: Wiring, session: Session) -> bool:
    return wiring.agent_group_id == session.agent_group_id


def _would_hear(wiring: Wiring, group: MessagingGroup, stored: StoredEvent, question: Question) -> bool:
    """Whether the agent would be told of this, if it asked nothing. It is in the thread that it asked in."""
    is_there = stored.event.thread_id == question.thread_id
    try:
        return wiring.messaging_group_id == group.id and engages(wiring, stored.event, has_session=is_there)
    except PatternError:
        return False


def _shown(asked: Delivery, answer: str, *, by: str, now: datetime) -> Delivery:
    """A new text for the question's message, without its buttons. Where messages cannot be changed it is left out."""
    payload = decode_out(OutKind.QUESTION, asked.content)
    assert isinstance(payload, QuestionOut), "it is a question"
    text = payload.text if len(asked.receipt) < 2 else f"…{payload.text[-TAIL:]}"
    text = f"{text}\n\nAnswered by {by}: {plain(answer, limit=LONGEST_SHOWN)}"
    is_sent = asked.status is DeliveryStatus.SENT
    return replace(
        asked,
        seq=-(_OF_QUESTIONS + asked.seq),
        out_id=derive("n", asked.lane.session_id, "question", str(asked.seq)),
        kind=OutKind.EDIT,
        reply_to=None,
        content=encode(EditOut(message=asked.seq, text=text)),
        status=DeliveryStatus.PENDING,
        created_at=now,
        not_before=None if is_sent else now + SETTLES_WITHIN,
        attempts=0,
        tries_from=0,
        next_try_at=None,
        reason=None,
        decision=None,
        receipt=(),
    )


def _name(stored: StoredEvent) -> str:
    sender = stored.event.sender
    return plain(sender.name, limit=LONGEST_NAME) or plain(sender.handle, limit=LONGEST_NAME)

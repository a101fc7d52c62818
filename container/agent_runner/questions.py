"""Tracks the questions of the running turn to which tool calls await an answer.

The turn reports what arrives: an answer goes to the call that awaits it, and any other message for the agent ends the
wait, so that nobody is delayed by a question. So does the report that the question was not delivered. Promises: a wait
ends with the turn at the latest, and an answer is either given to a call or refused, never lost. All state that must
survive is in the files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto

from agent_runner.prompt import decode_row
from nanohost_protocol.payloads import ChatIn
from nanohost_protocol.rows import InKind, MessageIn


@dataclass(frozen=True, slots=True, kw_only=True)
class UserAnswer:
    """A person's answer: its text, and the number of its message."""

    text: str
    sender: str
    number: int


class NoAnswerReason(Enum):
    """Why a call returns without an answer."""

    NOT_YET = auto()
    UNDELIVERED = auto()
    """The question was not delivered: it was refused, or the platform failed later."""
    INTERRUPTED = auto()
    """Another message for the agent arrived."""
    TURN_ENDED = auto()
    """The turn has ended."""


AnswerOutcome = UserAnswer | NoAnswerReason


class PendingQuestions:
    """The awaited questions of one turn. `on_wait` makes the turn poll at once: the answer may have arrived already."""

    def __init__(self, on_wait: Callable[[], None] = lambda: None) -> None:
        self._on_wait = on_wait
        self._open: dict[str, asyncio.Future[AnswerOutcome]] = {}
        self._has_new = False
        self._is_closed = False

    @property
    def has_open(self) -> bool:
        """Whether a call waits for a person."""
        return bool(self._open)

    @property
    def open_ids(self) -> frozenset[str]:
        """The ids of the questions to which a call awaits an answer."""
        return frozenset(self._open)

    def take_has_new(self) -> bool:
        """Returns whether there was a new question since the last call; in a retried turn it may be answered."""
        unseen, self._has_new = self._has_new, False
        return unseen

    async def wait(self, question: str, seconds: float) -> AnswerOutcome:
        """Waits for the answer to the row with this id; returns it, or why there is none. Zero seconds: do not wait."""
        if seconds <= 0:
            return NoAnswerReason.NOT_YET
        if self._is_closed:
            return NoAnswerReason.TURN_ENDED
        future = self._open[question] = asyncio.get_running_loop().create_future()
        self._has_new = True
        self._on_wait()
        try:
            # Not `asyncio.timeout`: it would lose an answer that arrives at the same moment.
            await asyncio.wait({future}, timeout=seconds)
            return future.result() if future.done() else NoAnswerReason.NOT_YET
        finally:
            del self._open[question]

    def is_awaited_answer(self, row: MessageIn) -> bool:
        """Returns whether the row is an answer that a call waits for."""
        return answered_question_id(row) in self._open

    def deliver_answer(self, row: MessageIn) -> bool:
        """Gives an answer to the call that waits for it. Returns False if it waits no longer."""
        return self._resolve(self._open.get(answered_question_id(row) or ""), parse_answer(row))

    def mark_undelivered(self, questions: Iterable[str]) -> None:
        """Ends the waits for these questions, because they were not delivered."""
        for question in questions:
            self._resolve(self._open.get(question), NoAnswerReason.UNDELIVERED)

    def interrupt_for(self, rows: Iterable[MessageIn]) -> None:
        """Ends all waits if one of these rows is for the agent from a person. Notes of the host do not end them."""
        if any(row.trigger and row.kind is not InKind.SYSTEM for row in rows):
            self.interrupt()

    def interrupt(self) -> None:
        """Ends all waits, because something needs the agent or the end of this turn."""
        self._resolve_all(NoAnswerReason.INTERRUPTED)

    def close(self) -> None:
        """Ends all waits and refuses new ones, because the turn is over."""
        self._is_closed = True
        self._resolve_all(NoAnswerReason.TURN_ENDED)

    def _resolve_all(self, outcome: NoAnswerReason) -> None:
        for future in self._open.values():
            self._resolve(future, outcome)

    def _resolve(self, future: asyncio.Future[AnswerOutcome] | None, outcome: AnswerOutcome) -> bool:
        if future is None or future.done():
            return False
        future.set_result(outcome)
        return True


def answered_question_id(row: MessageIn) -> str | None:
    """Returns the id of the agent's row that this row answers; None if it answers none."""
    payload = decode_row(row).payload if row.kind is InKind.CHAT else None
    return payload.answers if isinstance(payload, ChatIn) else None


def parse_answer(row: MessageIn) -> UserAnswer:
    """Returns the content of an answer."""
    decoded = decode_row(row)
    sender = decoded.payload.sender if isinstance(decoded.payload, ChatIn) else ""
    return UserAnswer(text=decoded.text, sender=sender, number=row.seq)

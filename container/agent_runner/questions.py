"""The questions that calls of the agent are waiting for an answer to, in the turn that runs.

The turn says what came in: an answer goes to the call that waits for it, and anything else that is for the agent ends
the waiting, so that nobody is kept behind a question. So does the word that the question reached nobody. Promises that
a wait ends, at the latest with the turn; and that an answer is either given to a call or refused, never lost in
between. Nothing here is kept: the files hold it all.
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
    """Somebody answered: what they said, and the number of the message that says it."""

    text: str
    sender: str
    number: int


class NoAnswerReason(Enum):
    """Why a call comes back without an answer."""

    NOT_YET = auto()
    UNDELIVERED = auto()
    """The question reached nobody: it was refused, or the platform gave up on it later."""
    INTERRUPTED = auto()
    """Something else came that is for the agent."""
    TURN_ENDED = auto()
    """The turn has ended."""


AnswerOutcome = UserAnswer | NoAnswerReason


class PendingQuestions:
    """Those of one turn. `on_wait` makes the turn look for news at once: the answer may be there already."""

    def __init__(self, on_wait: Callable[[], None] = lambda: None) -> None:
        self._on_wait = on_wait
        self._open: dict[str, asyncio.Future[AnswerOutcome]] = {}
        self._has_new = False
        self._is_closed = False

    @property
    def has_open(self) -> bool:
        """Whether a person is waited for."""
        return bool(self._open)

    @property
    def open_ids(self) -> frozenset[str]:
        """Ids of the questions that a call waits for an answer to."""
        return frozenset(self._open)

    def take_has_new(self) -> bool:
        """Was there a question since the last call? Its answer may have come before it was asked again."""
        unseen, self._has_new = self._has_new, False
        return unseen

    async def wait(self, question: str, seconds: float) -> AnswerOutcome:
        """The answer to the row with this id, or why there is none. Zero seconds: only ask."""
        if seconds <= 0:
            return NoAnswerReason.NOT_YET
        if self._is_closed:
            return NoAnswerReason.TURN_ENDED
        future = self._open[question] = asyncio.get_running_loop().create_future()
        self._has_new = True
        self._on_wait()
        try:
            # Not `timeout`: it would throw an answer away that comes in the same moment.
            await asyncio.wait({future}, timeout=seconds)
            return future.result() if future.done() else NoAnswerReason.NOT_YET
        finally:
            del self._open[question]

    def is_awaited_answer(self, row: MessageIn) -> bool:
        """Whether the row is an answer, and a call waits for it."""
        return answered_question_id(row) in self._open

    def deliver_answer(self, row: MessageIn) -> bool:
        """Give an answer to the call that waits for it. False if it waits no longer."""
        return self._resolve(self._open.get(answered_question_id(row) or ""), parse_answer(row))

    def mark_undelivered(self, questions: Iterable[str]) -> None:
        """These reached nobody: there is nothing to wait for."""
        for question in questions:
            self._resolve(self._open.get(question), NoAnswerReason.UNDELIVERED)

    def interrupt_for(self, rows: Iterable[MessageIn]) -> None:
        """These came for the agent: nobody is to wait behind a question. A note of the host keeps nobody waiting."""
        if any(row.trigger and row.kind is not InKind.SYSTEM for row in rows):
            self.interrupt()

    def interrupt(self) -> None:
        """Something waits that needs the agent, or the end of this turn."""
        self._resolve_all(NoAnswerReason.INTERRUPTED)

    def close(self) -> None:
        """The turn is over: nobody waits any more, nor begins to."""
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
    """The id of the agent's row that this row answers, if it answers one."""
    payload = decode_row(row).payload if row.kind is InKind.CHAT else None
    return payload.answers if isinstance(payload, ChatIn) else None


def parse_answer(row: MessageIn) -> UserAnswer:
    """What an answer says."""
    said = decode_row(row)
    sender = said.payload.sender if isinstance(said.payload, ChatIn) else ""
    return UserAnswer(text=said.text, sender=sender, number=row.seq)

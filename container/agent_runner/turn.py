"""One run of the agent over one batch.

It hands prompts to the provider, takes what it says, and ends in one transaction: messages, acks and state together.
Promises: a claim is closed only when the turn that contains it has ended; a turn that failed sends nothing of its
answer, save what it had said when it reached a limit, and is never completed; a turn that is interrupted is given back
whole; one that a person stops is over, and sends nothing more.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from agent_runner.commands import command_in
from agent_runner.conversation import Conversation
from agent_runner.destinations import Origin, Unreachable
from agent_runner.failures import TOO_MUCH, Failure, failure_of
from agent_runner.log import log
from agent_runner.mailbox import Begun, Mailbox, News
from agent_runner.outbox import Now, Outbox
from agent_runner.progress import Progress
from agent_runner.prompt import Prompt, View, batch_prompt, carried_over, correction, decoded, system_prompt
from agent_runner.providers import (
    Answer,
    ConversationKnown,
    Finished,
    Provider,
    Text,
    ToolEnded,
    ToolStarted,
    TurnEvent,
)
from agent_runner.questions import Questions
from agent_runner.reply import Block, parse
from agent_runner.signals import Signals
from nanohost_protocol.crash_points import reach
from nanohost_protocol.outbound import TurnEnd
from nanohost_protocol.payloads import CLEAR, STOP, ControlIn
from nanohost_protocol.rows import ErrorClass, MessageIn, NewMessageOut, Usage

CORRECTIONS = 2
"""How often an agent is told in one turn that something it wrote reached nobody."""
INTERRUPT_WITHIN_S = 1.0
BEGUN_AFRESH = (
    "My model refused to go on with our conversation because of something in it, such as a picture, so I have begun a"
    " new one. I still have what was said, in words, but not pictures, files and what I had looked up."
)
OUTGROWN = (
    "Our conversation had become too large for my model, so I have begun a new one. I still have what was said last, in"
    " words, but not pictures, files and what I had looked up."
)
ENDS_CONVERSATION = {ErrorClass.CONTEXT_FULL, ErrorClass.INVALID_SESSION}
"""After these the same conversation would fail for ever; the next try starts a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every turn of a runner's life works with."""

    mailbox: Mailbox
    conversation: Conversation
    signals: Signals
    progress: Progress
    now: Now
    poll_interval_s: float


@dataclass(frozen=True, slots=True)
class _HandedOver:
    """The provider has the first prompt."""


@dataclass(frozen=True, slots=True)
class _Stopped:
    """A person wants no answer any more. The rows that say so are dealt with once the turn is over."""


_End = Finished | _Stopped | None
"""How a turn ends; None: the runner is to stop, and the turn is given back."""


class Turn:
    """`run` once, then throw it away."""

    def __init__(
        self, *, bench: Bench, news: News, begun: Begun, view: View, outbox: Outbox, questions: Questions
    ) -> None:
        assert news.batch is not None, "a turn has a batch"
        self._bench = bench
        self._batch = news.batch
        self._attempt = begun.attempt
        self._view = view
        self._outbox = outbox
        self._questions = questions
        self._system_prompt = system_prompt(news.book, news.meta.get("agent_name", "the assistant"))
        self._prompts = [self._first_prompt(news, begun)]
        self._answered = 0
        self._texts: list[Text | Answer] = []
        self._messages: list[NewMessageOut] = []
        self._corrections = 0
        self._usage = Usage()
        self._memory: dict[str, str] | None = None
        self._fresh_start = False
        self._resumed = False
        """There was a conversation before this turn."""
        self._refused: str | None = None
        """The conversation that the model would not go on with."""
        self._begun_afresh = ""
        """What the person is told of that, if the new one answers."""
        self._unkept = False
        self._events: deque[TurnEvent | _HandedOver] = deque()
        self._handed_over = False
        self._unseen = False
        """Follow-ups were there before the provider could take them."""
        outbox.hear(self._batch.messages)

    def _first_prompt(self, news: News, begun: Begun) -> Prompt:
        rows, attempt = self._batch.messages, begun.attempt
        command = command_in(rows[0]) if len(rows) == 1 else None
        if command is not None:
            return Prompt(text=command, messages=(decoded(rows[0]),), attempt=attempt, is_command=True)
        return batch_prompt(rows, self._view, about=news.about, asked=news.asked, attempt=attempt, said=begun.said)

    async def run(self) -> None:
        """Run to the end, or until the runner is to stop: then the turn is given back."""
        self._bench.progress.turn(self._batch.turn_id, self._bench.now())
        try:
            end = await self._until_finished()
        finally:
            self._let_nothing_out()
            self._bench.progress.idle()
        match end:
            case Finished():
                await self._finish(end.failure)
            case _Stopped():
                self._messages, self._refused = [], None
                await self._finish(None)
            case None:
                if self._refused is not None:
                    await self._bench.conversation.known(self._refused)  # the next try is to see for itself
                await self._bench.mailbox.release(self._batch.turn_id, self._bench.now())

    def _let_nothing_out(self) -> None:
        """It is over, also for a call that is still under way."""
        self._questions.close()
        self._outbox.close()

    async def _until_finished(self) -> _End:
        """What ends the turn. A conversation that is lost, or that the model refuses for what it holds, is begun
        afresh once."""
        while True:
            finished = await self._attempted()
            said = self._refused_history(finished)
            if said is not None:
                log("conversation_refused", turn=self._batch.turn_id, carried_over=len(said), detail=_detail(finished))
                self._refused = self._bench.conversation.id
                self._begun_afresh = OUTGROWN if _is_full(finished) else BEGUN_AFRESH
            elif self._is_stale(finished):
                log("conversation_lost", turn=self._batch.turn_id)
            else:
                return finished
            await self._bench.conversation.forget()
            self._fresh_start = True
            self._start_over(said or "")

    def _tell_of_new_conversation(self) -> None:
        """Said once, where it is answered: the next turn goes on with the new conversation."""
        origin = self._outbox.origin()
        said = self._outbox.answer(Block(text=self._begun_afresh), origin)
        if isinstance(said, NewMessageOut):
            self._messages.insert(0, said)

    def _is_stale(self, end: _End) -> bool:
        failure = end.failure if isinstance(end, Finished) else None
        return failure is not None and failure.error_class is ErrorClass.INVALID_SESSION and not self._fresh_start

    def _refused_history(self, end: _End) -> str | None:
        """What was said before this turn, if that is to be carried over into a new conversation; else None."""
        failure = end.failure if isinstance(end, Finished) else None
        if failure is None or failure.history is None or self._fresh_start or not self._resumed:
            return None
        if self._prompts[0].is_command:
            return None
        before = failure.history
        for prompt in self._prompts:  # asked again anyway
            before = before.replace(prompt.text, "")
        return before

    def _start_over(self, said: str) -> None:
        """One prompt out of all that was pushed, below what was said before: the new conversation has seen none of
        it."""
        if len(self._prompts) > 1 or said:
            messages = tuple(message for prompt in self._prompts for message in prompt.messages)
            text = "\n".join([*([carried_over(said)] if said else []), *(prompt.text for prompt in self._prompts)])
            self._prompts = [Prompt(text=text, messages=messages, attempt=self._attempt)]
        self._answered, self._texts, self._messages = 0, [], []
        self._outbox.begin_afresh()

    async def _attempted(self) -> _End:
        self._events.clear()
        self._handed_over = False
        try:
            provider = await self._bench.conversation.provider(self._system_prompt)
        except Exception as error:
            return Finished(prompts=0, failure=failure_of(error))
        self._resumed = self._bench.conversation.id is not None
        pump = asyncio.create_task(self._pump(provider), name="provider events")
        try:
            return await self._consume(provider)
        finally:
            pump.cancel()
            with suppress(asyncio.CancelledError):
                await pump

    async def _pump(self, provider: Provider) -> None:
        """Move events from the provider to where the turn waits for everything. Whatever it raises is an event."""
        try:
            await provider.begin(self._prompts[0])
            self._events.append(_HandedOver())
            self._bench.signals.stir()
            async for event in provider.events():
                self._events.append(event)
                self._bench.signals.stir()
            failure = Failure(error_class=ErrorClass.TRANSIENT, detail="the provider ended in the middle of a turn")
        except Exception as error:
            failure = failure_of(error)
        self._events.append(Finished(prompts=0, failure=failure))
        self._bench.signals.stir()

    async def _consume(self, provider: Provider) -> _End:
        signals, interval_s = self._bench.signals, self._bench.poll_interval_s
        next_look = time.monotonic() + interval_s
        while True:
            await signals.wait(next_look - time.monotonic())
            while self._events:
                finished = await self._take(self._events.popleft(), provider)
                if finished is not None:
                    return finished
            if signals.stopping:
                await _interrupt(provider)
                return None
            looks = time.monotonic() >= next_look
            if (signals.take_wake() or looks) and (stopped := await self._look(provider)) is not None:
                self._let_nothing_out()  # a provider may take a second to listen
                await _interrupt(provider)
                return stopped
            if looks:
                next_look = time.monotonic() + interval_s
                self._bench.progress.asking(self._questions.are_open, self._bench.now())
                await self._bench.progress.write()

    async def _take(self, event: TurnEvent | _HandedOver, provider: Provider) -> Finished | None:
        """Deal with one event; the one that ends the turn is returned."""
        match event:
            case _HandedOver():
                self._handed_over = True
                reach("runner.asked")
            case ConversationKnown(id=known):
                await self._bench.conversation.known(known)
            case Text() | Answer():
                self._texts.append(event)
            case ToolStarted(name=name, timeout_s=timeout_s, for_person=for_person):
                self._bench.progress.tool(name, self._bench.now(), timeout_s=timeout_s, for_person=for_person)
            case ToolEnded():
                self._bench.progress.tool(None, self._bench.now())
            case Finished():
                return await self._on_finished(event, provider)
        return None

    async def _on_finished(self, finished: Finished, provider: Provider) -> Finished | None:
        self._usage = _sum(self._usage, finished.usage)
        self._memory = dict(finished.memory) if finished.memory is not None else self._memory
        self._unkept = finished.unkept
        if finished.failure is not None:
            if finished.failure.keeps_text:
                self._settle(max(finished.prompts, self._answered))
            return finished
        problems = self._settle(finished.prompts)
        if problems and self._corrections < CORRECTIONS:
            self._corrections += 1
            await self._push(correction(problems), provider)
        elif problems:
            log("unreachable_text_dropped", turn=self._batch.turn_id, problems=" ".join(problems))
        return finished if self._answered >= len(self._prompts) else None

    def _settle(self, prompts: int) -> list[str]:
        """Turn what was said since the last Finished into messages; returns what could not be sent, in words."""
        heard = [m.row for prompt in self._prompts[self._answered : prompts] for m in prompt.messages]
        origin = self._outbox.origin(heard)
        self._answered = prompts
        texts, self._texts = self._texts, []
        outcomes = [outcome for text in texts for outcome in self._rows(text, origin)]
        self._messages += [one for one in outcomes if isinstance(one, NewMessageOut)]
        return list(dict.fromkeys(one.problem for one in outcomes if isinstance(one, Unreachable)))

    def _rows(self, said: Text | Answer, origin: Origin) -> list[NewMessageOut | Unreachable]:
        if isinstance(said, Answer):
            return [self._outbox.answer(Block(text=said.text, answers=said.to_message), origin)]
        reply = parse(said.text)
        rows = [self._outbox.answer(block, origin) for block in reply.blocks]
        return [*rows, self._outbox.bare(reply.bare, origin)] if said.final and reply.bare else rows

    async def _look(self, provider: Provider) -> _Stopped | None:
        """See what came in meanwhile: messages join the turn, once the provider has its first prompt; a person who
        has had enough ends it."""
        force = self._questions.take_unseen() or self._unseen
        news = await self._bench.mailbox.poll(self._bench.now(), force=force, questions=self._questions.waited_for)
        if news is None:
            self._unseen = force
            return None
        if any(map(_ends_turn, news.controls)):
            return _Stopped()
        if self._prompts[0].is_command:
            return None
        self._unseen = bool(news.follow_ups) and not self._handed_over
        if news.follow_ups and not self._unseen:
            await self._join(news, provider)
        self._questions.undelivered(news.undelivered)
        if news.command_waits:
            self._questions.interrupt()
        return None

    async def _join(self, news: News, provider: Provider) -> None:
        """Follow-ups become part of the turn: an answer goes to the call that waits for it, the rest is pushed."""
        rows, passed_over, now = news.follow_ups, news.passed_over, self._bench.now()
        answers = tuple(row for row in rows if self._questions.is_waited_for(row))
        if not any(row.trigger for row in rows if row not in answers):
            rows, passed_over = answers, ()  # context waits for something that it is the context of
        await self._bench.mailbox.claim_more(self._batch.turn_id, rows, now, passed_over=passed_over)
        self._outbox.book = news.book
        # A call may have given up in this very moment: what is claimed is pushed then, and not lost.
        given = [row for row in answers if self._questions.answer(row)]
        self._outbox.hear_answers(given)
        if pushed := tuple(row for row in rows if row not in given):
            await self._push_follow_ups(pushed, news, provider, now)

    async def _push_follow_ups(
        self, rows: tuple[MessageIn, ...], news: News, provider: Provider, now: datetime
    ) -> None:
        self._outbox.hear(rows)
        view = replace(self._view, now=now, book=news.book)
        prompt = batch_prompt(rows, view, about=news.about, asked=news.asked, attempt=self._attempt)
        await self._push(prompt, provider)
        self._questions.give_way(rows)

    async def _push(self, prompt: Prompt, provider: Provider) -> None:
        self._prompts.append(prompt)
        try:
            await provider.push(prompt)
        except Exception as error:
            self._events.append(Finished(prompts=0, failure=failure_of(error)))
            self._bench.signals.stir()

    def _final(self, failure: Failure) -> Failure:
        """The failure as the host is told of it. What a new conversation cannot take in either is not tried again."""
        is_new = self._fresh_start or not self._resumed
        if failure.error_class is ErrorClass.CONTEXT_FULL and failure.history is not None and is_new:
            return replace(failure, error_class=ErrorClass.PERMANENT, sentence=TOO_MUCH)
        return failure

    async def _finish(self, failure: Failure | None) -> None:
        conversation = self._bench.conversation
        if failure is not None:
            failure = self._final(failure)
            log("turn_failed", turn=self._batch.turn_id, error_class=failure.error_class, detail=failure.detail)
            if failure.error_class in ENDS_CONVERSATION:
                await conversation.forget()
            elif self._refused is not None:
                await conversation.known(self._refused)  # a new one did not help: nothing is to be lost for that
        elif self._refused is not None:
            self._tell_of_new_conversation()
        end = TurnEnd(
            turn_id=self._batch.turn_id,
            messages=self._messages if failure is None or failure.keeps_text else [],
            usage=self._usage,
            error=failure.for_people() if failure is not None else None,
            continuation=conversation.id,
            state=conversation.state(self._memory),
        )
        if self._unkept:
            log("conversation_not_kept", turn=self._batch.turn_id, conversation=conversation.id)
        self._bench.progress.kept(not self._unkept, self._bench.now())
        reach("runner.answered")
        await self._bench.mailbox.finish(end, self._bench.now())
        reach("runner.finished")
        if failure is not None:
            if failure.retry_at is not None:
                self._bench.progress.limited(failure.retry_at)
            await conversation.close()  # what went wrong may be the provider itself; the next try gets a new one


def _is_full(end: _End) -> bool:
    failure = end.failure if isinstance(end, Finished) else None
    return failure is not None and failure.error_class is ErrorClass.CONTEXT_FULL


def _detail(end: _End) -> str:
    """For the log."""
    failure = end.failure if isinstance(end, Finished) else None
    return failure.detail if failure is not None else ""


def _ends_turn(control: MessageIn) -> bool:
    """What is not known can wait until the turn is over."""
    payload = decoded(control).payload
    return isinstance(payload, ControlIn) and payload.command in {STOP, CLEAR}


async def _interrupt(provider: Provider) -> None:
    with suppress(Exception):
        async with asyncio.timeout(INTERRUPT_WITHIN_S):
            await provider.interrupt()


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        model=other.model or one.model,
        tokens_in=one.tokens_in + other.tokens_in,
        tokens_out=one.tokens_out + other.tokens_out,
        tokens_cached=one.tokens_cached + other.tokens_cached,
        cost_usd=(one.cost_usd or 0.0) + (other.cost_usd or 0.0),
    )

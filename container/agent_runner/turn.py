"""Runs one turn: one run of the agent over one batch.

It passes prompts to the provider, collects its text, and ends in one transaction: messages, acks and state together.
Promises: a claim is closed only with the end of its turn. A failed turn is never marked as completed and sends nothing
of its answer, except the text before a limit that was reached. An interrupted turn is released as a whole. A turn that
a person stops ends and sends nothing more.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from agent_runner.commands import parse_command
from agent_runner.conversation import Conversation
from agent_runner.destinations import ReplyContext, UnreachableTarget
from agent_runner.failures import INPUT_TOO_LARGE, Failure, to_failure
from agent_runner.log import log
from agent_runner.mailbox import ClaimedTurn, InboundChanges, Mailbox
from agent_runner.outbox import Now, Outbox
from agent_runner.progress import Progress
from agent_runner.prompt import (
    Prompt,
    PromptContext,
    carry_over_text,
    decode_row,
    make_batch_prompt,
    make_correction_prompt,
    make_system_prompt,
)
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
from agent_runner.questions import PendingQuestions
from agent_runner.reply import Block, parse_reply
from agent_runner.signals import RunnerSignals
from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.outbound import TurnEnd
from nanohost_protocol.payloads import CLEAR, STOP, ControlIn
from nanohost_protocol.rows import ErrorClass, MessageIn, NewMessageOut, Usage

MAX_CORRECTIONS = 2
"""How often an agent is told in one turn that some of its text could not be sent."""
INTERRUPT_TIMEOUT_S = 1.0
NEW_CONVERSATION_NOTICE = (
    "My model refused to go on with our conversation because of something in it, such as a picture, so I have begun a"
    " new one. I still have what was said, in words, but not pictures, files and what I had looked up."
)
CONTEXT_FULL_NOTICE = (
    "Our conversation had become too large for my model, so I have begun a new one. I still have what was said last, in"
    " words, but not pictures, files and what I had looked up."
)
CONVERSATION_ENDING_ERRORS = {ErrorClass.CONTEXT_FULL, ErrorClass.INVALID_SESSION}
"""After these errors the same conversation would always fail; the next attempt starts a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnContext:
    """What all turns of a runner share."""

    mailbox: Mailbox
    conversation: Conversation
    signals: RunnerSignals
    progress: Progress
    now: Now
    poll_interval_s: float


@dataclass(frozen=True, slots=True)
class _PromptAccepted:
    """The provider has accepted the first prompt."""


@dataclass(frozen=True, slots=True)
class _StopRequested:
    """A person has stopped the turn. The control rows are handled after the turn."""


_TurnResult = Finished | _StopRequested | None
"""How a turn ends; None: the runner is to stop, and the turn is released."""


class Turn:
    """One turn. Call `run` once."""

    def __init__(
        self,
        *,
        context: TurnContext,
        changes: InboundChanges,
        claimed: ClaimedTurn,
        prompt_context: PromptContext,
        outbox: Outbox,
        questions: PendingQuestions,
    ) -> None:
        assert changes.batch is not None, "a turn has a batch"
        self._context = context
        self._batch = changes.batch
        self._attempt = claimed.attempt
        self._prompt_context = prompt_context
        self._outbox = outbox
        self._questions = questions
        self._system_prompt = make_system_prompt(changes.address_book, changes.meta.get("agent_name", "the assistant"))
        self._prompts = [self._make_first_prompt(changes, claimed)]
        self._answered_prompts = 0
        self._texts: list[Text | Answer] = []
        self._messages: list[NewMessageOut] = []
        self._correction_count = 0
        self._usage = Usage()
        self._memory: dict[str, str] | None = None
        self._is_new_conversation = False
        self._was_resumed = False
        """There was a conversation before this turn."""
        self._refused_conversation: str | None = None
        """The conversation that the model refused to continue."""
        self._new_conversation_notice = ""
        """The notice about that for people, sent if the new conversation answers."""
        self._is_unrecorded = False
        self._events: deque[TurnEvent | _PromptAccepted] = deque()
        self._is_prompt_accepted = False
        self._has_unread_follow_ups = False
        """Follow-ups arrived before the provider could accept them."""
        outbox.add_messages(self._batch.messages)

    def _make_first_prompt(self, news: InboundChanges, begun: ClaimedTurn) -> Prompt:
        rows, attempt = self._batch.messages, begun.attempt
        command = parse_command(rows[0]) if len(rows) == 1 else None
        if command is not None:
            return Prompt(text=command, messages=(decode_row(rows[0]),), attempt=attempt, is_command=True)
        return make_batch_prompt(
            rows,
            self._prompt_context,
            referenced_seqs=news.referenced_seqs,
            question_texts=news.question_texts,
            attempt=attempt,
            sent_messages=begun.sent_messages,
        )

    async def run(self) -> None:
        """Runs the turn to its end, or until the runner is to stop: then releases the turn."""
        self._context.progress.start_turn(self._batch.turn_id, self._context.now())
        try:
            end = await self._run_attempts()
        finally:
            self._close_outputs()
            self._context.progress.clear()
        match end:
            case Finished():
                await self._finish(end.failure)
            case _StopRequested():
                self._messages, self._refused_conversation = [], None
                await self._finish(None)
            case None:
                if self._refused_conversation is not None:
                    await self._context.conversation.save_id(
                        self._refused_conversation
                    )  # the next attempt reads it again
                await self._context.mailbox.release(self._batch.turn_id, self._context.now())

    def _close_outputs(self) -> None:
        """Ends all output and waits, also of running tool calls."""
        self._questions.close()
        self._outbox.close()

    async def _run_attempts(self) -> _TurnResult:
        """Runs until the turn ends and returns its result.

        If the conversation is lost, or the model refuses its content, starts a new one, once.
        """
        while True:
            finished = await self._run_attempt()
            history = self._history_to_carry_over(finished)
            if history is not None:
                log(
                    "conversation_refused",
                    turn=self._batch.turn_id,
                    carried_over=len(history),
                    detail=_failure_detail(finished),
                )
                self._refused_conversation = self._context.conversation.id
                self._new_conversation_notice = (
                    CONTEXT_FULL_NOTICE if _is_context_full(finished) else NEW_CONVERSATION_NOTICE
                )
            elif self._is_conversation_lost(finished):
                log("conversation_lost", turn=self._batch.turn_id)
            else:
                return finished
            await self._context.conversation.reset()
            self._is_new_conversation = True
            self._restart_prompts(history or "")

    def _add_new_conversation_notice(self) -> None:
        """Adds the notice about the new conversation to this answer; later turns continue with that conversation."""
        origin = self._outbox.reply_context()
        row = self._outbox.compose_block(Block(text=self._new_conversation_notice), origin)
        if isinstance(row, NewMessageOut):
            self._messages.insert(0, row)

    def _is_conversation_lost(self, end: _TurnResult) -> bool:
        failure = end.failure if isinstance(end, Finished) else None
        return (
            failure is not None and failure.error_class is ErrorClass.INVALID_SESSION and not self._is_new_conversation
        )

    def _history_to_carry_over(self, end: _TurnResult) -> str | None:
        """Returns the text before this turn, if it is to be carried over into a new conversation; else None."""
        failure = end.failure if isinstance(end, Finished) else None
        if failure is None or failure.history is None or self._is_new_conversation or not self._was_resumed:
            return None
        if self._prompts[0].is_command:
            return None
        before = failure.history
        for prompt in self._prompts:  # it is sent again anyway
            before = before.replace(prompt.text, "")
        return before

    def _restart_prompts(self, history: str) -> None:
        """Merges all prompts of the turn into one, after `history`, because the new conversation has seen none of
        them."""
        if len(self._prompts) > 1 or history:
            messages = tuple(message for prompt in self._prompts for message in prompt.messages)
            text = "\n".join(
                [*([carry_over_text(history)] if history else []), *(prompt.text for prompt in self._prompts)]
            )
            self._prompts = [Prompt(text=text, messages=messages, attempt=self._attempt)]
        self._answered_prompts, self._texts, self._messages = 0, [], []
        self._outbox.reset_occurrences()

    async def _run_attempt(self) -> _TurnResult:
        self._events.clear()
        self._is_prompt_accepted = False
        try:
            provider = await self._context.conversation.provider(self._system_prompt)
        except Exception as error:
            return Finished(prompts=0, failure=to_failure(error))
        self._was_resumed = self._context.conversation.id is not None
        pump = asyncio.create_task(self._pump_events(provider), name="provider events")
        try:
            return await self._consume_events(provider)
        finally:
            pump.cancel()
            with suppress(asyncio.CancelledError):
                await pump

    async def _pump_events(self, provider: Provider) -> None:
        """Passes the provider's events to the turn's queue. An exception becomes an event, too."""
        try:
            await provider.begin(self._prompts[0])
            self._events.append(_PromptAccepted())
            self._context.signals.notify()
            async for event in provider.events():
                self._events.append(event)
                self._context.signals.notify()
            failure = Failure(error_class=ErrorClass.TRANSIENT, detail="the provider ended in the middle of a turn")
        except Exception as error:
            failure = to_failure(error)
        self._events.append(Finished(prompts=0, failure=failure))
        self._context.signals.notify()

    async def _consume_events(self, provider: Provider) -> _TurnResult:
        signals, interval_s = self._context.signals, self._context.poll_interval_s
        next_look = time.monotonic() + interval_s
        while True:
            await signals.wait(next_look - time.monotonic())
            while self._events:
                finished = await self._handle_event(self._events.popleft(), provider)
                if finished is not None:
                    return finished
            if signals.is_stopping:
                await _interrupt(provider)
                return None
            looks = time.monotonic() >= next_look
            if (signals.take_inbound_changed() or looks) and (
                stopped := await self._poll_mailbox(provider)
            ) is not None:
                self._close_outputs()  # a provider may take a second to stop
                await _interrupt(provider)
                return stopped
            if looks:
                next_look = time.monotonic() + interval_s
                self._context.progress.set_waiting_for_user(self._questions.has_open, self._context.now())
                await self._context.progress.write()

    async def _handle_event(self, event: TurnEvent | _PromptAccepted, provider: Provider) -> Finished | None:
        """Handles one event; returns it if it ends the turn."""
        match event:
            case _PromptAccepted():
                self._is_prompt_accepted = True
                crash_point("runner.asked")
            case ConversationKnown(id=known):
                await self._context.conversation.save_id(known)
            case Text() | Answer():
                self._texts.append(event)
            case ToolStarted(name=name, timeout_s=timeout_s, for_person=for_person):
                self._context.progress.set_tool(name, self._context.now(), timeout_s=timeout_s, for_person=for_person)
            case ToolEnded():
                self._context.progress.set_tool(None, self._context.now())
            case Finished():
                return await self._on_finished(event, provider)
        return None

    async def _on_finished(self, finished: Finished, provider: Provider) -> Finished | None:
        self._usage = _add_usage(self._usage, finished.usage)
        self._memory = dict(finished.memory) if finished.memory is not None else self._memory
        self._is_unrecorded = finished.is_unrecorded
        if finished.failure is not None:
            if finished.failure.should_keep_text:
                self._compose_messages(max(finished.prompts, self._answered_prompts))
            return finished
        problems = self._compose_messages(finished.prompts)
        if problems and self._correction_count < MAX_CORRECTIONS:
            self._correction_count += 1
            await self._push(make_correction_prompt(problems), provider)
        elif problems:
            log("unreachable_text_dropped", turn=self._batch.turn_id, problems=" ".join(problems))
        return finished if self._answered_prompts >= len(self._prompts) else None

    def _compose_messages(self, prompts: int) -> list[str]:
        """Turns the text since the last Finished into messages; returns the problems of what could not be sent."""
        heard = [m.row for prompt in self._prompts[self._answered_prompts : prompts] for m in prompt.messages]
        origin = self._outbox.reply_context(heard)
        self._answered_prompts = prompts
        texts, self._texts = self._texts, []
        outcomes = [outcome for text in texts for outcome in self._compose_text(text, origin)]
        self._messages += [one for one in outcomes if isinstance(one, NewMessageOut)]
        return list(dict.fromkeys(one.problem for one in outcomes if isinstance(one, UnreachableTarget)))

    def _compose_text(self, output: Text | Answer, origin: ReplyContext) -> list[NewMessageOut | UnreachableTarget]:
        if isinstance(output, Answer):
            return [self._outbox.compose_block(Block(text=output.text, reply_to_seq=output.to_message), origin)]
        reply = parse_reply(output.text)
        rows = [self._outbox.compose_block(block, origin) for block in reply.blocks]
        return (
            [*rows, self._outbox.compose_bare_text(reply.bare_text, origin)]
            if output.final and reply.bare_text
            else rows
        )

    async def _poll_mailbox(self, provider: Provider) -> _StopRequested | None:
        """Polls the mailbox: new messages join the turn after the provider has its first prompt; a stop ends it."""
        force = self._questions.take_has_new() or self._has_unread_follow_ups
        news = await self._context.mailbox.poll(self._context.now(), force=force, questions=self._questions.open_ids)
        if news is None:
            self._has_unread_follow_ups = force
            return None
        if any(map(_is_turn_ending, news.control_messages)):
            return _StopRequested()
        if self._prompts[0].is_command:
            return None
        self._has_unread_follow_ups = bool(news.follow_ups) and not self._is_prompt_accepted
        if news.follow_ups and not self._has_unread_follow_ups:
            await self._add_follow_ups(news, provider)
        self._questions.mark_undelivered(news.undelivered_questions)
        if news.has_pending_command:
            self._questions.interrupt()
        return None

    async def _add_follow_ups(self, changes: InboundChanges, provider: Provider) -> None:
        """Adds follow-ups to the turn: gives an answer to the call that waits for it, and pushes the rest."""
        rows, passed_over, now = changes.follow_ups, changes.skipped, self._context.now()
        answers = tuple(row for row in rows if self._questions.is_awaited_answer(row))
        if not any(row.trigger for row in rows if row not in answers):
            rows, passed_over = answers, ()  # context waits for a message that it belongs to
        await self._context.mailbox.claim_more(self._batch.turn_id, rows, now, skipped=passed_over)
        self._outbox.address_book = changes.address_book
        # A call may have stopped waiting at this moment: its claimed answer is pushed then, and not lost.
        given = [row for row in answers if self._questions.deliver_answer(row)]
        self._outbox.add_answers(given)
        if pushed := tuple(row for row in rows if row not in given):
            await self._push_follow_ups(pushed, changes, provider, now)

    async def _push_follow_ups(
        self, rows: tuple[MessageIn, ...], changes: InboundChanges, provider: Provider, now: datetime
    ) -> None:
        self._outbox.add_messages(rows)
        view = replace(self._prompt_context, now=now, address_book=changes.address_book)
        prompt = make_batch_prompt(
            rows,
            view,
            referenced_seqs=changes.referenced_seqs,
            question_texts=changes.question_texts,
            attempt=self._attempt,
        )
        await self._push(prompt, provider)
        self._questions.interrupt_for(rows)

    async def _push(self, prompt: Prompt, provider: Provider) -> None:
        self._prompts.append(prompt)
        try:
            await provider.push(prompt)
        except Exception as error:
            self._events.append(Finished(prompts=0, failure=to_failure(error)))
            self._context.signals.notify()

    def _final_failure(self, failure: Failure) -> Failure:
        """Returns the failure to report to the host. Input too large even for a new conversation is not retried."""
        is_new = self._is_new_conversation or not self._was_resumed
        if failure.error_class is ErrorClass.CONTEXT_FULL and failure.history is not None and is_new:
            return replace(failure, error_class=ErrorClass.PERMANENT, sentence=INPUT_TOO_LARGE)
        return failure

    async def _finish(self, failure: Failure | None) -> None:
        conversation = self._context.conversation
        if failure is not None:
            failure = self._final_failure(failure)
            log("turn_failed", turn=self._batch.turn_id, error_class=failure.error_class, detail=failure.detail)
            if failure.error_class in CONVERSATION_ENDING_ERRORS:
                await conversation.reset()
            elif self._refused_conversation is not None:
                await conversation.save_id(self._refused_conversation)  # a new one did not help, so keep the old one
        elif self._refused_conversation is not None:
            self._add_new_conversation_notice()
        end = TurnEnd(
            turn_id=self._batch.turn_id,
            messages=self._messages if failure is None or failure.should_keep_text else [],
            usage=self._usage,
            error=failure.to_turn_error() if failure is not None else None,
            continuation=conversation.id,
            state=conversation.state_changes(self._memory),
        )
        if self._is_unrecorded:
            log("conversation_not_recorded", turn=self._batch.turn_id, conversation=conversation.id)
        self._context.progress.set_recorded(not self._is_unrecorded, self._context.now())
        crash_point("runner.answered")
        await self._context.mailbox.finish(end, self._context.now())
        crash_point("runner.finished")
        if failure is not None:
            if failure.retry_at is not None:
                self._context.progress.set_rate_limited(failure.retry_at)
            await conversation.close()  # the provider itself may be the cause; the next attempt gets a new one


def _is_context_full(end: _TurnResult) -> bool:
    failure = end.failure if isinstance(end, Finished) else None
    return failure is not None and failure.error_class is ErrorClass.CONTEXT_FULL


def _failure_detail(end: _TurnResult) -> str:
    """Returns the detail of a failure for the log."""
    failure = end.failure if isinstance(end, Finished) else None
    return failure.detail if failure is not None else ""


def _is_turn_ending(control: MessageIn) -> bool:
    """Returns whether the control row ends the turn. An unknown one waits until the turn is over."""
    payload = decode_row(control).payload
    return isinstance(payload, ControlIn) and payload.command in {STOP, CLEAR}


async def _interrupt(provider: Provider) -> None:
    with suppress(Exception):
        async with asyncio.timeout(INTERRUPT_TIMEOUT_S):
            await provider.interrupt()


def _add_usage(one: Usage, other: Usage) -> Usage:
    return Usage(
        model=other.model or one.model,
        tokens_in=one.tokens_in + other.tokens_in,
        tokens_out=one.tokens_out + other.tokens_out,
        tokens_cached=one.tokens_cached + other.tokens_cached,
        cost_usd=(one.cost_usd or 0.0) + (other.cost_usd or 0.0),
    )

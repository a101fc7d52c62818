"""Executes a session's commands in the transaction that writes their rows into its mailbox.

Promises: a command takes effect once and is answered once, however often the step is repeated; rows that were written
before it come before it. The reply is stored in the command's row, so that it is the same after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from nanohost.chat_commands.classify import ParsedCommand
from nanohost.chat_commands.command import ApplyCommand, ChatCommandContext, ChatCommandInvocation, Effect
from nanohost.chat_commands.registry import chat_commands
from nanohost.db import deliveries, questions, tasks
from nanohost.db.database import Transaction
from nanohost.db.deliveries import Delivery
from nanohost.db.tasks import RunOutcome, TaskRun
from nanohost.mailbox.writer import MailboxWriter, WriteResult
from nanohost.model import Session, SessionId
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.payloads import CLEAR, STOP, ControlIn, decode_in, encode
from nanohost_protocol.rows import InKind, MessageIn, NewMessageIn

STOPPED_IN_CHAT = "it was stopped in the chat"

BuildAnswerDelivery = Callable[[Session, MessageIn, str, datetime], Delivery]
"""Builds the delivery of a reply to a command; each command can have only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxEntry:
    """A row to write. `command`: set if it is a command, whose row replaces the text."""

    message: NewMessageIn
    command: ParsedCommand | None = None


@dataclass(slots=True, kw_only=True)
class CommandResult(WriteResult):
    """The result of writing rows with commands. `cleared_session_id`: the session that starts a new conversation."""

    answers: list[Delivery] = field(default_factory=list)
    stopped_runs: list[TaskRun] = field(default_factory=list)
    cleared_session_id: SessionId | None = None


class CommandExecutor:
    """One per host."""

    def __init__(self, context: ChatCommandContext, build_answer: BuildAnswerDelivery, mailbox: MailboxWriter) -> None:
        self._context = context
        self._build_answer = build_answer
        self._mailbox = mailbox

    async def execute(self, session: Session, entries: Sequence[MailboxEntry]) -> CommandResult:
        """Executes the commands among the entries in order, and writes all rows.

        Raises MailboxError, and then none of them is written.
        """
        prepared = [(entry, await self._prepare(session, entry.command)) for entry in entries]
        runs = await tasks.list_open_runs(self._context.store, session.id)
        return await self._mailbox.change(session, lambda box: self._write_rows(box, session, prepared, runs))

    async def record(self, tx: Transaction, written: CommandResult) -> None:
        """Records the replies in the ledger, and the ends of task runs that commands have ended."""
        for answer in written.answers:
            await deliveries.add(tx, answer)
        for run in written.stopped_runs:
            await tasks.end_run(tx, run, RunOutcome.SKIPPED, self._context.clock.now(), error=STOPPED_IN_CHAT)
        if written.cleared_session_id is not None:
            await questions.close_all(tx, written.cleared_session_id)

    async def _prepare(self, session: Session, command: ParsedCommand | None) -> ApplyCommand | None:
        if command is None:
            return None
        if command.refusal is not None:
            refused = Effect(answer=command.refusal)
            return lambda _: refused
        invocation = ChatCommandInvocation(
            session=session,
            store=self._context.store,
            mailboxes=self._context.mailboxes,
            containers=self._context.containers,
            zone=self._context.zone,
            now=self._context.clock.now(),
            is_admin=command.is_admin,
            roles=command.roles,
        )
        return await chat_commands()[command.name].prepare(invocation)

    def _write_rows(
        self,
        box: InboundWriter,
        session: Session,
        prepared: Sequence[tuple[MailboxEntry, ApplyCommand | None]],
        runs: Sequence[TaskRun],
    ) -> CommandResult:
        written = CommandResult()
        for entry, carry_out in prepared:
            if entry.command is None or carry_out is None:
                box.insert(entry.message)
                written.has_agent_work |= entry.message.trigger
                written.is_due |= entry.message.trigger
                continue
            row = box.find(entry.message.id) or _apply_command(box, entry.message, entry.command.name, carry_out)
            if entry.command.name == CLEAR and _ends_turn(entry.command):
                written.cleared_session_id = session.id
            answer = host_answer(row)
            if answer is not None:
                written.answers.append(self._build_answer(session, row, answer, self._context.clock.now()))
            written.has_runner_work |= row.status == "pending"
            written.is_due |= row.status == "pending" and row.trigger
        if any(entry.command is not None and _ends_turn(entry.command) for entry, _ in prepared):
            written.stopped_runs = [run for run in runs if _is_run_failed(box, run)]
        return written


def host_answer(row: MessageIn) -> str | None:
    """Returns the host's own reply to a command; None if there is none."""
    payload = decode_in(row.kind, row.content)
    return payload.answer if isinstance(payload, ControlIn) else None


def _apply_command(box: InboundWriter, message: NewMessageIn, name: str, apply: ApplyCommand) -> MessageIn:
    effect = apply(box)
    content = encode(ControlIn(command=name, answer=effect.answer))
    # A command that is already answered does not wake the runner: the next container handles it first.
    box.insert(replace(message, kind=InKind.CONTROL, content=content, trigger=effect.answer is None))
    if not effect.needs_runner:
        box.close(message.id, "completed")
    row = box.find(message.id)
    assert row is not None
    return row


def _ends_turn(command: ParsedCommand) -> bool:
    return command.name in (STOP, CLEAR) and command.refusal is None


def _is_run_failed(box: InboundWriter, run: TaskRun) -> bool:
    message = box.find(run.message_id)
    return message is not None and message.status == "failed"

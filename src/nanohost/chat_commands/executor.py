"""Carries out commands for a session, in the transaction that writes their rows into its mailbox.

Promises: a command takes effect once and is answered once, however often the step is done; what was written before it
counts as before it. The answer is kept in the command's row, so that it comes out the same after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from nanohost.chat_commands.command import Asked, CarryOut, Effect, Shop
from nanohost.chat_commands.gate import Order
from nanohost.chat_commands.registry import chat_commands
from nanohost.mailbox.writer import MailboxWriter, Written
from nanohost.model import Session, SessionId
from nanohost.store import deliveries, questions, tasks
from nanohost.store.database import Transaction
from nanohost.store.deliveries import Delivery
from nanohost.store.tasks import Run, RunOutcome
from nanohost_protocol.inbound import InboundWriter
from nanohost_protocol.payloads import CLEAR, STOP, ControlIn, decode_in, encode
from nanohost_protocol.rows import InKind, MessageIn, NewMessageIn

SAID_STOP = "it was stopped in the chat"

Answer = Callable[[Session, MessageIn, str, datetime], Delivery]
"""A sentence about a message, as an entry in the ledger that it can have once only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row to write. `order`: it is a command, and the row takes the place of the text."""

    message: NewMessageIn
    order: Order | None = None


@dataclass(slots=True, kw_only=True)
class Executed(Written):
    """What is to be put on record besides. `cleared`: the session whose conversation begins anew."""

    answers: list[Delivery] = field(default_factory=list)
    stopped: list[Run] = field(default_factory=list)
    cleared: SessionId | None = None


class CommandExecutor:
    """One per host."""

    def __init__(self, shop: Shop, answer: Answer, mailbox: MailboxWriter) -> None:
        self._shop = shop
        self._answer = answer
        self._mailbox = mailbox

    async def execute(self, session: Session, entries: Sequence[Entry]) -> Executed:
        """Carry out the commands among the entries, each after what comes before it, and write all rows. Raises
        MailboxError, and then none of them is there."""
        prepared = [(entry, await self._prepared(session, entry.order)) for entry in entries]
        runs = await tasks.open_runs(self._shop.store, session.id)
        return await self._mailbox.change(session, lambda box: self._put(box, session, prepared, runs))

    async def record(self, tx: Transaction, written: Executed) -> None:
        """Enter the answers into the ledger, and the ends of runs that will not go on."""
        for answer in written.answers:
            await deliveries.add(tx, answer)
        for run in written.stopped:
            await tasks.end_run(tx, run, RunOutcome.SKIPPED, self._shop.clock.now(), error=SAID_STOP)
        if written.cleared is not None:
            await questions.close_all(tx, written.cleared)

    async def _prepared(self, session: Session, order: Order | None) -> CarryOut | None:
        if order is None:
            return None
        if order.refusal is not None:
            refused = Effect(answer=order.refusal)
            return lambda _: refused
        asked = Asked(
            session=session,
            store=self._shop.store,
            mailboxes=self._shop.mailboxes,
            containers=self._shop.containers,
            zone=self._shop.zone,
            now=self._shop.clock.now(),
            is_admin=order.is_admin,
            roles=order.roles,
        )
        return await chat_commands()[order.name].prepare(asked)

    def _put(
        self,
        box: InboundWriter,
        session: Session,
        prepared: Sequence[tuple[Entry, CarryOut | None]],
        runs: Sequence[Run],
    ) -> Executed:
        written = Executed()
        for entry, carry_out in prepared:
            if entry.order is None or carry_out is None:
                box.put(entry.message)
                written.work |= entry.message.trigger
                written.due |= entry.message.trigger
                continue
            row = box.find(entry.message.id) or _carry_out(box, entry.message, entry.order.name, carry_out)
            if entry.order.name == CLEAR and _ends_work(entry.order):
                written.cleared = session.id
            answer = answer_of(row)
            if answer is not None:
                written.answers.append(self._answer(session, row, answer, self._shop.clock.now()))
            written.obey |= row.status == "pending"
            written.due |= row.status == "pending" and row.trigger
        if any(entry.order is not None and _ends_work(entry.order) for entry, _ in prepared):
            written.stopped = [run for run in runs if _is_ended(box, run)]
        return written


def answer_of(row: MessageIn) -> str | None:
    """What the host answers to a command by itself."""
    payload = decode_in(row.kind, row.content)
    return payload.answer if isinstance(payload, ControlIn) else None


def _carry_out(box: InboundWriter, message: NewMessageIn, name: str, carry_out: CarryOut) -> MessageIn:
    effect = carry_out(box)
    content = encode(ControlIn(command=name, answer=effect.answer))
    # One that is answered wakes nobody: the next container sees it before anything else.
    box.put(replace(message, kind=InKind.CONTROL, content=content, trigger=effect.answer is None))
    if not effect.for_runner:
        box.close(message.id, "completed")
    row = box.find(message.id)
    assert row is not None
    return row


def _ends_work(order: Order) -> bool:
    return order.name in (STOP, CLEAR) and order.refusal is None


def _is_ended(box: InboundWriter, run: Run) -> bool:
    message = box.find(run.message_id)
    return message is not None and message.status == "failed"

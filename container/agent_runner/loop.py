"""Runs the runner's main loop: polls for work, does it, waits for more.

One turn at a time. All state is in the files, so the process may be killed at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from agent_runner.claims import Batch
from agent_runner.conversation import Conversation
from agent_runner.log import log
from agent_runner.mailbox import InboundChanges, Mailbox
from agent_runner.outbox import Now, Outbox
from agent_runner.progress import Progress
from agent_runner.prompt import PromptContext, decode_row
from agent_runner.questions import PendingQuestions
from agent_runner.settings import Settings
from agent_runner.signals import RunnerSignals
from agent_runner.tools import Toolbox, load_tools
from agent_runner.turn import Turn, TurnContext
from agent_runner.wake import listen_for_wake
from nanohost_protocol.crash_points import crash_point
from nanohost_protocol.ids import turn_id
from nanohost_protocol.outbound import TurnEnd
from nanohost_protocol.payloads import CLEAR, STOP, ControlIn
from nanohost_protocol.rows import MessageIn, Meta, Usage

BUSY_PRUNE_THRESHOLD = 200
"""Rows that the host has collected before a runner that is never idle prunes them: each poll costs more with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleTimeouts:
    """The idle seconds after which resources are released, all rows that the host has collected are pruned, and the
    runner exits. Pruning is a commit, and the host reads the file after each, so it is not done after every turn."""

    prune_s: float = 10.0
    close_provider_s: float = 60.0
    session_missing_s: float = 5.0


def utc_now() -> datetime:
    return datetime.now(UTC)


class Runner:
    """The main loop of one process. `run` returns the exit code; `signals.stop` ends it early."""

    def __init__(
        self,
        settings: Settings,
        mailbox: Mailbox,
        signals: RunnerSignals,
        *,
        now: Now = utc_now,
        timeouts: IdleTimeouts = IdleTimeouts(),
    ) -> None:
        self._settings = settings
        self._mailbox = mailbox
        self._signals = signals
        self._now = now
        self._timeouts = timeouts
        self._toolbox = Toolbox({})
        self._conversation = Conversation(settings, mailbox, self._toolbox)
        self._progress = Progress(mailbox)
        self._meta: Meta = {}

    async def run(self) -> int:
        """Works until asked to stop, until the session is deleted, or until idle for too long."""
        self._conversation.start_import()
        self._toolbox.tools = load_tools()
        with listen_for_wake(self._settings.layout.wake_fifo, self._signals.notify_inbound_changed):
            try:
                return await self._main_loop()
            finally:
                await self._conversation.close()

    async def _main_loop(self) -> int:
        idle_since = time.monotonic()
        worked = True
        while not self._signals.is_stopping:
            self._signals.take_inbound_changed()
            news = await self._mailbox.poll(self._now(), force=worked)
            worked = news is not None and await self._process_changes(news)
            if worked:
                idle_since = time.monotonic()
                await self._mailbox.prune(self._meta, at_least=BUSY_PRUNE_THRESHOLD)
                continue
            if self._should_exit(time.monotonic() - idle_since):
                return 0
            if not await self._signals.wait(self._poll_delay_s()):
                await self._run_idle_maintenance(time.monotonic() - idle_since)
        return 0

    async def _process_changes(self, changes: InboundChanges) -> bool:
        """Does the work that the changes bring; returns False if there is none."""
        self._meta = changes.meta
        await self._handle_controls(changes.control_messages)
        if changes.withdrawn:
            await self._mailbox.skip(changes.withdrawn, self._now())
        if changes.batch is not None:
            await self._run_turn(changes, changes.batch)
        return bool(changes.control_messages or changes.withdrawn or changes.batch)

    async def _run_turn(self, changes: InboundChanges, batch: Batch) -> None:
        begun = await self._mailbox.claim(batch, self._now())
        crash_point("runner.claimed")
        view, questions = self._make_prompt_context(changes), PendingQuestions(self._signals.notify_inbound_changed)
        outbox = Outbox(
            session=self._settings.session,
            turn_id=batch.turn_id,
            mailbox=self._mailbox,
            layout=self._settings.layout,
            book=changes.address_book,
            zone=view.zone,
            now=self._now,
            questions=questions,
        )
        outbox.sent_ids = {row.id for row in begun.sent_messages}
        self._toolbox.outbox = outbox
        try:
            turn = Turn(
                context=self._make_turn_context(),
                changes=changes,
                claimed=begun,
                prompt_context=view,
                outbox=outbox,
                questions=questions,
            )
            await turn.run()
        finally:
            self._toolbox.outbox = None

    async def _handle_controls(self, controls: Sequence[MessageIn]) -> None:
        """Handles rows for the runner itself. A stopped turn has ended by now, so a stop only needs its ack."""
        for row in controls:
            payload = decode_row(row).payload
            command = payload.command if isinstance(payload, ControlIn) else "unreadable"
            state = await self._conversation.clear_state() if command == CLEAR else {}
            batch = Batch(turn_id=turn_id(row.id), messages=(row,))
            await self._mailbox.claim(batch, self._now())
            end = TurnEnd(turn_id=batch.turn_id, messages=(), usage=Usage(), state=state)
            await self._mailbox.finish(end, self._now())
            log("control_handled" if command in {STOP, CLEAR} else "control_unknown", command=command)
        if controls:
            # An interrupted provider may still emit events, which the next turn must not get.
            await self._conversation.close()

    async def _run_idle_maintenance(self, idle_s: float) -> None:
        """Does work that can wait until the runner is idle."""
        await self._progress.write()
        await self._mailbox.prune(self._meta, at_least=1 if idle_s >= self._timeouts.prune_s else BUSY_PRUNE_THRESHOLD)
        if idle_s >= self._timeouts.close_provider_s:
            await self._conversation.close()

    def _should_exit(self, idle_s: float) -> bool:
        if self._mailbox.missing_s > self._timeouts.session_missing_s:
            log("session_missing")
            return True
        limit = self._settings.idle_exit_s
        if limit and idle_s >= limit:
            log("idle_timeout_reached", idle_s=round(idle_s))
            return True
        return False

    def _poll_delay_s(self) -> float:
        """Returns the seconds until the next poll, or until a message is due if that is sooner."""
        due = self._mailbox.next_due
        pause_s = self._settings.poll_interval_s
        return pause_s if due is None else min(pause_s, max(0.0, (due - self._now()).total_seconds()))

    def _make_turn_context(self) -> TurnContext:
        return TurnContext(
            mailbox=self._mailbox,
            conversation=self._conversation,
            signals=self._signals,
            progress=self._progress,
            now=self._now,
            poll_interval_s=self._settings.poll_interval_s,
        )

    def _make_prompt_context(self, changes: InboundChanges) -> PromptContext:
        name = changes.meta.get("timezone") or self._settings.timezone
        zone = _load_zone(name)
        return PromptContext(
            now=self._now(), zone=zone or UTC, timezone=name if zone else "UTC", address_book=changes.address_book
        )


def _load_zone(name: str) -> tzinfo | None:
    """Returns a time zone by name; None if it is unknown. Imports zoneinfo only here: UTC does not need it."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        log("timezone_unknown", name=name)
        return None

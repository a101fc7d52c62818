"""The runner's life: look for work, do it, wait for more.

One turn at a time. Nothing is kept in memory that the files do not hold, so the process may be killed at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from agent_runner.claims import Batch
from agent_runner.conversation import Conversation
from agent_runner.log import log
from agent_runner.mailbox import Mailbox, News
from agent_runner.outbox import Now, Outbox
from agent_runner.progress import Progress
from agent_runner.prompt import View, decoded
from agent_runner.questions import Questions
from agent_runner.settings import Settings
from agent_runner.signals import Signals
from agent_runner.tools import Toolbox, load_tools
from agent_runner.turn import Bench, Turn
from agent_runner.wake import listening
from nanohost_protocol.crash_points import reach
from nanohost_protocol.ids import turn_id
from nanohost_protocol.outbound import TurnEnd
from nanohost_protocol.payloads import CLEAR, STOP, ControlIn
from nanohost_protocol.rows import MessageIn, Meta, Usage

PRUNE_WHEN_BUSY = 200
"""Numbers the host has passed before a runner that is never idle stops to tidy: what a look costs grows with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """After how many idle seconds what is given up."""

    close_provider_s: float = 60.0
    gone_s: float = 5.0


def utc_now() -> datetime:
    return datetime.now(UTC)


class Runner:
    """One life. `run` returns the exit code; `signals.stop` ends it early."""

    def __init__(
        self,
        settings: Settings,
        mailbox: Mailbox,
        signals: Signals,
        *,
        now: Now = utc_now,
        patience: Patience = Patience(),
    ) -> None:
        self._settings = settings
        self._mailbox = mailbox
        self._signals = signals
        self._now = now
        self._patience = patience
        self._toolbox = Toolbox({})
        self._conversation = Conversation(settings, mailbox, self._toolbox)
        self._progress = Progress(mailbox)
        self._meta: Meta = {}

    async def run(self) -> int:
        """Work until told to stop, until the session is deleted, or until idle for too long."""
        self._conversation.load()
        self._toolbox.tools = load_tools()
        with listening(self._settings.layout.wake_fifo, self._signals.wake):
            try:
                return await self._live()
            finally:
                await self._conversation.close()

    async def _live(self) -> int:
        idle_since = time.monotonic()
        worked = True
        while not self._signals.stopping:
            self._signals.take_wake()
            news = await self._mailbox.poll(self._now(), force=worked)
            worked = news is not None and await self._work(news)
            if worked:
                idle_since = time.monotonic()
                await self._mailbox.prune(self._meta, at_least=PRUNE_WHEN_BUSY)
                continue
            if self._is_over(time.monotonic() - idle_since):
                return 0
            if not await self._signals.wait(self._pause_s()):
                await self._tidy(time.monotonic() - idle_since)
        return 0

    async def _work(self, news: News) -> bool:
        """Do what there is to do; False if that is nothing."""
        self._meta = news.meta
        await self._obey(news.controls)
        if news.withdrawn:
            await self._mailbox.close_unseen(news.withdrawn, self._now())
        if news.batch is not None:
            await self._turn(news, news.batch)
        return bool(news.controls or news.withdrawn or news.batch)

    async def _turn(self, news: News, batch: Batch) -> None:
        begun = await self._mailbox.claim(batch, self._now())
        reach("runner.claimed")
        view, questions = self._view(news), Questions(self._signals.wake)
        outbox = Outbox(
            session=self._settings.session,
            turn_id=batch.turn_id,
            mailbox=self._mailbox,
            layout=self._settings.layout,
            book=news.book,
            zone=view.zone,
            now=self._now,
            questions=questions,
        )
        outbox.said = {row.id for row in begun.said}
        self._toolbox.outbox = outbox
        try:
            turn = Turn(bench=self._bench(), news=news, begun=begun, view=view, outbox=outbox, questions=questions)
            await turn.run()
        finally:
            self._toolbox.outbox = None

    async def _obey(self, controls: Sequence[MessageIn]) -> None:
        """Rows for the runner itself. A turn that ran is over by now, so to stop is to say so."""
        for row in controls:
            payload = decoded(row).payload
            command = payload.command if isinstance(payload, ControlIn) else "unreadable"
            state = await self._conversation.begin_anew() if command == CLEAR else {}
            batch = Batch(turn_id=turn_id(row.id), messages=(row,))
            await self._mailbox.claim(batch, self._now())
            end = TurnEnd(turn_id=batch.turn_id, messages=(), usage=Usage(), state=state)
            await self._mailbox.finish(end, self._now())
            log("obeyed" if command in {STOP, CLEAR} else "unknown_command", command=command)
        if controls:
            # What was interrupted may still have something to say; the next turn is to hear none of it.
            await self._conversation.close()

    async def _tidy(self, idle_s: float) -> None:
        """What can wait until there is nothing better to do."""
        await self._progress.write()
        await self._mailbox.prune(self._meta)
        if idle_s >= self._patience.close_provider_s:
            await self._conversation.close()

    def _is_over(self, idle_s: float) -> bool:
        if self._mailbox.gone_s > self._patience.gone_s:
            log("session_is_gone")
            return True
        limit = self._settings.idle_exit_s
        if limit and idle_s >= limit:
            log("idle_exit", idle_s=round(idle_s))
            return True
        return False

    def _pause_s(self) -> float:
        """Until the next poll, or until a message falls due if that is sooner."""
        due = self._mailbox.next_due
        pause_s = self._settings.poll_interval_s
        return pause_s if due is None else min(pause_s, max(0.0, (due - self._now()).total_seconds()))

    def _bench(self) -> Bench:
        return Bench(
            mailbox=self._mailbox,
            conversation=self._conversation,
            signals=self._signals,
            progress=self._progress,
            now=self._now,
            poll_interval_s=self._settings.poll_interval_s,
        )

    def _view(self, news: News) -> View:
        name = news.meta.get("timezone") or self._settings.timezone
        zone = _zone(name)
        return View(now=self._now(), zone=zone or UTC, timezone=name if zone else "UTC", book=news.book)


def _zone(name: str) -> tzinfo | None:
    """A time zone by name, or None where it is unknown. Imported here: UTC needs no table of zones."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        log("unknown_timezone", name=name)
        return None

"""The host's half of a session for tests of the runner: writes messages, signals the FIFO, reads the output."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from agent_runner.loop import IdleTimeouts, Runner
from agent_runner.mailbox import Mailbox
from agent_runner.settings import Settings
from agent_runner.signals import RunnerSignals
from nanohost.testing.time_limits import scaled_timeout
from nanohost_protocol.errors import FileLocked, FileNotReady
from nanohost_protocol.inbound import inbound_transaction
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.outbound import OutboundReader, outbound_snapshot
from nanohost_protocol.payloads import ChatIn, ChatOut, OutPayload, decode_out, encode
from nanohost_protocol.rows import Ack, AckStatus, Destination, InKind, MessageOut, NewMessageIn, Origin, Turn
from nanohost_protocol.schema import OUTBOUND
from nanohost_protocol.sqlite import read_snapshot

ROOT = Path(__file__).resolve().parents[2]
HOME = Destination(name="home", display_name="Home chat")
OFFICE = Destination(name="office", display_name="The office")
WAIT_TIMEOUT_S = 20.0
IDLE_TIMEOUTS = IdleTimeouts()

T = TypeVar("T")


def make_chat_message(
    id: str,
    text: str,
    *,
    trigger: bool = True,
    on_wake: bool = False,
    sender: str = "Ada",
    platform_id: str = "chat-1",
    process_after: datetime | None = None,
) -> NewMessageIn:
    """A chat message from a person."""
    return NewMessageIn(
        id=id,
        kind=InKind.CHAT,
        timestamp=datetime.now(UTC),
        content=encode(ChatIn(text=text, sender=sender, sender_id=f"u-{sender}")),
        trigger=trigger,
        on_wake=on_wake,
        process_after=process_after,
        origin=Origin(
            channel_type="terminal", instance="main", platform_id=platform_id, platform_message_id=f"platform-{id}"
        ),
    )


class SessionHost:
    """One session's folder below `root`."""

    def __init__(self, root: Path, *, destinations: Sequence[Destination] = (HOME,), fifo: bool = True) -> None:
        self.layout = SessionLayout(root)
        for folder in (self.layout.in_dir, self.layout.out_dir, self.layout.state_dir, self.layout.agent_dir):
            folder.mkdir(parents=True)
        self.layout.run_dir.mkdir()
        with inbound_transaction(self.layout.inbound_db, durable=False) as inbound:
            inbound.set_destinations(destinations, "home")
            inbound.set_meta({"agent_name": "Nan", "timezone": "Europe/Berlin"})
        self._wake_fd: int | None = None
        if fifo:
            os.mkfifo(self.layout.wake_fifo)

    def write_script(self, *rules: Mapping[str, object]) -> None:
        (self.layout.agent_dir / "script.json").write_text(json.dumps(rules), encoding="utf-8")

    def insert(self, *messages: NewMessageIn, should_wake: bool = True) -> None:
        with inbound_transaction(self.layout.inbound_db, durable=False) as inbound:
            for message in messages:
                inbound.insert(message)
        if should_wake:
            self.wake()

    def write_message(self, id: str, text: str, *, should_wake: bool = True) -> None:
        """A person writes."""
        self.insert(make_chat_message(id, text), should_wake=should_wake)

    def wake(self) -> None:
        """One byte into the FIFO, if someone listens."""
        try:
            bell = os.open(self.layout.wake_fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return
        os.write(bell, b"!")
        os.close(bell)

    def progress(self) -> dict[str, str]:
        """The activity that the runner reports."""
        with read_snapshot(self.layout.outbound_db, OUTBOUND) as connection:
            return {row["key"]: row["value"] for row in connection.execute("SELECT key, value FROM container_state")}

    def retry(self, *acks: Ack, extra_message: NewMessageIn | None = None) -> None:
        """Retry messages whose turn failed or was interrupted, all in one transaction, and insert one more in the same.
        They are due already: a runner that reads meanwhile compares with an earlier time."""
        due = datetime.now(UTC) - timedelta(seconds=5)
        with inbound_transaction(self.layout.inbound_db, durable=False) as inbound:
            if extra_message is not None:
                inbound.insert(extra_message)
            for ack in acks:
                inbound.retry(ack.message_id, tries=ack.tries, process_after=due)
        self.wake()

    def sent(self) -> list[MessageOut]:
        with outbound_snapshot(self.layout.outbound_db) as outbound:
            return [row for row in outbound.messages_after(0) if isinstance(row, MessageOut)]

    def payloads(self) -> list[OutPayload]:
        return [decode_out(row.kind, row.content) for row in self.sent()]

    def texts(self) -> list[str]:
        return [one.text for one in self.payloads() if isinstance(one, ChatOut)]

    def acks(self) -> dict[str, Ack]:
        with outbound_snapshot(self.layout.outbound_db) as outbound:
            return {ack.message_id: ack for ack in outbound.acks_after(0)}

    def turns(self) -> list[Turn]:
        """The turns, oldest first."""
        with outbound_snapshot(self.layout.outbound_db) as outbound:
            return outbound.turns()[::-1]

    async def wait_for_acks(self, *ids: str, status: AckStatus = AckStatus.COMPLETED) -> dict[str, Ack]:
        """Wait until all of these have the status."""

        def look(outbound: OutboundReader) -> dict[str, Ack] | None:
            acks = {ack.message_id: ack for ack in outbound.acks_after(0)}
            return acks if all(id in acks and acks[id].status is status for id in ids) else None

        return await self.wait_for(look)

    async def wait_for(self, look: Callable[[OutboundReader], T | None]) -> T:
        """Wait until `look` finds something in the runner's file."""
        async with asyncio.timeout(scaled_timeout(WAIT_TIMEOUT_S)):
            while True:
                try:
                    with outbound_snapshot(self.layout.outbound_db) as outbound:
                        found = look(outbound)
                except (FileNotReady, FileLocked):
                    found = None
                if found is not None:
                    return found
                await asyncio.sleep(0.005)

    def settings(self, provider: str = "scripted", lease: str = "lease-1", poll_interval_s: float = 5.0) -> Settings:
        return Settings(
            install="install",
            session="session",
            lease=lease,
            workspace=self.layout.root,
            provider=provider,
            poll_interval_s=poll_interval_s,
        )

    def environment(self, **more: str) -> dict[str, str]:
        """What a runtime passes to a runner."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'container'}{os.pathsep}{ROOT / 'src'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONSAFEPATH": "1",  # the working directory is the agent's: it must not shadow modules
            "HOME": str(self.layout.state_dir),
            "NANOHOST_WORKSPACE": str(self.layout.root),
            "NANOHOST_PROVIDER": "scripted",
            "NANOHOST_POLL_INTERVAL_S": "5",
            **more,
        }

    async def start_runner(self, lease: str = "lease-1", **environment: str) -> asyncio.subprocess.Process:
        """A runner as a process of its own. The caller ends it."""
        names = ["--install", "install", "--session", "session", "--lease", lease]
        return await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "agent_runner", *names],
            env=self.environment(**environment),
            cwd=self.layout.agent_dir,
            stderr=asyncio.subprocess.PIPE,
        )


@asynccontextmanager
async def run_runner(
    host: SessionHost, settings: Settings | None = None, *, timeouts: IdleTimeouts = IDLE_TIMEOUTS
) -> AsyncIterator[asyncio.Task[int]]:
    """A runner in this process, stopped in order at the end. Its task ends with the exit code."""
    settings = settings or host.settings()
    mailbox = Mailbox(settings.layout, lease=settings.lease, durable=False)
    mailbox.abandon_stale_claims(datetime.now(UTC))
    signals = RunnerSignals()
    task = asyncio.create_task(Runner(settings, mailbox, signals, timeouts=timeouts).run())
    try:
        yield task
    finally:
        signals.stop()
        async with asyncio.timeout(scaled_timeout(WAIT_TIMEOUT_S)):
            await task
        mailbox.close()


async def wait_until(true: Callable[[], bool]) -> None:
    """Poll for a condition without an event."""
    async with asyncio.timeout(scaled_timeout(WAIT_TIMEOUT_S)):
        while not true():  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.005)


async def wait_for_exit(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Wait for a runner's exit: its exit code and output."""
    async with asyncio.timeout(scaled_timeout(WAIT_TIMEOUT_S)):
        _, printed = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()

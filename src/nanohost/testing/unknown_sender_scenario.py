"""An unknown sender is let in: Bob writes on Telegram, and Ada, who can be reached on Slack alone, is asked there.

Played by a real host in a process of its own, between two simulated platforms. Every step ends with what a person sees,
so that the host can be killed between any two of them; it may also end itself in the middle of one, see crash_points.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanohost.config.settings_file import to_toml
from nanohost.testing.simulated_chat import find_simulator
from nanohost.testing.simulator import ADA, BOB, ScreenMessage, Simulator
from nanohost.testing.time_limits import scaled_timeout
from nanohost_protocol.crash_points import ENV_VARIABLE

STEP_TIMEOUT_S = 60.0
"""For one step, a start of the host included."""
READY_MARKER = '"event": "host_ready"'
FIRST_MESSAGE = "Hello, is anybody there?"
SECOND_MESSAGE = "I am a friend of Ada's."
THIRD_MESSAGE = "Thank you!"


class HostProcess:
    """`nanohost run` as an operator starts it, started again whenever it ended by SIGKILL."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.kill_count = 0
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()

    def write_settings(self, platforms: Sequence[Simulator]) -> None:
        """Write the settings. The platforms serve: their addresses are known."""
        host = {"provider": "demo", "runtime": "process", "timezone": "UTC", "poll_interval_s": 0.2}
        tables = [to_toml(("host",), host), *(to_toml(("channels", one.name), one.settings()) for one in platforms)]
        self._root.mkdir(parents=True, exist_ok=True)
        (self._root / "nanohost.toml").write_text("\n".join(tables).replace('"0.2"', "0.2"))

    @asynccontextmanager
    async def running(self, *, crash_at: str = "") -> AsyncIterator[None]:
        """Serve while entered. `crash_at`: where its first process ends itself, NAME or NAME:N."""
        watching = asyncio.create_task(self._run_with_restarts(crash_at), name="host")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self._terminate()

    async def kill(self) -> None:
        """SIGKILL once the host is quiet, and wait until the next process serves. Raises TimeoutError."""
        await self.wait_until_idle()
        assert self._process is not None, "it runs"
        self._ready.clear()
        self._process.kill()
        await self.wait_until_ready()

    async def wait_until_ready(self) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(scaled_timeout(STEP_TIMEOUT_S)):
            await self._ready.wait()

    async def wait_until_connected(self) -> None:
        """Some platforms keep nothing for a bot that never was there. Raises TimeoutError."""
        await self._wait_until(lambda host, _: all(one["state"] == "connected" for one in host["channels"]))

    async def wait_until_idle(self) -> None:
        """Until the step is over for the host, too: what people see, it has on record. Raises TimeoutError."""
        await self._wait_until(lambda _, counts: not counts["deliveries_waiting"] and not counts["events_not_routed"])

    async def _wait_until(self, happened: Callable[[dict[str, Any], dict[str, int]], bool]) -> None:
        async with asyncio.timeout(scaled_timeout(STEP_TIMEOUT_S)):
            while True:
                status = json.loads(await self.run_command("status", "--json"))
                if status["host"] is not None and happened(status["host"], status["counts"]):
                    return
                await asyncio.sleep(0.1)

    async def run_command(self, *words: str) -> str:
        """What an operator's command prints. Raises RuntimeError for one that fails."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nanohost", "--home", str(self._root), *words),
            env=_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, complaint = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"nanohost {' '.join(words)}: {complaint.decode()}")
        return said.decode()

    async def _run_with_restarts(self, crash_at: str) -> None:
        while await self._run_once(crash_at) == -signal.SIGKILL:
            self.kill_count += 1
            crash_at = ""

    async def _run_once(self, crash_at: str) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nanohost", "--home", str(self._root), "run"),
            env=_environment() | ({ENV_VARIABLE: crash_at} if crash_at else {}),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stderr is not None, "it was asked for"
        with (self._root / "host.log").open("ab") as log:
            async for line in self._process.stderr:
                log.write(line)
                if READY_MARKER.encode() in line:
                    self._ready.set()
        code = await self._process.wait()
        self._ready.clear()
        return code

    async def _terminate(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        for pid in await asyncio.to_thread(_runner_pids, self._root):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _runner_pids(root: Path) -> list[int]:
    """The runners of this home: a host leaves them to the next one."""
    sessions = {path.name for path in (root / "sessions").glob("*/*")}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if sessions.intersection((process / "cmdline").read_text(errors="replace").split("\0")):
                found.append(int(process.name))
    return found


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NANOHOST_", "ANTHROPIC_"))}
    return kept | {"NANOHOST_LOG": "json"}


@dataclass(frozen=True, slots=True)
class Step:
    """Something that somebody does, up to what they or others see of it. Done again it changes nothing."""

    description: str
    run: Callable[[], Awaitable[None]]


class UnknownSenderScenario:
    """Both platforms and the host between them."""

    def __init__(self, root: Path) -> None:
        self.telegram, self.slack = find_simulator("telegram"), find_simulator("slack")
        self.host = HostProcess(root)
        self._pairing_code = ""

    @property
    def steps(self) -> Sequence[Step]:
        """In order. The host runs from the first one on."""
        return (
            Step("Ada has a code made at the machine: nanohost pair slack", self._create_pairing_code),
            Step("Ada types it to the bot on Slack, and is the owner", self._become_owner),
            Step("Bob, whom nobody knows, writes on Telegram; Ada is asked on Slack", self._write_as_unknown_sender),
            Step("Bob writes more; nobody is asked again", self._write_more),
            Step("Ada lets him in", self._approve_sender),
            Step("Bob, who has been answered, writes again", self._write_as_a_member),
        )

    @asynccontextmanager
    async def running(self, *, crash_at: str = "") -> AsyncIterator[None]:
        """Platforms and host serve while entered."""
        async with self.telegram.running(), self.slack.running():
            self.host.write_settings([self.telegram, self.slack])
            await self.host.run_command("agents", "create", "main")
            async with self.host.running(crash_at=crash_at):
                await self.host.wait_until_ready()
                await self.host.wait_until_connected()
                yield

    def approval_cards(self) -> list[ScreenMessage]:
        """What Ada was asked, on the screen now."""
        return [one for one in self.slack.screen(self.slack.dm) if "Telegram" in one.text or one.buttons]

    def answers_containing(self, text: str) -> list[ScreenMessage]:
        """What answers this, on Bob's screen."""
        return [one for one in self.telegram.screen(BOB.id) if text in one.text]

    async def _create_pairing_code(self) -> None:
        self._pairing_code = json.loads(await self.host.run_command("pair", "slack", "--json"))["code"]

    async def _become_owner(self) -> None:
        await self.slack.write(self.slack.dm, self._pairing_code)
        await self.slack.wait_until(
            lambda: any("owner" in text for text in self.slack.texts()), timeout_s=STEP_TIMEOUT_S
        )

    async def _write_as_unknown_sender(self) -> None:
        await self.telegram.write(BOB.id, FIRST_MESSAGE, person=BOB)
        await self.slack.wait_until(lambda: any(one.buttons for one in self.approval_cards()), timeout_s=STEP_TIMEOUT_S)

    async def _write_more(self) -> None:
        await self.telegram.write(BOB.id, SECOND_MESSAGE, person=BOB)
        await self.telegram.wait_until(lambda: len(self.telegram.acknowledged()) >= 2, timeout_s=STEP_TIMEOUT_S)

    async def _approve_sender(self) -> None:
        card = next(one for one in self.approval_cards() if one.buttons)
        await self.slack.press(card, card.buttons[0], person=ADA)
        await self.telegram.wait_until(
            lambda: bool(self.answers_containing(FIRST_MESSAGE) and self.answers_containing(SECOND_MESSAGE)),
            timeout_s=STEP_TIMEOUT_S,
        )
        await self.slack.wait_until(
            lambda: not any(one.buttons for one in self.approval_cards()), timeout_s=STEP_TIMEOUT_S
        )

    async def _write_as_a_member(self) -> None:
        await self.telegram.write(BOB.id, THIRD_MESSAGE, person=BOB)
        await self.telegram.wait_until(lambda: bool(self.answers_containing(THIRD_MESSAGE)), timeout_s=STEP_TIMEOUT_S)

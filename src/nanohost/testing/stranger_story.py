"""A stranger is let in: Bob writes on Telegram, and Ada, who can be reached on Slack alone, is asked there.

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

from nanohost.settings_file import as_toml
from nanohost.testing.limits import seconds
from nanohost.testing.simulated import find
from nanohost.testing.simulator import ADA, BOB, Shown, Simulator
from nanohost_protocol.crash_points import VARIABLE

LIMIT_S = 60.0
"""For one step, a start of the host included."""
READY = '"event": "host_ready"'
FIRST = "Hello, is anybody there?"
SECOND = "I am a friend of Ada's."
THIRD = "Thank you!"


class Host:
    """`nanohost run` as an operator starts it, started again whenever it ended by SIGKILL."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.kills = 0
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()

    def settle(self, platforms: Sequence[Simulator]) -> None:
        """Write the settings. The platforms serve: their addresses are known."""
        host = {"provider": "demo", "runtime": "process", "timezone": "UTC", "poll_interval_s": 0.2}
        tables = [as_toml(("host",), host), *(as_toml(("channels", one.name), one.settings()) for one in platforms)]
        self._root.mkdir(parents=True, exist_ok=True)
        (self._root / "nanohost.toml").write_text("\n".join(tables).replace('"0.2"', "0.2"))

    @asynccontextmanager
    async def running(self, *, crash_at: str = "") -> AsyncIterator[None]:
        """Serve while entered. `crash_at`: where its first process ends itself, NAME or NAME:N."""
        watching = asyncio.create_task(self._run_again_and_again(crash_at), name="host")
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self._end()

    async def kill(self) -> None:
        """SIGKILL once the host is quiet, and wait until the next process serves. Raises TimeoutError."""
        await self.until_quiet()
        assert self._process is not None, "it runs"
        self._ready.clear()
        self._process.kill()
        await self.until_ready()

    async def until_ready(self) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(seconds(LIMIT_S)):
            await self._ready.wait()

    async def until_connected(self) -> None:
        """Some platforms keep nothing for a bot that never was there. Raises TimeoutError."""
        await self._until(lambda host, _: all(one["state"] == "connected" for one in host["channels"]))

    async def until_quiet(self) -> None:
        """Until the step is over for the host, too: what people see, it has on record. Raises TimeoutError."""
        await self._until(lambda _, counts: not counts["deliveries_waiting"] and not counts["events_not_routed"])

    async def _until(self, happened: Callable[[dict[str, Any], dict[str, int]], bool]) -> None:
        async with asyncio.timeout(seconds(LIMIT_S)):
            while True:
                status = json.loads(await self.command("status", "--json"))
                if status["host"] is not None and happened(status["host"], status["counts"]):
                    return
                await asyncio.sleep(0.1)

    async def command(self, *words: str) -> str:
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

    async def _run_again_and_again(self, crash_at: str) -> None:
        while await self._run(crash_at) == -signal.SIGKILL:
            self.kills += 1
            crash_at = ""

    async def _run(self, crash_at: str) -> int:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nanohost", "--home", str(self._root), "run"),
            env=_environment() | ({VARIABLE: crash_at} if crash_at else {}),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stderr is not None, "it was asked for"
        with (self._root / "host.log").open("ab") as log:
            async for line in self._process.stderr:
                log.write(line)
                if READY.encode() in line:
                    self._ready.set()
        code = await self._process.wait()
        self._ready.clear()
        return code

    async def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        for pid in await asyncio.to_thread(_runners, self._root):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _runners(root: Path) -> list[int]:
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

    says: str
    do: Callable[[], Awaitable[None]]


class Story:
    """Both platforms and the host between them."""

    def __init__(self, root: Path) -> None:
        self.telegram, self.slack = find("telegram"), find("slack")
        self.host = Host(root)
        self._code = ""

    @property
    def steps(self) -> Sequence[Step]:
        """In order. The host runs from the first one on."""
        return (
            Step("Ada has a code made at the machine: nanohost pair slack", self._make_a_code),
            Step("Ada types it to the bot on Slack, and is the owner", self._become_owner),
            Step("Bob, whom nobody knows, writes on Telegram; Ada is asked on Slack", self._write_as_a_stranger),
            Step("Bob writes more; nobody is asked again", self._write_more),
            Step("Ada lets him in", self._let_in),
            Step("Bob, who has been answered, writes again", self._write_as_a_member),
        )

    @asynccontextmanager
    async def running(self, *, crash_at: str = "") -> AsyncIterator[None]:
        """Platforms and host serve while entered."""
        async with self.telegram.running(), self.slack.running():
            self.host.settle([self.telegram, self.slack])
            await self.host.command("groups", "create", "main")
            async with self.host.running(crash_at=crash_at):
                await self.host.until_ready()
                await self.host.until_connected()
                yield

    def cards(self) -> list[Shown]:
        """What Ada was asked, on the screen now."""
        return [one for one in self.slack.screen(self.slack.dm) if "Telegram" in one.text or one.buttons]

    def answers(self, text: str) -> list[Shown]:
        """What answers this, on Bob's screen."""
        return [one for one in self.telegram.screen(BOB.id) if text in one.text]

    async def _make_a_code(self) -> None:
        self._code = json.loads(await self.host.command("pair", "slack", "--json"))["code"]

    async def _become_owner(self) -> None:
        await self.slack.write(self.slack.dm, self._code)
        await self.slack.until(lambda: any("owner" in text for text in self.slack.texts()), limit_s=LIMIT_S)

    async def _write_as_a_stranger(self) -> None:
        await self.telegram.write(BOB.id, FIRST, person=BOB)
        await self.slack.until(lambda: any(one.buttons for one in self.cards()), limit_s=LIMIT_S)

    async def _write_more(self) -> None:
        await self.telegram.write(BOB.id, SECOND, person=BOB)
        await self.telegram.until(lambda: len(self.telegram.acknowledged()) >= 2, limit_s=LIMIT_S)

    async def _let_in(self) -> None:
        card = next(one for one in self.cards() if one.buttons)
        await self.slack.press(card, card.buttons[0], person=ADA)
        await self.telegram.until(lambda: bool(self.answers(FIRST) and self.answers(SECOND)), limit_s=LIMIT_S)
        await self.slack.until(lambda: not any(one.buttons for one in self.cards()), limit_s=LIMIT_S)

    async def _write_as_a_member(self) -> None:
        await self.telegram.write(BOB.id, THIRD, person=BOB)
        await self.telegram.until(lambda: bool(self.answers(THIRD)), limit_s=LIMIT_S)

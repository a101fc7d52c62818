"""A platform on loopback with one person at this terminal: to try a channel without an account anywhere."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TextIO

from nanohost.commands.show import harmless
from nanohost.errors import UsageError
from nanohost.phrases import nearest
from nanohost.settings_file import as_toml
from nanohost.stdin_lines import typed_lines
from nanohost.testing.content import Content
from nanohost.testing.simulator import Shown, Simulator

PACKAGE = "nanohost.testing.simulators"
FOR_EVER_S = 10.0**8
HELP = "type a line to write it; /press LABEL presses a button of the last message; Ctrl-C ends"
HELP_KINDS = "/send KIND sends what is more than words; /send alone lists what there is"


def find(name: str) -> Simulator:
    """The simulator of this platform. Raises UsageError."""
    known = simulated()
    if name not in known:
        raise UsageError(f"there is no simulator of {name[:40]!r}", hint=nearest(name, known))
    simulator: Simulator = importlib.import_module(f"{PACKAGE}.{name}").SIMULATOR()
    return simulator


def begun(name: str, now: datetime) -> Simulator:
    """The same for somebody who tries a channel: in the same home perhaps as before, so its ids are of this moment.
    Raises UsageError."""
    simulator = find(name)
    simulator.numbers_from = int(now.timestamp() * 1000)  # fewer than a thousand ids a second are made
    return simulator


def simulated() -> list[str]:
    """The platforms that have one. Read, not imported: a simulator may need a library that is not there."""
    folder = Path(next(iter(importlib.import_module(PACKAGE).__path__)))
    return sorted(path.stem for path in folder.glob("[!_]*.py") if "\nSIMULATOR = " in path.read_text(encoding="utf-8"))


async def serve(simulator: Simulator, stdin: TextIO, stdout: TextIO) -> int:
    """Serve until there are no more lines, or for ever. Returns how many were written."""
    conversation = _Conversation(simulator, stdout)
    written = 0
    async with simulator.running():
        conversation.begin()
        watching = asyncio.create_task(conversation.watch(), name="screen")
        try:
            async for line in typed_lines(stdin):
                written += await conversation.do(line)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    return written


class _Conversation:
    """One person in one chat."""

    def __init__(self, simulator: Simulator, stdout: TextIO) -> None:
        self._simulator = simulator
        self._stdout = stdout
        self._said: dict[str, str] = {}

    def begin(self) -> None:
        name = self._simulator.name
        self._say(f"A simulated {name}. Put this into nanohost.toml:\n")
        self._say(as_toml(("channels", name), self._simulator.settings()))
        self._say(f"nanohost run\nnanohost pair {name}  # and type its code here: it makes you the owner\n\n{HELP}\n")
        if self._simulator.kinds():
            self._say(HELP_KINDS + "\n")

    async def do(self, line: str) -> bool:
        """What the person typed. False: it was no message."""
        word, _, label = line.strip().partition(" ")
        if word == "/send" and self._simulator.kinds():
            return await self._send(label.strip())
        if word != "/press":
            if line.strip():
                await self._simulator.write(self._simulator.dm, line)
            return bool(line.strip())
        card = next((one for one in reversed(self._screen()) if label in one.buttons), None)
        if card is None:
            self._say(f"no message has a button {label!r}")
            return False
        await self._simulator.press(card, label)
        return True

    async def _send(self, kind: str) -> bool:
        """An example by its name, or all of a kind."""
        if not kind:
            self._list()
            return False
        examples = [kind] if kind in self._simulator.kinds() else self._all_of(kind)
        if not examples:
            self._say(f"there is nothing called {kind[:40]!r} to send: /send alone lists what there is")
            return False
        for example in examples:
            await self._simulator.send_kind(example, self._simulator.dm)
        return True

    def _all_of(self, kind: str) -> Sequence[str]:
        return next((names for one, names in self._simulator.contents().items() if one == kind), ())

    def _list(self) -> None:
        shown = {kind: ", ".join(names) for kind, names in self._simulator.contents().items()}
        shown |= self._simulator.by_other_means
        self._say("kinds, and the examples of each:")
        for kind in filter(shown.get, Content):
            self._say(f"  {kind}: {shown[kind]}")

    async def watch(self) -> None:
        """Print what is new on the screen, and what has changed."""
        while True:
            await self._simulator.until(lambda: any(self._is_news(one) for one in self._screen()), limit_s=FOR_EVER_S)
            for one in filter(self._is_news, self._screen()):
                self._said[one.id] = _words(one)
                self._say(self._said[one.id])

    def _screen(self) -> list[Shown]:
        return self._simulator.screen(self._simulator.dm)

    def _is_news(self, one: Shown) -> bool:
        return self._said.get(one.id) != _words(one)

    def _say(self, text: str) -> None:
        print(harmless(text), file=self._stdout, flush=True)


def _words(one: Shown) -> str:
    buttons = "".join(f" [{label}]" for label in one.buttons)
    file = f" ({one.file_name}, {len(one.file_bytes)} bytes)" if one.file_name else ""
    return f"bot: {one.text}{file}{buttons}"

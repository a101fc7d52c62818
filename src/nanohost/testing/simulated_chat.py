"""A platform on loopback with one person at this terminal: to try a channel without an account anywhere."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TextIO

from nanohost.cli.stdin_lines import read_lines
from nanohost.commands.tables import replace_control_chars
from nanohost.config.settings_file import to_toml
from nanohost.errors import UsageError
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator import ScreenMessage, Simulator
from nanohost.text.phrases import suggest_name

PACKAGE = "nanohost.testing.simulators"
NO_TIMEOUT_S = 10.0**8
HELP = "type a line to write it; /press LABEL presses a button of the last message; Ctrl-C ends"
SEND_HELP = "/send KIND sends what is more than words; /send alone lists what there is"


def find_simulator(name: str) -> Simulator:
    """The simulator of this platform. Raises UsageError."""
    known = simulator_names()
    if name not in known:
        raise UsageError(f"there is no simulator of {name[:40]!r}", hint=suggest_name(name, known))
    simulator: Simulator = importlib.import_module(f"{PACKAGE}.{name}").SIMULATOR()
    return simulator


def make_interactive_simulator(name: str, now: datetime) -> Simulator:
    """The same for somebody who tries a channel: in the same home perhaps as before, so its ids are of this moment.
    Raises UsageError."""
    simulator = find_simulator(name)
    simulator.id_offset = int(now.timestamp() * 1000)  # fewer than a thousand ids a second are made
    return simulator


def simulator_names() -> list[str]:
    """The platforms that have one. Read, not imported: a simulator may need a library that is not there."""
    folder = Path(next(iter(importlib.import_module(PACKAGE).__path__)))
    return sorted(path.stem for path in folder.glob("[!_]*.py") if "\nSIMULATOR = " in path.read_text(encoding="utf-8"))


async def serve_terminal(simulator: Simulator, stdin: TextIO, stdout: TextIO) -> int:
    """Serve until there are no more lines, or for ever. Returns how many were written."""
    conversation = _Conversation(simulator, stdout)
    written = 0
    async with simulator.running():
        conversation.print_instructions()
        watching = asyncio.create_task(conversation.print_changes(), name="screen")
        try:
            async for line in read_lines(stdin):
                written += await conversation.handle_line(line)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    return written


class _Conversation:
    """One person in one chat."""

    def __init__(self, simulator: Simulator, stdout: TextIO) -> None:
        self._simulator = simulator
        self._stdout = stdout
        self._printed: dict[str, str] = {}

    def print_instructions(self) -> None:
        name = self._simulator.name
        self._print(f"A simulated {name}. Put this into nanohost.toml:\n")
        self._print(to_toml(("channels", name), self._simulator.settings()))
        self._print(f"nanohost run\nnanohost pair {name}  # and type its code here: it makes you the owner\n\n{HELP}\n")
        if self._simulator.example_names():
            self._print(SEND_HELP + "\n")

    async def handle_line(self, line: str) -> bool:
        """What the person typed. False: it was no message."""
        word, _, label = line.strip().partition(" ")
        if word == "/send" and self._simulator.example_names():
            return await self._send(label.strip())
        if word != "/press":
            if line.strip():
                await self._simulator.write(self._simulator.dm, line)
            return bool(line.strip())
        card = next((one for one in reversed(self._messages()) if label in one.buttons), None)
        if card is None:
            self._print(f"no message has a button {label!r}")
            return False
        await self._simulator.press(card, label)
        return True

    async def _send(self, kind: str) -> bool:
        """An example by its name, or all of a kind."""
        if not kind:
            self._list_examples()
            return False
        examples = [kind] if kind in self._simulator.example_names() else self._examples_of(kind)
        if not examples:
            self._print(f"there is nothing called {kind[:40]!r} to send: /send alone lists what there is")
            return False
        for example in examples:
            await self._simulator.send_named_example(example, self._simulator.dm)
        return True

    def _examples_of(self, kind: str) -> Sequence[str]:
        return next((names for one, names in self._simulator.content_examples().items() if one == kind), ())

    def _list_examples(self) -> None:
        shown = {kind: ", ".join(names) for kind, names in self._simulator.content_examples().items()}
        shown |= self._simulator.other_inputs
        self._print("kinds, and the examples of each:")
        for kind in filter(shown.get, ContentKind):
            self._print(f"  {kind}: {shown[kind]}")

    async def print_changes(self) -> None:
        """Print what is new on the screen, and what has changed."""
        while True:
            await self._simulator.wait_until(
                lambda: any(self._has_changed(one) for one in self._messages()), timeout_s=NO_TIMEOUT_S
            )
            for one in filter(self._has_changed, self._messages()):
                self._printed[one.id] = _format_message(one)
                self._print(self._printed[one.id])

    def _messages(self) -> list[ScreenMessage]:
        return self._simulator.screen(self._simulator.dm)

    def _has_changed(self, one: ScreenMessage) -> bool:
        return self._printed.get(one.id) != _format_message(one)

    def _print(self, text: str) -> None:
        print(replace_control_chars(text), file=self._stdout, flush=True)


def _format_message(one: ScreenMessage) -> str:
    buttons = "".join(f" [{label}]" for label in one.buttons)
    file = f" ({one.file_name}, {len(one.file_bytes)} bytes)" if one.file_name else ""
    return f"bot: {one.text}{file}{buttons}"

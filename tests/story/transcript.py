"""What people see, scene by scene, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from nanohost.cli.wrapping import wrap_lines
from nanohost.testing.simulator import BOT, Person, ScreenMessage
from tests.story.machine import COLUMNS
from tests.story.placeholders import Placeholders

ELLIPSIS = "…"
"""Marks lines that were left out because they were shown before."""


class Transcript:
    """Screens that follow each other without text between them are one block."""

    def __init__(self, placeholders: Placeholders) -> None:
        self._placeholders = placeholders
        self._lines: list[str] = []
        self._block: list[str] = []
        self._seen: dict[str, str] = {}

    def text(self) -> str:
        """The whole transcript."""
        self._end_block()
        return "\n".join(self._lines).strip("\n")

    def add_scene(self, title: str, words: str) -> None:
        self._end_block()
        self._lines += [f"### {title}", "", words, ""]

    def add_text(self, words: str) -> None:
        """A sentence between two screens."""
        self._end_block()
        self._lines += [words, ""]

    def add_terminal(self, typed: str, screen: str = "") -> None:
        """A command, and its output."""
        self._add([*self._always(f"$ {typed}"), *self._always(screen)])

    def add_later_terminal(self, screen: str, begin: str) -> None:
        """The same terminal some time later, from the line that begins so."""
        lines = self._always(screen)
        self._add([ELLIPSIS, *lines[next(at for at, line in enumerate(lines) if line.startswith(begin)) :]])

    def add_status(self, screen: str) -> None:
        """The status from the first problem on; the whole of it was shown once."""
        lines = self._always(screen)
        begin = next((at for at, line in enumerate(lines) if "   → " in line or line == "All is well."), 0)
        self._add(["$ nanohost status", ELLIPSIS, *lines[begin:]])

    def add_phone(self, person: Person, shown: Sequence[ScreenMessage]) -> None:
        """New and changed messages on somebody's screen."""
        lines = []
        for one in shown:
            words = _words(one)
            if self._seen.get(one.id) == words:
                continue
            changed = " (changed)" if one.id in self._seen else ""
            self._seen[one.id] = words
            who = "bot" if one.sender == BOT else person.name
            first, *others = self._always(words)
            lines += [f"{who}{changed}: {first}", *(f"     {line}".rstrip() for line in others)]
        assert lines, f"nothing is new on the phone of {person.name}"
        self._end_block()
        self._add([f"Telegram, on the phone of {person.name}", "", *lines])
        self._end_block()

    def mark_seen(self, shown: Sequence[ScreenMessage]) -> None:
        """Ignore what is on a screen before the story begins."""
        self._seen |= {one.id: _words(one) for one in shown}

    def _always(self, screen: str) -> list[str]:
        return wrap_lines(self._placeholders.apply(screen.strip("\n")).splitlines(), COLUMNS)

    def _add(self, lines: Sequence[str]) -> None:
        self._block += [*([""] if self._block else []), *lines]

    def _end_block(self) -> None:
        if self._block:
            self._lines += ["```text", *self._block, "```", ""]
        self._block = []


def _words(shown: ScreenMessage) -> str:
    return shown.text + "".join(f"\n[{label}]" for label in shown.buttons)

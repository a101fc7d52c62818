"""What one run of a turn sends: rows with ids that come out the same when the turn is run again.

A tool's message is committed at once; the messages of the answer wait for the turn's end and are committed with it.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from agent_runner.destinations import Address, AddressBook, Origin, Unreachable, address, bare_address
from agent_runner.mailbox import Mailbox
from agent_runner.markup import clean
from agent_runner.reply import Block
from nanohost_protocol.ids import out_id
from nanohost_protocol.layout import SessionLayout
from nanohost_protocol.payloads import ChatOut, FileOut, OutPayload, QuestionOut, encode
from nanohost_protocol.rows import MessageIn, NewMessageOut, OutKind

LONGEST_TEXT = 300_000
"""Characters of one message. Even if each is escaped in the worst way, its row stays below MAX_CONTENT_BYTES."""

Now = Callable[[], datetime]


class NotSent(Exception):
    """A message of the agent cannot go out; the text tells the agent why."""


class Outbox:
    """One attempt of one turn. It is told what is being answered by `hear`."""

    def __init__(self, *, turn_id: str, mailbox: Mailbox, layout: SessionLayout, book: AddressBook, now: Now) -> None:
        self._turn_id = turn_id
        self._mailbox = mailbox
        self._layout = layout
        self._now = now
        self._occurrences: Counter[tuple[str, str, str]] = Counter()
        self._heard: list[MessageIn] = []
        self.book = book
        self.said: set[str] = set()
        """Ids of rows that earlier attempts have committed."""

    def hear(self, messages: tuple[MessageIn, ...]) -> None:
        """These are being answered now, too."""
        self._heard += messages

    def origin(self, answering: Sequence[MessageIn] = ()) -> Origin:
        """What an answer refers to: these messages of the turn, or else all of them."""
        return Origin(answering or self._heard, turn=self._heard)

    def answer(self, block: Block, origin: Origin) -> NewMessageOut | Unreachable:
        """A block of the answer as a row, or why it cannot be one."""
        where = address(block.to, block.answers, book=self.book, origin=origin)
        return where if isinstance(where, Unreachable) else self._compose(block.text, where)

    def bare(self, text: str, origin: Origin) -> NewMessageOut | Unreachable:
        """Text outside of blocks as a row, or why it cannot be one."""
        where = bare_address(book=self.book, origin=origin)
        return where if isinstance(where, Unreachable) else self._compose(text, where)

    async def say(self, text: str, *, to: str | None = None, re: int | None = None) -> bool:
        """Send text now. False if this turn sent it before. Raises NotSent."""
        return await self._commit(OutKind.CHAT, ChatOut(text=_fit(text)), to, re)

    async def ask(self, text: str, options: tuple[str, ...], *, to: str | None = None, re: int | None = None) -> bool:
        """Send a question with choices now; the answer comes as a message. Raises NotSent."""
        return await self._commit(OutKind.QUESTION, QuestionOut(text=_fit(text), options=options), to, re)

    async def send_file(self, name: str, data: bytes, *, caption: str = "", re: int | None = None) -> bool:
        """Send a file now, by bare name. Raises NotSent."""
        if "/" in name or name in {"", ".", ".."}:
            raise NotSent(f"{name!r} is not a bare file name.")
        row = self._row(OutKind.FILE, FileOut(name=name, caption=clean(caption)), self._address(None, re))
        if row.id in self.said:
            return False
        # The file is on disk before the row that names it, so the host never finds one without the other.
        await asyncio.to_thread(_write, self._layout.out_dir / "outbox" / row.id, name, data)
        return await self._mailbox.say(row, self._now())

    async def _commit(self, kind: OutKind, payload: OutPayload, to: str | None, re: int | None) -> bool:
        return await self._mailbox.say(self._row(kind, payload, self._address(to, re)), self._now())

    def _address(self, to: str | None, re: int | None) -> Address:
        where = address(to, re, book=self.book, origin=self.origin())
        if isinstance(where, Unreachable):
            raise NotSent(where.problem)
        return where

    def _compose(self, text: str, where: Address) -> NewMessageOut:
        """A message of the answer: to be committed with the turn's end."""
        return self._row(OutKind.CHAT, ChatOut(text=_fit(text)), where)

    def _row(self, kind: OutKind, payload: OutPayload, where: Address) -> NewMessageOut:
        content = encode(payload)
        key = (str(kind), where.destination or "", content)
        occurrence = self._occurrences[key]
        self._occurrences[key] += 1
        return NewMessageOut(
            id=out_id(turn=self._turn_id, kind=key[0], destination=key[1], content=content, occurrence=occurrence),
            turn_id=self._turn_id,
            kind=kind,
            content=content,
            in_reply_to=where.in_reply_to,
            destination=where.destination,
        )


def _fit(text: str) -> str:
    """Text that a row can carry."""
    text = clean(text)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _write(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

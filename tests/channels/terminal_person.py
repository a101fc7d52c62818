"""Somebody at a terminal, as the channel's protocol describes the client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from channels.terminal import MAX_LINE_BYTES
from nanohost.short_socket import short_path
from nanohost.testing.limits import HANG_S, seconds


class TerminalPerson:
    """A client that reads all the time. What it saw outlives its connection, as a screen does."""

    def __init__(self, socket_path: Path, *, chat: str = "local", user: str = "ann") -> None:
        self.screen: list[str] = []
        self.keys: list[str] = []
        """Keys of the messages that came, repeats included."""
        self.accepted: list[str] = []
        self.errors: list[str] = []
        self.typings = 0
        self.seen: list[dict[str, object]] = []
        """Every line that came."""
        self.says_received = True
        self._path = socket_path
        self._hello = {"type": "hello", "chat": chat, "user": user}
        self._ready = 0
        self._reading: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._changed = asyncio.Condition()

    async def arrive(self) -> None:
        """Connect and say hello."""
        await self.leave()
        with short_path(self._path) as short:
            reader, self._writer = await asyncio.open_unix_connection(short, limit=MAX_LINE_BYTES)
        self._reading = asyncio.create_task(self._read(reader), name="terminal person")
        await self.settle()

    async def leave(self) -> None:
        """Hang up, and wait until the host has hung up too."""
        if self._writer is not None and self._reading is not None:
            if self._writer.can_write_eof() and not self._writer.is_closing():
                self._writer.write_eof()
            await self._reading
            self._writer.close()
            await self._writer.wait_closed()
        self._writer = self._reading = None

    async def settle(self) -> None:
        """Lines keep their order: once the answer to another hello is here, so is all that was said before."""
        wanted = self._ready + 1
        self.tell(self._hello)
        await self.until(lambda: self._ready >= wanted)

    def writes(self, text: str, message_id: str) -> None:
        self.tell({"type": "message", "id": message_id, "text": text})

    def tell(self, line: object) -> None:
        self.tell_bytes(json.dumps(line).encode() + b"\n")

    def tell_bytes(self, line: bytes) -> None:
        assert self._writer is not None
        self._writer.write(line)

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(seconds(HANG_S)), self._changed:
            await self._changed.wait_for(happened)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._take(json.loads(line))
            async with self._changed:
                self._changed.notify_all()

    def _take(self, said: dict[str, str]) -> None:
        self.seen.append(dict(said))
        match said["type"]:
            case "ready":
                self._ready += 1
            case "accepted":
                self.accepted.append(said["id"])
            case "typing":
                self.typings += 1
            case "error":
                self.errors.append(said["text"])
            case "message":
                if said["key"] not in self.keys:
                    self.screen.append(said["text"])
                self.keys.append(said["key"])
                if self.says_received:
                    self.tell({"type": "received", "key": said["key"]})

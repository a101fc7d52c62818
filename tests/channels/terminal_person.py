"""A client of the terminal channel's protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from channels.terminal import MAX_LINE_BYTES
from nanohost.net.socket_path import short_socket_path
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout


class TerminalTestClient:
    """A client that reads all the time. What it received outlives its connection, as on a screen."""

    def __init__(self, socket_path: Path, *, chat: str = "local", user: str = "ann") -> None:
        self.screen: list[str] = []
        self.keys: list[str] = []
        """Keys of the messages that came, repeats included."""
        self.accepted: list[str] = []
        self.errors: list[str] = []
        self.typings = 0
        self.seen: list[dict[str, object]] = []
        """Every line that came."""
        self.should_acknowledge = True
        self._path = socket_path
        self._hello = {"type": "hello", "chat": chat, "user": user}
        self._ready = 0
        self._reading: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._changed = asyncio.Condition()

    async def connect(self) -> None:
        """Connect and say hello."""
        await self.disconnect()
        with short_socket_path(self._path) as short:
            reader, self._writer = await asyncio.open_unix_connection(short, limit=MAX_LINE_BYTES)
        self._reading = asyncio.create_task(self._read(reader), name="terminal person")
        await self.flush()

    async def disconnect(self) -> None:
        """Disconnect, and wait until the host has closed the connection too."""
        if self._writer is not None and self._reading is not None:
            if self._writer.can_write_eof() and not self._writer.is_closing():
                self._writer.write_eof()
            await self._reading
            self._writer.close()
            await self._writer.wait_closed()
        self._writer = self._reading = None

    async def flush(self) -> None:
        """Lines keep their order: once a second hello is answered, every earlier line has arrived."""
        wanted = self._ready + 1
        self.send_line(self._hello)
        await self.wait_until(lambda: self._ready >= wanted)

    def send_message(self, text: str, message_id: str) -> None:
        self.send_line({"type": "message", "id": message_id, "text": text})

    def send_line(self, line: object) -> None:
        self.send_bytes(json.dumps(line).encode() + b"\n")

    def send_bytes(self, line: bytes) -> None:
        assert self._writer is not None
        self._writer.write(line)

    async def wait_until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), self._changed:
            await self._changed.wait_for(happened)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._handle_line(json.loads(line))
            async with self._changed:
                self._changed.notify_all()

    def _handle_line(self, said: dict[str, str]) -> None:
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
                if self.should_acknowledge:
                    self.send_line({"type": "received", "key": said["key"]})

"""The other end of the wire: people who write and count what reaches them. It outlives every host.

It behaves as a good platform does: a message is delivered again until it is acknowledged, and two sends under one key
are one message. Everything that happened is kept, so a test can ask what was lost and what came twice.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Platform:
    """`seen` is what people see, in order, as (chat, text); `sends` counts how often each key was sent."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[tuple[str, str]] = []
        self.sends: Counter[str] = Counter()
        self.acknowledged: set[str] = set()
        self._messages: dict[str, dict[str, str]] = {}
        self._keys: dict[str, str] = {}
        self._wires: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Platform]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for wire in list(self._wires):
                wire.close()

    def write(self, id: str, chat: str, text: str) -> None:
        """Somebody writes; if nobody is connected it waits for the next connection."""
        self._messages[id] = {"id": id, "chat": chat, "text": text}
        for wire in self._wires:
            wire.write(json.dumps(self._messages[id]).encode() + b"\n")

    async def until_seen(self, count: int, timeout_s: float) -> None:
        """Wait until people have seen so many messages. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(self.seen) >= count)

    def seen_counts(self) -> Counter[tuple[str, str]]:
        return Counter(self.seen)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._wires.add(writer)
        for id, message in self._messages.items():
            if id not in self.acknowledged:
                writer.write(json.dumps(message).encode() + b"\n")
        try:
            while line := await reader.readline():
                if line.endswith(b"\n"):
                    await self._hear(json.loads(line), writer)
        except ConnectionError:
            pass
        finally:
            self._wires.discard(writer)
            writer.close()

    async def _hear(self, message: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if "ack" in message:
            self.acknowledged.add(message["ack"])
            return
        key = message["send"]
        self.sends[key] += 1
        async with self._changed:
            if key not in self._keys:
                self._keys[key] = f"p{len(self._keys)}"
                self.seen.append((message["chat"], message["text"]))
            self._changed.notify_all()
        writer.write(json.dumps({"sent": key, "id": self._keys[key]}).encode() + b"\n")

"""The other end of the wire: people who write and count what reaches them. It outlives every host.

A message is delivered again until it is acknowledged. Two sends under one key are one message where the channel says
that the platform is idempotent; elsewhere people see both. Everything that happened is kept, so a test can ask what
was lost and what came twice.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from nanohost.testing.time_limits import scaled_timeout
from tests.crash.fault_profiles import FaultKind, no_faults


@dataclass(frozen=True, slots=True)
class DeliveredCopy:
    """One message as people see it, and its key. `edits`: its later texts."""

    chat: str
    text: str
    key: str
    buttons: bool = False
    edits: list[str] = field(default_factory=list)


class FakePlatform:
    """`seen` is what people see, in order; `sends` counts the sends of each key, seen or not."""

    def __init__(self, fault_for_send: Callable[[], FaultKind] = no_faults) -> None:
        """`fault_for_send` chooses the response to each send."""
        self._fault_for_send = fault_for_send
        self.port = 0
        self.fault_counts: Counter[FaultKind] = Counter()
        self.seen: list[DeliveredCopy] = []
        self.sends: Counter[str] = Counter()
        self.acknowledged: set[str] = set()
        self.on_card: Callable[[DeliveredCopy, Sequence[Mapping[str, str]]], None] | None = None
        """The reader of cards, called with each new card and its buttons."""
        self._texts: set[tuple[str, str]] = set()
        self._messages: dict[str, dict[str, object]] = {}
        self._keys: dict[str, str] = {}
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[FakePlatform]:
        server = await asyncio.start_server(self._on_connect, "127.0.0.1", 0, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for wire in list(self._connections):
                wire.close()
            await asyncio.gather(*self._connections.values())

    def write(self, id: str, chat: str, text: str, **more: object) -> None:
        """Somebody writes; without a connection it waits for the next one. `more`: sender, group, and the value of a
        pressed button."""
        self._messages[id] = {"id": id, "chat": chat, "text": text, **more}
        for wire in self._connections:
            wire.write(json.dumps(self._messages[id]).encode() + b"\n")

    async def wait_until_seen(self, wanted: set[tuple[str, str]], timeout_s: float | None = None) -> None:
        """Wait until people have seen these (chat, text). Raises TimeoutError, unless no limit is given."""
        async with asyncio.timeout(None if timeout_s is None else scaled_timeout(timeout_s)), self._changed:
            await self._changed.wait_for(lambda: wanted <= self._texts)

    def unacknowledged(self) -> int:
        """The number of events without an acknowledgement."""
        return len(self._messages.keys() - self.acknowledged)

    def texts(self) -> Counter[tuple[str, str]]:
        """How often each (chat, text) was seen."""
        return Counter((copy.chat, copy.text) for copy in self.seen)

    def _on_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections[writer] = asyncio.create_task(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for id, message in self._messages.items():
            if id not in self.acknowledged:
                writer.write(json.dumps(message).encode() + b"\n")
        try:
            while line := await reader.readline():
                if line.endswith(b"\n"):
                    await self._handle_message(json.loads(line), writer)
        except ConnectionError:
            pass
        finally:
            self._connections.pop(writer, None)
            writer.close()

    async def _handle_message(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if "ack" in message:
            self.acknowledged.add(message["ack"])
            return
        if "edit" in message:
            number = int(message["edit"].removeprefix("p"))
            self.seen[number].edits.append(message["text"])
            writer.write(json.dumps({"sent": message["key"], "id": message["edit"]}).encode() + b"\n")
            return
        key = message["send"]
        self.sends[key] += 1
        mood = self._fault_for_send()
        self.fault_counts[mood] += 1
        if mood not in (FaultKind.LIMITED, FaultKind.SERVER_ERROR, FaultKind.HANG):
            await self._deliver(message)
        match mood:
            case FaultKind.NONE:
                writer.write(json.dumps({"sent": key, "id": self._keys[key]}).encode() + b"\n")
            case FaultKind.RESET:
                writer.transport.abort()
            case FaultKind.LIMITED | FaultKind.SERVER_ERROR | FaultKind.SERVER_ERROR_AFTER_EFFECT:
                writer.write(json.dumps({"failed": key, "limited": mood is FaultKind.LIMITED}).encode() + b"\n")

    async def _deliver(self, message: dict[str, Any]) -> None:
        key, buttons = message["send"], message.get("buttons")
        async with self._changed:
            first = key not in self._keys
            if first or not message["once"]:
                self._keys[key] = f"p{len(self.seen)}"
                self.seen.append(DeliveredCopy(message["chat"], message["text"], key, bool(buttons)))
                self._texts.add((message["chat"], message["text"]))
            self._changed.notify_all()
        if first and buttons and self.on_card is not None:
            self.on_card(self.seen[-1], buttons)

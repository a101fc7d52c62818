"""The person's end of the terminal channel: a connection that comes back, and messages that are shown once.

The protocol is that of channels/terminal.py. What was not accepted when a connection broke is said again under the
same id; what was shown before is acknowledged again and not shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nanohost.cli.status_line import Doing
from nanohost.commands.context import local_user
from nanohost.commands.show import harmless
from nanohost.short_socket import short_path
from nanohost.store import audit

LONGEST_LINE = 8 * 1024 * 1024
RECONNECT_PAUSE_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Something to show: a reply, or a sentence about what we said."""

    text: str
    reply_to: str | None = None
    is_error: bool = False
    agent: str | None = None
    """Whose words they are, "" for the host's own; None: a host of before tells nothing."""
    is_trouble: bool = False
    """The host says that something went wrong, or does not go on."""
    at: datetime | None = None
    """When it was to be said; None: a host of before tells nothing."""


class TerminalClient:
    """`on_shown` is called for each message once, `on_line` when the host has gone (False) and is back (True),
    `on_typing` each time that the host says that an agent is at work, with what it says of that."""

    def __init__(
        self,
        socket: Path,
        chat: str,
        on_shown: Callable[[Shown], None],
        on_line: Callable[[bool], None] = lambda _: None,
        on_typing: Callable[[Doing], None] = lambda _: None,
    ) -> None:
        self._socket = socket
        self._chat = chat
        self._on_shown = on_shown
        self._on_line = on_line
        self._on_typing = on_typing
        self._unaccepted: dict[str, str] = {}
        self._keys: set[str] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._ready = asyncio.Event()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Stay connected while entered. Raises OSError if nobody answers at first."""
        reader = await self._connect()
        reading = asyncio.create_task(self._stay(reader), name="terminal client")
        try:
            await self._ready.wait()
            yield
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self._hang_up()

    def say(self, text: str) -> str:
        """Send a message; returns its id. Ids sort in the order in which they were made."""
        id = f"{time.time_ns():020d}-{secrets.token_hex(3)}"
        self._unaccepted[id] = text
        self._write({"type": "message", "id": id, "text": text})
        return id

    @property
    def unaccepted(self) -> Set[str]:
        """Ids of what was said and no host has on disk yet."""
        return self._unaccepted.keys()

    @property
    def is_connected(self) -> bool:
        """Whether a host is there."""
        return self._writer is not None

    async def _connect(self) -> asyncio.StreamReader:
        with short_path(self._socket) as path:
            reader, self._writer = await asyncio.open_unix_connection(path, limit=LONGEST_LINE)
        self._write({"type": "hello", "chat": self._chat, "user": _user()})
        for id, text in self._unaccepted.items():
            self._write({"type": "message", "id": id, "text": text})
        return reader

    async def _stay(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                while line := await reader.readline():
                    self._take(json.loads(line))
            except (ConnectionError, ValueError):
                pass
            self._on_line(False)
            reader = await self._reconnect()
            self._on_line(True)

    async def _reconnect(self) -> asyncio.StreamReader:
        await self._hang_up()
        while True:
            await asyncio.sleep(RECONNECT_PAUSE_S)
            try:
                return await self._connect()
            except OSError:
                continue  # the host is being restarted

    async def _hang_up(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _take(self, said: dict[str, Any]) -> None:
        match said.get("type"):
            case "ready":
                self._ready.set()
            case "accepted":
                self._unaccepted.pop(said["id"], None)
            case "message":
                if said["key"] not in self._keys:
                    self._keys.add(said["key"])
                    self._on_shown(
                        Shown(
                            text=said["text"],
                            reply_to=said.get("reply_to"),
                            agent=said.get("agent"),
                            is_trouble=said.get("trouble") is True,
                            at=_time(said.get("at")),
                        )
                    )
                self._write({"type": "received", "key": said["key"]})
            case "typing":
                self._on_typing(_doing(said))
            case "error":
                self._on_shown(Shown(text=said["text"], is_error=True))

    def _write(self, line: dict[str, str]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(line).encode() + b"\n")


def _doing(said: dict[str, Any]) -> Doing:
    """What a host says that an agent does; one of before says nothing of it."""
    return Doing(
        heard_at=time.monotonic(),
        for_s=_number(said.get("for_s")),
        tool=harmless(str(said.get("tool", ""))),
        tool_for_s=_number(said.get("tool_for_s")),
        for_person=said.get("for_person") is True,
    )


def _time(value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return at if at.tzinfo else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _user() -> str:
    """As the system calls whoever runs this, not their environment: by that name they are the owner."""
    who = local_user(os.geteuid())
    return audit.local_name(who) or who

"""Connects to the terminal channel: reconnects, and shows each message once.

The protocol is that of channels/terminal.py. Messages that were not accepted when a connection broke are sent again
with the same id; a message that was shown before is acknowledged again and not shown.
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

from nanohost.cli.status_line import AgentActivity
from nanohost.commands.context import local_user_id
from nanohost.commands.tables import replace_control_chars
from nanohost.db import audit
from nanohost.net.socket_path import short_socket_path

MAX_LINE_BYTES = 8 * 1024 * 1024
RECONNECT_DELAY_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalMessage:
    """A message to show: a reply, or a sentence about a sent message."""

    text: str
    reply_to: str | None = None
    is_error: bool = False
    agent: str | None = None
    """The agent that sent it, "" for the host; None from an older host."""
    is_failure: bool = False
    """The host reports a failure."""
    created_at: datetime | None = None
    """When it was created; None from an older host."""


class TerminalClient:
    """The client. `on_message` is called once for each message, `on_connection_change` when the host is gone (False) or
    back (True), `on_typing` for each report that an agent is working."""

    def __init__(
        self,
        socket: Path,
        chat: str,
        on_message: Callable[[TerminalMessage], None],
        on_connection_change: Callable[[bool], None] = lambda _: None,
        on_typing: Callable[[AgentActivity], None] = lambda _: None,
    ) -> None:
        self._socket = socket
        self._chat = chat
        self._on_message = on_message
        self._on_connection_change = on_connection_change
        self._on_typing = on_typing
        self._unaccepted: dict[str, str] = {}
        self._seen_keys: set[str] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._ready = asyncio.Event()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Stays connected while entered. Raises OSError if the first connection fails."""
        reader = await self._connect()
        reading = asyncio.create_task(self._read_loop(reader), name="terminal client")
        try:
            await self._ready.wait()
            yield
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self._close()

    def send(self, text: str) -> str:
        """Sends a message; returns its id. Ids sort in the order of creation."""
        id = f"{time.time_ns():020d}-{secrets.token_hex(3)}"
        self._unaccepted[id] = text
        self._write({"type": "message", "id": id, "text": text})
        return id

    @property
    def unaccepted(self) -> Set[str]:
        """The ids of sent messages that the host has not accepted yet."""
        return self._unaccepted.keys()

    @property
    def is_connected(self) -> bool:
        """Whether a host is connected."""
        return self._writer is not None

    async def _connect(self) -> asyncio.StreamReader:
        with short_socket_path(self._socket) as path:
            reader, self._writer = await asyncio.open_unix_connection(path, limit=MAX_LINE_BYTES)
        self._write({"type": "hello", "chat": self._chat, "user": _local_user_name()})
        for id, text in self._unaccepted.items():
            self._write({"type": "message", "id": id, "text": text})
        return reader

    async def _read_loop(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                while line := await reader.readline():
                    self._handle_line(json.loads(line))
            except (ConnectionError, ValueError):
                pass
            self._on_connection_change(False)
            reader = await self._reconnect()
            self._on_connection_change(True)

    async def _reconnect(self) -> asyncio.StreamReader:
        await self._close()
        while True:
            await asyncio.sleep(RECONNECT_DELAY_S)
            try:
                return await self._connect()
            except OSError:
                continue  # the host is being restarted

    async def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _handle_line(self, line: dict[str, Any]) -> None:
        match line.get("type"):
            case "ready":
                self._ready.set()
            case "accepted":
                self._unaccepted.pop(line["id"], None)
            case "message":
                if line["key"] not in self._seen_keys:
                    self._seen_keys.add(line["key"])
                    self._on_message(
                        TerminalMessage(
                            text=line["text"],
                            reply_to=line.get("reply_to"),
                            agent=line.get("agent"),
                            is_failure=line.get("trouble") is True,
                            created_at=_parse_time(line.get("at")),
                        )
                    )
                self._write({"type": "received", "key": line["key"]})
            case "typing":
                self._on_typing(_parse_activity(line))
            case "error":
                self._on_message(TerminalMessage(text=line["text"], is_error=True))

    def _write(self, line: dict[str, str]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(line).encode() + b"\n")


def _parse_activity(line: dict[str, Any]) -> AgentActivity:
    """Parses a report about an agent's work; an older host sends no details."""
    return AgentActivity(
        received_at=time.monotonic(),
        elapsed_s=_parse_number(line.get("for_s")),
        tool=replace_control_chars(str(line.get("tool", ""))),
        tool_elapsed_s=_parse_number(line.get("tool_for_s")),
        is_waiting_for_user=line.get("for_person") is True,
    )


def _parse_time(value: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return at if at.tzinfo else None


def _parse_number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _local_user_name() -> str:
    """Returns the system's name of the user, not the environment's: that user is the owner."""
    who = local_user_id(os.geteuid())
    return audit.local_name(who) or who

"""The client of the terminal channel: messages are shown once, and none is lost when the host restarts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from nanohost.cli.terminal_client import TerminalClient, TerminalMessage
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout


class Host:
    """The host's end of the protocol, line by line."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self.connections: asyncio.Queue[Connection] = asyncio.Queue()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._welcome, self._socket)
        async with server:
            yield
        self._socket.unlink(missing_ok=True)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.connections.put(Connection(reader, writer))

    async def greeted(self) -> Connection:
        """The next client, after its hello."""
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            connection = await self.connections.get()
        assert (await connection.hears())["type"] == "hello"
        connection.says(type="ready")
        return connection


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def hears(self) -> Any:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            return json.loads(await self._reader.readline())

    def says(self, **line: str | None) -> None:
        self._writer.write(json.dumps(line).encode() + b"\n")

    async def breaks(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path / "terminal.sock")
    async with host.listening():
        yield host


@asynccontextmanager
async def talking(
    host: Host, tmp_path: Path, shown: list[TerminalMessage]
) -> AsyncIterator[tuple[TerminalClient, Connection]]:
    client = TerminalClient(tmp_path / "terminal.sock", "local", shown.append)
    greeted = asyncio.create_task(host.greeted())
    async with client.connected():
        connection = await greeted
        yield client, connection
        await connection.breaks()


async def test_a_message_is_shown_once_and_acknowledged_each_time(host: Host, tmp_path: Path) -> None:
    shown: list[TerminalMessage] = []
    async with talking(host, tmp_path, shown) as (_, connection):
        for _ in range(2):
            connection.says(type="message", key="k1", text="hello", reply_to=None)
            assert await connection.hears() == {"type": "received", "key": "k1"}
    assert shown == [TerminalMessage(text="hello")]


async def test_message_ids_sort_in_the_order_of_sending(host: Host, tmp_path: Path) -> None:
    async with talking(host, tmp_path, []) as (client, _):
        ids = [client.send(str(number)) for number in range(50)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 50


async def test_an_unaccepted_message_is_sent_again_under_the_same_id(host: Host, tmp_path: Path) -> None:
    async with talking(host, tmp_path, []) as (client, connection):
        kept, lost = client.send("kept"), client.send("lost")
        assert [(await connection.hears())["id"] for _ in range(2)] == [kept, lost]
        connection.says(type="accepted", id=kept)
        await connection.breaks()
        again = await host.greeted()
        assert await again.hears() == {"type": "message", "id": lost, "text": "lost"}
        await again.breaks()


async def test_a_message_sent_again_after_a_restart_is_not_shown_again(host: Host, tmp_path: Path) -> None:
    shown: list[TerminalMessage] = []
    async with talking(host, tmp_path, shown) as (_, connection):
        connection.says(type="message", key="k1", text="hello", reply_to="m1")
        await connection.hears()
        await connection.breaks()
        again = await host.greeted()
        again.says(type="message", key="k1", text="hello", reply_to="m1")
        assert await again.hears() == {"type": "received", "key": "k1"}
        await again.breaks()
    assert shown == [TerminalMessage(text="hello", reply_to="m1")]


async def test_a_host_missing_at_first_is_an_error(tmp_path: Path) -> None:
    client = TerminalClient(tmp_path / "terminal.sock", "local", lambda _: None)
    with pytest.raises(OSError, match="No such file"):
        async with client.connected():
            pass

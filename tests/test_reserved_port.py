"""Ports of tests and simulators are reserved, so that no other test can take them."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from nanohost.testing.reserved_port import ReservedPort


async def test_a_reserved_port_refuses_connections_unless_something_listens() -> None:
    port = ReservedPort()
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port.number)
        async with await asyncio.start_server(hang_up, "127.0.0.1", port.number):
            _, writer = await asyncio.open_connection("127.0.0.1", port.number)
            writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a port be held and listened at")
async def test_a_reserved_port_is_given_to_no_other_program() -> None:
    port = ReservedPort()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port.number))


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()

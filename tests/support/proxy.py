"""A proxy on loopback, HTTP and SOCKS5 on one port: every requested host is the platform on this machine."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

SOCKS5 = 5
USER_AND_PASSWORD = 2
IPV4 = 1


@dataclass
class StubProxy:
    """`requested_hosts`: the hosts, in order; `logins`: the credentials of SOCKS clients and HTTP clients."""

    should_refuse: bool = False
    requested_hosts: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    port: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        clients: set[asyncio.Task[None]] = set()

        def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            client = asyncio.ensure_future(self._serve(reader, writer))
            clients.add(client)
            client.add_done_callback(clients.discard)

        server = await asyncio.start_server(welcome, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                first = await reader.readexactly(1)
                if first[0] == SOCKS5:
                    await self._socks(reader, writer)
                else:
                    await self._http(first, reader, writer)
        finally:
            await _close(writer)

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """RFC 1928 and 1929."""
        [count] = await reader.readexactly(1)
        method = USER_AND_PASSWORD if USER_AND_PASSWORD in await reader.readexactly(count) else 0
        writer.write(bytes([SOCKS5, method]))
        if method:
            await reader.readexactly(1)
            user, password = [(await reader.readexactly((await reader.readexactly(1))[0])).decode() for _ in "up"]
            self.logins.append(f"{user}:{password}")
            writer.write(b"\x01\x00")
        *_, kind = await reader.readexactly(4)
        if kind == IPV4:
            name = ".".join(str(part) for part in await reader.readexactly(4))
        else:
            name = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        [port] = struct.unpack("!H", await reader.readexactly(2))
        self.requested_hosts.append(name)
        writer.write(bytes([SOCKS5, 2 if self.should_refuse else 0, 0, 1]) + bytes(6))
        if not self.should_refuse:
            await self._pipe(port, b"", reader, writer)

    async def _http(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """CONNECT, and requests with a whole address."""
        head = first + await reader.readuntil(b"\r\n\r\n")
        line, _, fields = head.partition(b"\r\n")
        method, target, _ = line.decode().split(" ")
        found = urlsplit(f"//{target}" if method == "CONNECT" else target)
        self.requested_hosts.append(found.hostname or "")
        self.logins += [one[22:].decode() for one in fields.split(b"\r\n") if one.lower().startswith(b"proxy-author")]
        if self.should_refuse:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        elif method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await self._pipe(found.port or 443, b"", reader, writer)
        else:
            await self._pipe(found.port or 80, head, reader, writer)

    async def _pipe(self, port: int, said: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        back.write(said)
        try:
            await asyncio.gather(_copy_stream(reader, back), _copy_stream(there, writer))
        finally:
            await _close(back)


async def _copy_stream(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(64 * 1024):
            sink.write(chunk)
            await sink.drain()
    with suppress(OSError, RuntimeError):
        sink.write_eof()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()

#!/usr/bin/env bash
# httpcore 1.0.9, under httpx 0.28.1: a connection to a SOCKS5 proxy that refuses the request (RFC 1928, reply 2) is left
# open when the error is raised, and also when the client is closed: it is nobody's, and ends when the collector finds it,
# or the proxy hangs up. A program that tries again for hours has one more open with each try. One that an HTTP proxy
# refuses is closed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    httpcore==1.0.9 httpx==0.28.1 socksio==1.0.0 anyio==4.16.0

"$folder/venv/bin/python" - <<'END_OF_PROGRAM'
import asyncio
import gc
import sys

import httpcore
import httpx

PATIENCE_S = 2.0


async def refuse_socks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(3)  # version, one method: none
    writer.write(b"\x05\x00")
    await reader.readexactly(4)
    await reader.readexactly((await reader.readexactly(1))[0] + 2)
    writer.write(b"\x05\x02\x00\x01" + bytes(6))


async def refuse_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


async def is_closed_by_the_client(kind: str) -> bool:
    refuse, ended = {"socks5": refuse_socks, "http": refuse_http}[kind], asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await refuse(reader, writer)
        if not await reader.read(1):
            ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(proxy=f"{kind}://127.0.0.1:{port}") as client:
        try:
            await client.get("https://platform.example/")
        except httpx.ProxyError:
            pass
    try:
        await asyncio.wait_for(ended.wait(), PATIENCE_S)
    except TimeoutError:
        return False
    return True


gc.disable()
seen = {kind: asyncio.run(is_closed_by_the_client(kind)) for kind in ("http", "socks5")}
print("httpcore", httpcore.__version__, "httpx", httpx.__version__)
print("the client has hung up, by the kind of proxy that refused it:", seen)
expected = seen == {"http": True, "socks5": False}
print("as found" if expected else "IT HAS CHANGED")
sys.exit(0 if expected else 1)
END_OF_PROGRAM

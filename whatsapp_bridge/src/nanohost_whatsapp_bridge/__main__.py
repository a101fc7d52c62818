"""`python -m nanohost_whatsapp_bridge`: started by the host, ends when its stdin does, however the host ended.

What libraries print goes to stderr: stdout carries lines of the protocol and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import BinaryIO

from nanohost_whatsapp_bridge.protocol import MAX_LINE_BYTES, Event, InvalidLine, Op, Open, State, encode, parse_op

INSTALL = "in a checkout of nanohost, `pip install -e whatsapp_bridge` installs the library"
CLOSE_TIMEOUT_S = 3.0


def main() -> None:
    lines = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    code = asyncio.run(_serve(StdoutWriter(lines)))
    # Without waiting for threads: those of the library end with the connection, and not always.
    sys.stderr.flush()
    os._exit(code)


class StdoutWriter:
    """Writes events for the host. Never raises: when the host has ended nobody reads, and stdin ends."""

    def __init__(self, lines: BinaryIO) -> None:
        self._lines = lines

    def write_event(self, event: Event) -> None:
        self.write_line(encode(event))

    def write_line(self, line: bytes) -> None:
        with suppress(OSError, ValueError):
            self._lines.write(line)
            self._lines.flush()


async def _serve(writer: StdoutWriter) -> int:
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    first = await _next_op(reader)
    if first is None:
        return 0
    if not isinstance(first, Open):
        sys.stderr.write("the first line has to be an open\n")
        return 2
    try:
        from nanohost_whatsapp_bridge.device import Device, SessionBusy
    except ImportError as error:
        writer.write_event(State(state="missing", text=f"{error}: {INSTALL}"))
        return 3
    try:
        device = Device(first, writer.write_event, writer.write_line)
    except SessionBusy as error:
        writer.write_event(State(state="busy", text=str(error)))
        return 4
    running = asyncio.create_task(device.run(), name="device")
    reading = asyncio.create_task(_read_ops(reader, device.handle), name="host")
    await asyncio.wait([running, reading], return_when=asyncio.FIRST_COMPLETED)
    failure = running.exception() if running.done() and not running.cancelled() else None
    if failure is not None:
        writer.write_event(State(state="down", text=f"{failure}"))
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await device.close()
    return 1 if running.done() else 0


async def _next_op(reader: asyncio.StreamReader) -> Op | None:
    """The next op; None when stdin has ended. Invalid lines are reported on stderr and skipped."""
    while True:
        try:
            line = await reader.readline()
        except ValueError:
            sys.stderr.write("a line was too long\n")
            continue
        if not line.endswith(b"\n"):
            return None
        try:
            return parse_op(line)
        except InvalidLine as error:
            sys.stderr.write(f"an invalid line: {error}\n")


async def _read_ops(reader: asyncio.StreamReader, handle: Callable[[Op], Awaitable[None]]) -> None:
    while (op := await _next_op(reader)) is not None:
        await handle(op)


if __name__ == "__main__":
    main()

"""`python -m nanohost.wa_bridge`: started by the host, ends when its stdin does, however the host ended.

What libraries print goes to stderr: stdout carries lines of the protocol and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import BinaryIO

from nanohost.wa_bridge.protocol import MAX_LINE_BYTES, BadLine, Event, Op, Open, State, encode, parse_op

INSTALL = "install the library for a linked device: pip install 'nanohost[whatsapp-linked]'"
GOODBYE_S = 3.0


def main() -> None:
    lines = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    code = asyncio.run(_serve(Mouth(lines)))
    # Without waiting for threads: those of the library end with the connection, and not always.
    sys.stderr.flush()
    os._exit(code)


class Mouth:
    """Says events to the host. Never raises: a host that is gone hears nothing, and stdin ends."""

    def __init__(self, lines: BinaryIO) -> None:
        self._lines = lines

    def say(self, event: Event) -> None:
        self.say_line(encode(event))

    def say_line(self, line: bytes) -> None:
        with suppress(OSError, ValueError):
            self._lines.write(line)
            self._lines.flush()


async def _serve(mouth: Mouth) -> int:
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    opening = await _next_op(reader)
    if opening is None:
        return 0
    if not isinstance(opening, Open):
        sys.stderr.write("the first line has to be an open\n")
        return 2
    try:
        from nanohost.wa_bridge.device import Device, SessionBusy
    except ImportError as error:
        mouth.say(State(state="missing", text=f"{error}: {INSTALL}"))
        return 3
    try:
        device = Device(opening, mouth.say, mouth.say_line)
    except SessionBusy as error:
        mouth.say(State(state="busy", text=str(error)))
        return 4
    running = asyncio.create_task(device.run(), name="device")
    listening = asyncio.create_task(_listen(reader, device.take), name="host")
    await asyncio.wait([running, listening], return_when=asyncio.FIRST_COMPLETED)
    failed = running.exception() if running.done() and not running.cancelled() else None
    if failed is not None:
        mouth.say(State(state="down", text=f"{failed}"))
    with suppress(Exception):
        async with asyncio.timeout(GOODBYE_S):
            await device.close()
    return 1 if running.done() else 0


async def _next_op(reader: asyncio.StreamReader) -> Op | None:
    """The next op; None when the host is gone. Lines that make no sense are told on stderr and skipped."""
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
        except BadLine as error:
            sys.stderr.write(f"a line made no sense: {error}\n")


async def _listen(reader: asyncio.StreamReader, take: Callable[[Op], Awaitable[None]]) -> None:
    while (op := await _next_op(reader)) is not None:
        await take(op)


if __name__ == "__main__":
    main()

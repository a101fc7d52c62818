"""Converts contents of WhatsApp messages with the code of the real bridge, in a process of the bridge's own."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import Mapping
from contextlib import suppress

from nanohost.errors import UsageError
from nanohost.testing.simulators._whatsapp_lines import MAX_LINE_BYTES, Message, parse_message

PACKAGE = "nanohost_whatsapp_bridge"
INSTALL = "pip install -e whatsapp_bridge"


class BridgeConverter:
    """Runs `python -m nanohost_whatsapp_bridge.convert` from the first conversion until it is closed."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._one_request = asyncio.Lock()

    @property
    def is_running(self) -> bool:
        return self._process is not None

    async def convert(self, request: Mapping[str, object]) -> Message | None:
        """The message that a device tells its host, None where it tells nothing. Raises UsageError where the bridge is
        not installed, RuntimeError when the process ends instead of answering: stderr has the reason."""
        async with self._one_request:
            process = self._process = self._process or await _start()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            try:
                answer = await process.stdout.readline()
            except BaseException:
                # The answer that comes now would be taken for that of the next request.
                await self._kill(process)
                raise
            if not answer:
                await self._kill(process)
                raise RuntimeError("the WhatsApp bridge's converter ended")
        return parse_message(answer)

    async def close(self) -> None:
        """End the process, which ends with its stdin."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            await process.wait()

    async def _kill(self, process: asyncio.subprocess.Process) -> None:
        self._process = None
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _start() -> asyncio.subprocess.Process:
    if importlib.util.find_spec(PACKAGE) is None:
        raise UsageError(
            "the simulator reads this kind of message with the code of the WhatsApp bridge, which is not installed",
            hint=f"in a checkout: {INSTALL}",
        )
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"{PACKAGE}.convert",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=MAX_LINE_BYTES,
    )

"""Sends a command to a running host, from an event loop or without one.

The blocking function loads neither asyncio nor a command, because the start of every short command waits for it.
"""

from __future__ import annotations

import json
import socket
import time

from nanohost.control.protocol import MAX_LINE_BYTES, decode_error, encode_request
from nanohost.errors import NanohostError
from nanohost.net.socket_path import short_socket_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from nanohost.config.home import Home

RESPONSE_TIMEOUT_S = 60.0
CHUNK_BYTES = 64 * 1024


class HostNotRunning(Exception):
    """No host answers on the control socket."""


async def send_command(home: Home, words: str, arguments: Mapping[str, object]) -> Any:
    """Returns the command's result. Raises HostNotRunning, or the command's own error."""
    import asyncio

    try:
        with short_socket_path(home.control_socket) as path:
            reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE_BYTES)
    except OSError:
        raise HostNotRunning from None
    try:
        writer.write(encode_request(words, arguments))
        async with asyncio.timeout(RESPONSE_TIMEOUT_S):
            line = await reader.readline()
    except TimeoutError:
        raise _timeout_error() from None
    except ConnectionError:
        line = b""
    finally:
        writer.close()
    return _parse_response(line)["result"]


def send_command_for_text(
    control_socket: str, words: str, arguments: Mapping[str, object], *, output_format: str
) -> tuple[str, bool]:
    """Returns the text to print, and whether it reports a failure. `output_format`: "text" or "json". Blocks.

    Raises HostNotRunning, also if an older host cannot render, or the command's own error.
    """
    with socket.socket(socket.AF_UNIX) as host:
        try:
            with short_socket_path(control_socket) as path:
                host.connect(path)
        except OSError:
            raise HostNotRunning from None
        answer = _parse_response(_exchange(host, encode_request(words, arguments, output_format=output_format)))
    if "text" not in answer:
        raise HostNotRunning
    return answer["text"], answer["failed"]


def _exchange(host: socket.socket, request: bytes) -> bytes:
    """Returns the line that the host answers; empty if it closed the connection."""
    give_up = time.monotonic() + RESPONSE_TIMEOUT_S
    line = bytearray()
    try:
        host.sendall(request)
        while not line.endswith(b"\n"):
            host.settimeout(max(0.001, give_up - time.monotonic()))
            chunk = host.recv(CHUNK_BYTES)
            if not chunk:
                return b""
            line += chunk
    except TimeoutError:
        raise _timeout_error() from None
    except ConnectionError:
        return b""
    return bytes(line)


def _parse_response(line: bytes) -> dict[str, Any]:
    if not line:
        raise NanohostError("the host went away before it answered", hint="nanohost status")
    answer: dict[str, Any] = json.loads(line)
    if not answer["ok"]:
        raise decode_error(answer)
    return answer


def _timeout_error() -> NanohostError:
    return NanohostError(f"the host did not answer within {RESPONSE_TIMEOUT_S:.0f} s", hint="see its log")

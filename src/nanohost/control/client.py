"""Asking a running host: from an event loop, or at once, by a command that has nothing else to do.

The second way loads neither asyncio nor a command: it is what each short command waits for.
"""

from __future__ import annotations

import json
import socket
import time

from nanohost.control.protocol import LONGEST_LINE, question, raised
from nanohost.errors import NanohostError
from nanohost.short_socket import short_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from nanohost.home import Home

ANSWER_LIMIT_S = 60.0
CHUNK = 64 * 1024


class NobodyThere(Exception):
    """No host answers on the control socket."""


async def ask(home: Home, words: str, arguments: Mapping[str, object]) -> Any:
    """The command's result. Raises NobodyThere, or what the command raised."""
    import asyncio

    try:
        with short_path(home.control_socket) as path:
            reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_LINE)
    except OSError:
        raise NobodyThere from None
    try:
        writer.write(question(words, arguments))
        async with asyncio.timeout(ANSWER_LIMIT_S):
            line = await reader.readline()
    except TimeoutError:
        raise _no_answer() from None
    except ConnectionError:
        line = b""
    finally:
        writer.close()
    return _answered(line)["result"]


def ask_in_text(control_socket: str, words: str, arguments: Mapping[str, object], *, form: str) -> tuple[str, bool]:
    """What to print, and whether it is bad news. `form`: "text" or "json". Blocks.

    Raises NobodyThere, also where a host of an older version cannot render, or what the command raised.
    """
    with socket.socket(socket.AF_UNIX) as host:
        try:
            with short_path(control_socket) as path:
                host.connect(path)
        except OSError:
            raise NobodyThere from None
        answer = _answered(_exchanged(host, question(words, arguments, form=form)))
    if "text" not in answer:
        raise NobodyThere
    return answer["text"], answer["failed"]


def _exchanged(host: socket.socket, asked: bytes) -> bytes:
    """The line that comes back; empty: the host went away."""
    give_up = time.monotonic() + ANSWER_LIMIT_S
    line = bytearray()
    try:
        host.sendall(asked)
        while not line.endswith(b"\n"):
            host.settimeout(max(0.001, give_up - time.monotonic()))
            chunk = host.recv(CHUNK)
            if not chunk:
                return b""
            line += chunk
    except TimeoutError:
        raise _no_answer() from None
    except ConnectionError:
        return b""
    return bytes(line)


def _answered(line: bytes) -> dict[str, Any]:
    if not line:
        raise NanohostError("the host went away before it answered", hint="nanohost status")
    answer: dict[str, Any] = json.loads(line)
    if not answer["ok"]:
        raise raised(answer)
    return answer


def _no_answer() -> NanohostError:
    return NanohostError(f"the host did not answer within {ANSWER_LIMIT_S:.0f} s", hint="see its log")

"""Asking a running host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from nanohost.control.protocol import LONGEST_LINE, raised
from nanohost.errors import NanohostError
from nanohost.home import Home
from nanohost.short_socket import short_path

ANSWER_LIMIT_S = 60.0


class NobodyThere(Exception):
    """No host answers on the control socket."""


async def ask(home: Home, words: str, arguments: Mapping[str, object]) -> Any:
    """The command's result. Raises NobodyThere, or what the command raised."""
    try:
        with short_path(home.control_socket) as path:
            reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_LINE)
    except OSError:
        raise NobodyThere from None
    try:
        writer.write(json.dumps({"command": words, "arguments": dict(arguments)}).encode() + b"\n")
        async with asyncio.timeout(ANSWER_LIMIT_S):
            line = await reader.readline()
    except TimeoutError:
        raise NanohostError(f"the host did not answer within {ANSWER_LIMIT_S:.0f} s", hint="see its log") from None
    except ConnectionError:
        line = b""
    finally:
        writer.close()
    if not line:
        raise NanohostError("the host went away before it answered", hint="nanohost status")
    answer = json.loads(line)
    if not answer["ok"]:
        raise raised(answer)
    return answer["result"]

"""Logs one line per event on stderr: the time, a constant name and fields. The host keeps what a container prints.

It does not use structlog, because people wait for the runner's start.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress


def log(event: str, **fields: object) -> None:
    """Prints one line with the time in UTC. Text is quoted where needed, so that it stays on one line."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    parts = [at, event, *(f"{name}={_format_value(value)}" for name, value in fields.items())]
    with suppress(OSError):  # a reader that is gone must not end the session
        print(" ".join(parts), file=sys.stderr, flush=True)  # noqa: T201 - this is where the runner prints


def _format_value(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)

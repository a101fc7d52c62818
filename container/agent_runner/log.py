"""One line a happening on stderr: when, a constant name and its fields. The host keeps what a container prints.

Not structlog: the runner's start is time that a person waits.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress


def log(event: str, **fields: object) -> None:
    """Print one line, with the time in UTC. Text is quoted where it has to be, so that a line stays a line."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    parts = [at, event, *(f"{name}={_format_value(value)}" for name, value in fields.items())]
    with suppress(OSError):  # a reader that went away must not take the session with it
        print(" ".join(parts), file=sys.stderr, flush=True)  # noqa: T201 - this is where the runner prints


def _format_value(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)

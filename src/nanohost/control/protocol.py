"""Encodes the control socket's protocol: one line of JSON as request, one as answer.

{"command": "wirings create", "arguments": {…}}
{"ok": true, "result": …}   or   {"ok": false, "reason": "usage", "sentence": "…", "hint": "…"}

With "form": "text" or "json" the host renders the result, so that the client need not load the command:

{"ok": true, "text": "…", "failed": false}

An answer to a renamed command (see commands/old_words.py) has a "hint" with its new name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from nanohost.errors import NanohostError, UsageError

OUTPUT_FORMATS = ("text", "json")
MAX_LINE_BYTES = 64 * 1024 * 1024
"""Bytes; a list of all sessions of a large install is a few."""


def encode_request(words: str, arguments: Mapping[str, object], *, output_format: str = "") -> bytes:
    """Returns the line of a request. `output_format`: how the host renders the result; empty: not at all."""
    request = {"command": words, "arguments": dict(arguments)} | ({"form": output_format} if output_format else {})
    return json.dumps(request).encode() + b"\n"


def encode_error(error: NanohostError) -> dict[str, object]:
    """Returns the answer for an expected error."""
    return {"ok": False, "reason": error.reason, "sentence": str(error), "hint": error.hint}


def decode_error(answer: dict[str, object]) -> NanohostError:
    """Returns the error of the answer, as the host raised it."""
    error = UsageError if answer.get("reason") == UsageError.reason else NanohostError
    return error(str(answer.get("sentence", "the host refused")), hint=str(answer.get("hint", "")))

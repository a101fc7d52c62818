"""The words on the control socket: one line of JSON to ask, one to answer.

{"command": "wirings create", "arguments": {…}}
{"ok": true, "result": …}   or   {"ok": false, "reason": "usage", "sentence": "…", "hint": "…"}
"""

from __future__ import annotations

from nanohost.errors import NanohostError, UsageError

LONGEST_LINE = 64 * 1024 * 1024
"""Bytes; a list of all sessions of a large install is a few."""


def refusal(error: NanohostError) -> dict[str, object]:
    """An expected error as an answer."""
    return {"ok": False, "reason": error.reason, "sentence": str(error), "hint": error.hint}


def raised(answer: dict[str, object]) -> NanohostError:
    """The answer's error, as the other side raised it."""
    error = UsageError if answer.get("reason") == UsageError.reason else NanohostError
    return error(str(answer.get("sentence", "the host refused")), hint=str(answer.get("hint", "")))

"""Shortens file names that are too long, and keeps their endings. Pure."""

from __future__ import annotations

import re

_SUFFIX_PATTERN = re.compile(r"(?<=.)(?:\.[^\W\d_]\w{0,3})?\.\w{1,16}\s*\Z", re.DOTALL)
"""The ending that tells programs the type of a file: both parts of `backup.tar.gz`."""


def shorten_file_name(name: str, max_chars: int) -> str:
    """Returns at most `max_chars` characters of a name, cut before its ending. `max_chars` is 40 or more."""
    if len(name) <= max_chars:
        return name
    ending = _SUFFIX_PATTERN.search(name, max(0, len(name) - 40))
    kept = ending[0] if ending else ""
    return name[: max_chars - len(kept)] + kept

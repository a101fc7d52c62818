"""Shortens file names that are too long, so that they still say what the file is. Pure."""

from __future__ import annotations

import re

_SUFFIX_PATTERN = re.compile(r"(?<=.)(?:\.[^\W\d_]\w{0,3})?\.\w{1,16}\s*\Z", re.DOTALL)
"""What tells programs what is in a file: of `backup.tar.gz` both parts."""


def shorten_file_name(name: str, max_chars: int) -> str:
    """At most so many characters of a name; what is left out was before its ending. `max_chars` is 40 or more."""
    if len(name) <= max_chars:
        return name
    ending = _SUFFIX_PATTERN.search(name, max(0, len(name) - 40))
    kept = ending[0] if ending else ""
    return name[: max_chars - len(kept)] + kept

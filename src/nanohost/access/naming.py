"""People as part of a sentence of ours: what they call themselves is no markup, no second line, and no end of it."""

from __future__ import annotations

import re

LONGEST = 60
"""Characters of a name that are said."""
_MARKUP = re.compile(r"[\\`*_~\[\]()<>|#\"]")


def called(user_id: str, name: str = "") -> str:
    """A user as whoever reads of them knows them: the name, if they have one, and always the id."""
    id = f"`{_line(user_id.replace('`', ''))}`"
    said = _line(_MARKUP.sub("", name))[:LONGEST].strip()
    return f"{said} ({id})" if said else id


def _line(text: str) -> str:
    """One line; nothing that changes the direction of writing, or hides."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())

"""Text made safe to put into a prompt or a row: XML escaping, and characters that have no business there."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NOT_TEXT = re.compile(r"[\ud800-\udfff\ufffe\uffff]")
_ATTRIBUTE = {'"': "&quot;", "\n": "&#10;", "\t": "&#9;"}


def clean(text: str) -> str:
    """Without control characters other than newline and tab; what is no character at all becomes U+FFFD."""
    return _NOT_TEXT.sub("\ufffd", _CONTROLS.sub("", text))


def escaped(text: str) -> str:
    """Clean text that cannot open or close an element."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def element(name: str, text: str | None = None, /, **attributes: str | int | None) -> str:
    """One XML element; attributes that are None are left out, a trailing underscore in a name is dropped."""
    shown = "".join(f' {key.rstrip("_")}="{_quoted(value)}"' for key, value in attributes.items() if value is not None)
    return f"<{name}{shown}/>" if text is None else f"<{name}{shown}>{escaped(text)}</{name}>"


def nested(name: str, inside: Sequence[str], /, **attributes: str | int | None) -> str:
    """One XML element around elements and escaped text, a line each."""
    opening = element(name, "", **attributes).removesuffix(f"</{name}>")
    return "\n".join([opening, *inside, f"</{name}>"])


def _quoted(value: str | int) -> str:
    text = escaped(str(value))
    for character, entity in _ATTRIBUTE.items():
        text = text.replace(character, entity)
    return text

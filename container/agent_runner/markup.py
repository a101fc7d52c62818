"""Text made safe to put into a prompt or a row: XML escaping, and characters that have no business there."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CONTROL_CHARS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_INVALID_CHARS = re.compile(r"[\ud800-\udfff\ufffe\uffff]")
_ATTRIBUTE_ENTITIES = {'"': "&quot;", "\n": "&#10;", "\t": "&#9;"}


def strip_control_chars(text: str) -> str:
    """Without control characters other than newline and tab; what is no character at all becomes U+FFFD."""
    return _INVALID_CHARS.sub("\ufffd", _CONTROL_CHARS.sub("", text))


def escape(text: str) -> str:
    """Clean text that cannot open or close an element."""
    return strip_control_chars(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def element(name: str, text: str | None = None, /, **attributes: str | int | None) -> str:
    """One XML element; attributes that are None are left out, a trailing underscore in a name is dropped."""
    shown = "".join(
        f' {key.rstrip("_")}="{_escape_attribute(value)}"' for key, value in attributes.items() if value is not None
    )
    return f"<{name}{shown}/>" if text is None else f"<{name}{shown}>{escape(text)}</{name}>"


def nested_element(name: str, children: Sequence[str], /, **attributes: str | int | None) -> str:
    """One XML element around elements and escaped text, a line each."""
    opening = element(name, "", **attributes).removesuffix(f"</{name}>")
    return "\n".join([opening, *children, f"</{name}>"])


def _escape_attribute(value: str | int) -> str:
    text = escape(str(value))
    for character, entity in _ATTRIBUTE_ENTITIES.items():
        text = text.replace(character, entity)
    return text

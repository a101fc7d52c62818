"""Makes text safe for a prompt or a row: escapes XML and removes control characters."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CONTROL_CHARS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_INVALID_CHARS = re.compile(r"[\ud800-\udfff\ufffe\uffff]")
_ATTRIBUTE_ENTITIES = {'"': "&quot;", "\n": "&#10;", "\t": "&#9;"}


def strip_control_chars(text: str) -> str:
    """Removes control characters other than newline and tab; invalid characters become U+FFFD."""
    return _INVALID_CHARS.sub("\ufffd", _CONTROL_CHARS.sub("", text))


def escape(text: str) -> str:
    """Returns clean text that cannot open or close an element."""
    return strip_control_chars(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def element(name: str, text: str | None = None, /, **attributes: str | int | None) -> str:
    """Returns one XML element. Leaves out attributes that are None, and drops a trailing underscore of their names."""
    shown = "".join(
        f' {key.rstrip("_")}="{_escape_attribute(value)}"' for key, value in attributes.items() if value is not None
    )
    return f"<{name}{shown}/>" if text is None else f"<{name}{shown}>{escape(text)}</{name}>"


def nested_element(name: str, children: Sequence[str], /, **attributes: str | int | None) -> str:
    """Returns one XML element around elements and escaped text, each on its own line."""
    opening = element(name, "", **attributes).removesuffix(f"</{name}>")
    return "\n".join([opening, *children, f"</{name}>"])


def _escape_attribute(value: str | int) -> str:
    text = escape(str(value))
    for character, entity in _ATTRIBUTE_ENTITIES.items():
        text = text.replace(character, entity)
    return text

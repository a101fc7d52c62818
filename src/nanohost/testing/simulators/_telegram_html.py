"""Telegram's HTML, read as its servers read it: what a person sees, who is mentioned, and what is refused.

Written from the public description of the markup and the words of its errors; stricter where those leave room, so that
what passes here passes there.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

ALLOWED = frozenset(
    "a b strong i em u ins s strike del code pre blockquote span tg-spoiler tg-emoji tg-time".split()  # noqa: SIM905
)

_TAG = re.compile(r"<(/?)([^\s>/]*)([^>]*)>", re.DOTALL)
_ATTRIBUTES = re.compile(r"""(?:\s+[\w-]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[\w.-]+))?)*\s*/?""")
_HREF = re.compile(r"""\shref\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});")
_USER_LINK = re.compile(r"tg://user\?id=(\d+)")


class BadMarkup(Exception):
    """The markup is refused; the text is the platform's."""


@dataclass
class Read:
    """`text` as people see it; `users`: the ids of those whom a link names."""

    text: str = ""
    users: set[str] = field(default_factory=set)


def read(markup: str) -> Read:
    """What is left when the markup is read. Raises BadMarkup."""
    found, stack, position = Read(), list[str](), 0
    while (start := markup.find("<", position)) >= 0:
        found.text += _unescaped(markup[position:start])
        tag = _TAG.match(markup, start)
        at = len(markup[:start].encode())
        if tag is None:
            raise BadMarkup(f"Unclosed start tag at byte offset {at}")
        _take(tag, at, stack, found)
        position = tag.end()
    found.text += _unescaped(markup[position:])
    if stack:
        raise BadMarkup(f'Can\'t find end tag corresponding to start tag "{stack[-1]}"')
    return found


def utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _take(tag: re.Match[str], at: int, stack: list[str], found: Read) -> None:
    closing, name, attributes = tag[1], tag[2].lower(), tag[3]
    if closing:
        _close(name, at, stack)
        return
    if name not in ALLOWED:
        raise BadMarkup(f'Unsupported start tag "{name}" at byte offset {at}')
    if not _ATTRIBUTES.fullmatch(attributes):
        raise BadMarkup(f'Unexpected end of name token in the tag "{name}" at byte offset {at}')
    if name == "span" and "tg-spoiler" not in attributes:
        raise BadMarkup(f'Tag "span" must have class "tg-spoiler" at byte offset {at}')
    if name == "blockquote" and name in stack:
        raise BadMarkup(f'Unexpected start tag "blockquote" in a blockquote at byte offset {at}')
    if (href := _HREF.search(attributes)) and (user := _USER_LINK.match(href[1] or href[2] or "")):
        found.users.add(user[1])
    stack.append(name)


def _close(name: str, at: int, stack: list[str]) -> None:
    if not stack:
        raise BadMarkup(f"Unexpected end tag at byte offset {at}")
    opened = stack.pop()
    if name not in ("", opened):
        raise BadMarkup(f'Unmatched end tag at byte offset {at}, expected "</{opened}>", found "</{name}>"')


def _unescaped(text: str) -> str:
    """Only the entities that Telegram knows; every other ampersand is one."""
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)

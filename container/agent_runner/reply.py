"""Separates the agent's text into messages for people and the rest. Pure.

`<message to="name" re="4">text</message>` is a message, `<internal>...</internal>` is for nobody, the rest is bare
text. Inside code fences all of this is ordinary text, so that an agent can explain its own notation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One message block. `to` and `reply_to_seq` (a message's number) are None when left out."""

    text: str
    to: str | None = None
    reply_to_seq: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The parts of a text."""

    blocks: tuple[Block, ...]
    bare_text: str


@dataclass(frozen=True, slots=True)
class _Span:
    """An element: `start:end` in the text with its tags, `inner` without them, and the opening tag."""

    start: int
    end: int
    inner: str
    tag: str


_ATTRIBUTE = re.compile(r"""\s(to|re)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_FENCE = re.compile(r"^[ ]{0,3}(`{3,}|~{3,})[^\n]*$", re.MULTILINE)


def parse_reply(text: str) -> Reply:
    """Parses a text. Blocks and bare text are trimmed parts of it."""
    seen = _remove_spans(text, _find_elements(text, "internal"))
    spans = list(_find_elements(seen, "message"))
    blocks = [_make_block(span) for span in spans if span.inner.strip()]
    return Reply(blocks=tuple(blocks), bare_text=_remove_spans(seen, spans).strip())


def _make_block(span: _Span) -> Block:
    found = {name: "".join(values) for name, *values in _ATTRIBUTE.findall(span.tag)}
    number = found.get("re", "").strip().lstrip("#")
    return Block(
        text=span.inner.strip(),
        to=_unescape(found.get("to", "")).strip() or None,
        reply_to_seq=int(number) if number.isascii() and number.isdecimal() and len(number) < 16 else None,
    )


def _unescape(text: str) -> str:
    """Unescapes a name: the prompt shows names escaped, and an agent may copy that."""
    for entity, character in (("&quot;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(entity, character)
    return text


def _remove_spans(text: str, spans: Iterator[_Span] | list[_Span]) -> str:
    kept, at = [], 0
    for span in spans:
        kept.append(text[at : span.start])
        at = span.end
    return "".join([*kept, text[at:]])


def _find_elements(text: str, name: str) -> Iterator[_Span]:
    """Yields the elements of one name outside of code. One that is not closed reaches to the end of the text."""
    opening = re.compile(rf"(?<!`)<{name}(?:\s[^<>]*)?>")
    at = 0
    while tag := _search_outside_code(opening, text, at):
        inner, at = _element_body(text, tag.end(), f"</{name}>")
        yield _Span(tag.start(), at, inner, tag.group())


def _element_body(text: str, start: int, closing: str) -> tuple[str, int]:
    """Returns the content of an element and where it ends. An unclosed code fence inside does not hide the end."""
    pattern = re.compile(re.escape(closing))
    end = _search_outside_code(pattern, text, start) or pattern.search(text, start)
    return (text[start:], len(text)) if end is None else (text[start : end.start()], end.end())


def _search_outside_code(pattern: re.Pattern[str], text: str, start: int) -> re.Match[str] | None:
    """Returns the first match from `start` on that is not between two fences; fences count from `start`."""
    at, fences = start, _code_areas(text, start)
    while found := pattern.search(text, at):
        inside = next((end for begin, end in fences if begin <= found.start() < end), None)
        if inside is None:
            return found
        at = inside
    return None


def _code_areas(text: str, start: int) -> list[tuple[int, int]]:
    """Returns the ranges of code: from a fence to the next of the same kind, or to the end of the text."""
    areas: list[tuple[int, int]] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text, start):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]) and not fence[0].strip().strip(opened[1][0]):
            areas.append((opened.start(), fence.end()))
            opened = None
    return areas if opened is None else [*areas, (opened.start(), len(text))]

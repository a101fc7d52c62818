"""Parses Markdown into blocks. No word of a text is lost.

Three things are not words and are dropped: the title of a link, what follows the language of a code block, and a
comment. The HTML that models write is read (`html_rule`), other tags are text. References (`[text][1]`) are no links
here, because a definition would vanish from where it was written. A list's own numbers are data: they stay, unless all
items have the same, which means counting.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, reduce
from itertools import groupby, repeat
from operator import or_
from typing import TYPE_CHECKING

from nanohost.rendering.blocks import Block, BlockKind, Run, Style, code_block
from nanohost.rendering.tables import draw_table

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MAX_MARKDOWN_CHARS = 200_000
"""A longer text is not parsed as Markdown: it is sent unchanged, split at line ends."""

_CHUNK_CHARS = 4096
_MAX_NESTING = 40
"""markdown-it omits deeper nesting; a text that has it is not parsed as Markdown either."""
_MAX_QUOTE_DEPTH, _MAX_INDENT, _MAX_LANGUAGE_CHARS = 3, 8, 20
"""Deeper nesting is not indented further, so that a line's prefix always leaves room for the line."""

_LINE_ENDS = str.maketrans(dict.fromkeys("\v\f\x1c\x1d\x1e\x85\u2028\u2029", "\n") | {"\x1f": " "})
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_URL = re.compile(r"https?://[^\s<>\"`\u200b\ufffd]*[^\s<>\"`\u200b\ufffd.,:;!?'*_~)\]}|\\]", re.IGNORECASE)
_LINK_SCHEME = re.compile(r"(?:https?://|mailto:|tg://)", re.IGNORECASE)
_AMOUNT = re.compile(r"[$€£¥]?\d")
_SIGN_MARKERS = {"+": "+", "-": "\N{MINUS SIGN}"}
"""List markers that are signs, and their replacements: a hyphen would be read as a list marker."""
_STYLES = {"strong": Style.BOLD, "em": Style.ITALIC, "s": Style.STRIKE, "u": Style.UNDERLINE}


@cache
def _markdown_parser() -> MarkdownIt:
    """Creates the parser. It is imported with the first text, because it is slow to load and often not needed."""
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import emphasis, strikethrough

    from nanohost.rendering.markdown_rules import (
        bare_url,
        html_comment,
        html_tag,
        literal_backslash,
        table_with_extra_cells,
        with_cjk_and_punctuation,
    )

    class Reader(MarkdownIt):
        def normalizeLink(self, url: str) -> str:  # noqa: N802 - its name there
            """Returns the address unchanged, because it may be shown as text."""
            return super().normalizeLink(url) if _LINK_SCHEME.match(url) else url

    reader = Reader("commonmark", {"html": False, "maxNesting": _MAX_NESTING})
    reader.enable(["table", "strikethrough"]).disable(["reference"])
    reader.block.ruler.at("table", table_with_extra_cells, {"alt": ["paragraph", "reference"]})
    # It interrupts nothing: a comment within a paragraph is the inline rule's.
    reader.block.ruler.at("html_block", html_comment, {"alt": []})
    reader.inline.ruler.after("text", "address", bare_url)
    reader.inline.ruler.at("html_inline", html_tag)
    reader.inline.ruler.at("escape", literal_backslash)
    reader.inline.ruler.at("emphasis", with_cjk_and_punctuation(emphasis.tokenize))
    reader.inline.ruler.at("strikethrough", with_cjk_and_punctuation(strikethrough.tokenize))
    return reader


def parse(markdown: str) -> tuple[Block, ...]:
    """Parses a text into blocks; returns none for a blank text."""
    text = clean_text(markdown)
    if not text.strip():
        return ()
    if len(text) > MAX_MARKDOWN_CHARS:
        return (verbatim_block(text),)
    from nanohost.rendering.html_tags import resolve_html  # as late as the parser

    tokens = _markdown_parser().parse(text)
    if any(token.level >= _MAX_NESTING - 1 for token in tokens):
        return (verbatim_block(text),)
    return tuple(_to_blocks(resolve_html(tokens))) or (verbatim_block(text),)


def clean_text(text: str) -> str:
    """Removes unpaired surrogates and control characters, which no platform shows."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("\ufffd", text.translate(_LINE_ENDS))


def verbatim_block(text: str) -> Block:
    """Returns a block with the text unchanged, in runs of moderate size."""
    text = text.strip("\n")
    return Block(runs=tuple(Run(text[start : start + _CHUNK_CHARS]) for start in range(0, len(text), _CHUNK_CHARS)))


@dataclass(slots=True)
class _List:
    """A list: the markers of its items, and whether a platform would number them in the same way.
    `first_marker` and `next_marker` are its first marker and the one after its last; empty for a list without
    numbers."""

    markers: Iterator[str]
    has_standard_numbering: bool = True
    first_marker: str = ""
    next_marker: str = ""


def _find_lists(tokens: Sequence[Token]) -> Iterator[_List]:
    """Yields the lists in the order in which they begin."""
    found: list[tuple[Token, list[Token]]] = []
    opened: list[list[Token]] = []
    signed = _find_sign_lists(tokens)
    for token in tokens:
        match token.type:
            case "bullet_list_open" | "ordered_list_open":
                opened.append([])
                found.append((token, opened[-1]))
            case "bullet_list_close" | "ordered_list_close":
                opened.pop()
            case "list_item_open":
                opened[-1].append(token)
    for begin, items in found:
        if items[0].info:
            yield _numbered_list(items)
        else:
            is_signed = id(begin) in signed
            yield _List(repeat(_SIGN_MARKERS[begin.markup] if is_signed else "-"), has_standard_numbering=not is_signed)


def _find_sign_lists(tokens: Sequence[Token]) -> set[int]:
    """Returns the lists whose markers are data, by the id of their first token: a list of `+` next to one of `-`, or
    only amounts after `+`."""
    signed: set[int] = set()
    amounts: dict[int, list[bool]] = defaultdict(list)
    begun: list[Token] = []
    ended: Token | None = None
    for index, token in enumerate(tokens):
        if token.type == "bullet_list_open":
            begun.append(token)
            if ended is not None and {ended.markup, token.markup} == _SIGN_MARKERS.keys():
                signed |= {id(ended), id(token)}
        elif token.type == "list_item_open" and token.markup == "+":
            amounts[id(begun[-1])].append(_AMOUNT.match(tokens[index + 2].content) is not None)
        ended = begun.pop() if token.type == "bullet_list_close" else None
    return signed | {begin for begin, each in amounts.items() if all(each)}


def _numbered_list(items: Sequence[Token]) -> _List:
    """Returns a list with the numbers of the source."""
    written, behind = [item.info for item in items], items[0].markup
    first = int(written[0])
    counted = [str(number) for number in range(first, first + len(written))]
    if len(written) > 1 and len({*written}) == 1:
        written = counted
    goes_on = f"{first + len(written)}{behind}"
    return _List((number + behind for number in written), written == counted, written[0] + behind, goes_on)


@dataclass(slots=True)
class _NestingState:
    """The current position in the nesting."""

    upcoming_lists: Iterator[_List]
    quote: int = 0
    lists: list[_List] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    pending_marker: str = ""
    """The marker of an item that has no content yet."""
    was_in_list_before: bool = False
    ended_list: _List | None = None
    """The list that has just ended: a platform would join a list that follows directly with it."""

    def place_block(self, block: Block, *, is_tight: bool) -> Block:
        marker, self.pending_marker, self.ended_list = self.pending_marker, "", None
        # An item's own list is open around what it holds; its marker stands outside of what it pushes in.
        widths = self.widths[:-1] if marker else self.widths
        inside = sum(widths)
        loose = sum(width for width, list_ in zip(widths, self.lists, strict=False) if not list_.has_standard_numbering)
        is_tight = self.was_in_list_before and is_tight
        self.was_in_list_before = bool(self.lists)
        quote = min(self.quote, _MAX_QUOTE_DEPTH)
        placed = replace(
            block, quote=quote, indent=min(inside, _MAX_INDENT), unnumbered_indent=loose, is_tight=is_tight
        )
        uncounted = bool(marker) and not self.lists[len(self.widths) - 1].has_standard_numbering
        return replace(placed, marker=marker, is_unnumbered=uncounted)

    def flush_empty_item(self) -> Iterator[Block]:
        if self.pending_marker:
            yield self.place_block(Block(), is_tight=True)

    def enter(self, token: Token) -> None:
        match token.type:
            case "blockquote_open":
                self.quote += 1
            case "bullet_list_open" | "ordered_list_open":
                self.lists.append(begun := next(self.upcoming_lists))
                if (
                    self.ended_list is not None
                    and self.ended_list.next_marker
                    and begun.first_marker != self.ended_list.next_marker
                ):
                    begun.has_standard_numbering = False
            case "list_item_open":
                self.pending_marker = next(self.lists[-1].markers)
                self.widths.append(len(self.pending_marker) + 1)

    def leave(self, token: Token) -> None:
        match token.type:
            case "blockquote_close":
                self.quote -= 1
            case "bullet_list_close" | "ordered_list_close":
                self.ended_list = self.lists.pop()
            case "list_item_close":
                self.widths.pop()


def _to_blocks(tokens: Sequence[Token]) -> Iterator[Block]:
    place = _NestingState(_find_lists(tokens))
    index = 0
    while index < len(tokens):
        token = tokens[index]
        if token.type == "table_open":
            end = next(at for at in range(index, len(tokens)) if tokens[at].type == "table_close")
            yield from _standalone_block(place, _table_block(tokens[index:end]))
            index = end
        elif token.type == "inline":
            yield from _text_block(place, tokens[index - 1], token)
        elif token.type in ("fence", "code_block", "hr"):
            yield from _standalone_block(place, _leaf_block(token))
        elif token.type in ("list_item_open", "list_item_close"):
            yield from place.flush_empty_item()
        if token.nesting == 1:
            place.enter(token)
        elif token.nesting == -1:
            place.leave(token)
        index += 1


def _text_block(state: _NestingState, block: Token, inline: Token) -> Iterator[Block]:
    runs = tuple(_runs(inline.children or []))
    if not runs:
        return
    if block.type == "heading_open":
        runs = tuple(replace(run, text=run.text.replace("\n", " ")) for run in runs)
        yield state.place_block(Block(kind=BlockKind.HEADING, runs=runs, level=int(block.tag[1:])), is_tight=False)
    else:
        yield state.place_block(Block(runs=runs), is_tight=block.hidden)


def _standalone_block(state: _NestingState, block: Block) -> Iterator[Block]:
    """Yields a block that needs its own line: the marker of its item is on a separate line before it."""
    yield from state.flush_empty_item()
    if block.kind is BlockKind.RULE or block.text.strip():
        yield replace(state.place_block(block, is_tight=False), indent=0, quote=0)


def _leaf_block(token: Token) -> Block:
    if token.type == "hr":
        return Block(kind=BlockKind.RULE)
    language = re.sub(r"[^\w+#.-]", "", (token.info.split() or [""])[0], flags=re.ASCII)
    return code_block(token.content.removesuffix("\n"), language[:_MAX_LANGUAGE_CHARS])


def _table_block(tokens: Sequence[Token]) -> Block:
    rows: list[list[tuple[Run, ...]]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            runs = _runs(token.children or [])
            rows[-1].append(tuple(replace(run, text=run.text.replace("\n", " ")) for run in runs))
    drawn = draw_table([["".join(plain_text(run) for run in cell) for cell in row] for row in rows])
    return Block(kind=BlockKind.TABLE, runs=(Run(drawn),), rows=tuple(tuple(row) for row in rows))


def _runs(tokens: Sequence[Token]) -> Iterator[Run]:
    """Converts inline tokens to runs; joins adjacent runs of one style."""
    for (style, is_link), runs in groupby(_iter_runs(tokens), key=lambda run: (run.style, bool(run.href))):
        if is_link:
            yield from runs
        else:
            yield Run("".join(run.text for run in runs), style)


def _iter_runs(tokens: Sequence[Token]) -> Iterator[Run]:
    styles: Counter[Style] = Counter()
    index = 0
    while index < len(tokens):
        token, style = tokens[index], _active_styles(styles)
        if token.type == "link_open":
            end = next(at for at in range(index, len(tokens)) if tokens[at].type == "link_close")
            yield _link(_link_text(tokens[index + 1 : end]), str(token.attrs.get("href", "")), style)
            index = end
        elif token.type == "image":
            yield _link(_link_text(token.children or []), str(token.attrs.get("src", "")), style)
        elif token.type == "code_inline":
            yield Run(token.content, Style.CODE)
        elif token.type in ("softbreak", "hardbreak"):
            yield Run("\n", style)
        elif token.content:
            yield from _link_urls(token.content, style)
        elif token.nesting and token.tag in _STYLES:
            styles[_STYLES[token.tag]] += token.nesting
        index += 1


def _active_styles(styles: Mapping[Style, int]) -> Style:
    """Returns the styles that are open."""
    return reduce(or_, (style for style, depth in styles.items() if depth > 0), Style.NONE)


def _link_text(tokens: Sequence[Token]) -> str:
    """Returns the text of a link without styles."""
    words = (_link_text(token.children or []) if token.type == "image" else token.content or "" for token in tokens)
    breaks = (" " if token.type in ("softbreak", "hardbreak") else "" for token in tokens)
    return "".join(word + gap for word, gap in zip(words, breaks, strict=True))


def _link(label: str, href: str, style: Style) -> Run:
    label = label.strip()
    if _LINK_SCHEME.match(href):
        return Run(label or href, style, href)
    if href in ("", label):
        return Run(label, style)
    return Run(f"{label} ({href})" if label else href, style)


def _link_urls(text: str, style: Style) -> Iterator[Run]:
    """Converts addresses in a text to links, so that no dialect escapes characters in them."""
    at = 0
    for found in _URL.finditer(text):
        url = found[0]
        if url.count("(") > url.count(")") and text[found.end() : found.end() + 1] == ")":
            url += ")"
        if found.start() < at:
            continue
        if found.start() > at:
            yield Run(text[at : found.start()], style)
        yield Run(url, style, url)
        at = found.start() + len(url)
    if at < len(text):
        yield Run(text[at:], style)


def plain_text(run: Run) -> str:
    """Returns a run as plain text: a link's address follows its label."""
    if not run.href or run.href in (run.text, f"mailto:{run.text}"):
        return run.text
    return f"{run.text} ({run.href})"

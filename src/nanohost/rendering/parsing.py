"""Markdown to pieces. No word of a text is lost, and what nothing can be made of stays as it is.

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

from nanohost.rendering.pieces import Kind, Piece, Run, Style, code
from nanohost.rendering.tables import aligned

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

LARGEST_CHARS = 200_000
"""A longer text is not read as Markdown: it is sent as it is written, cut at its lines."""

_CHUNK_CHARS = 4096
_DEEPEST = 40
"""markdown-it leaves out what is nested deeper; a text that is, is not read as Markdown either."""
_DEEPEST_QUOTE, _DEEPEST_INDENT, _LONGEST_LANGUAGE = 3, 8, 20
"""Deeper nesting is drawn no deeper, so that what stands before a line always leaves room for the line."""

_LINE_ENDS = str.maketrans(dict.fromkeys("\v\f\x1c\x1d\x1e\x85\u2028\u2029", "\n") | {"\x1f": " "})
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_URL = re.compile(r"https?://[^\s<>\"`\u200b\ufffd]*[^\s<>\"`\u200b\ufffd.,:;!?'*_~)\]}|\\]", re.IGNORECASE)
_LINKED = re.compile(r"(?:https?://|mailto:|tg://)", re.IGNORECASE)
_AMOUNT = re.compile(r"[$€£¥]?\d")
_SIGNS = {"+": "+", "-": "\N{MINUS SIGN}"}
"""Marks of lists, and what is written where they are signs: a hyphen would be read as the mark of any list."""
_STYLES = {"strong": Style.BOLD, "em": Style.ITALIC, "s": Style.STRIKE, "u": Style.UNDERLINE}


@cache
def _reader() -> MarkdownIt:
    """Imported with the first text: whoever names a form needs none of it, and it takes its time."""
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import emphasis, strikethrough

    from nanohost.rendering.address_rule import whole_address
    from nanohost.rendering.emphasis_rule import with_cjk_and_punctuation
    from nanohost.rendering.escape_rule import literal_backslash
    from nanohost.rendering.html_rule import html_comment, html_tag
    from nanohost.rendering.table_rule import whole_table

    class Reader(MarkdownIt):
        def normalizeLink(self, url: str) -> str:  # noqa: N802 - its name there
            """What is shown as words is nothing to encode."""
            return super().normalizeLink(url) if _LINKED.match(url) else url

    reader = Reader("commonmark", {"html": False, "maxNesting": _DEEPEST})
    reader.enable(["table", "strikethrough"]).disable(["reference"])
    reader.block.ruler.at("table", whole_table, {"alt": ["paragraph", "reference"]})
    # It interrupts nothing: a comment within a paragraph is the inline rule's.
    reader.block.ruler.at("html_block", html_comment, {"alt": []})
    reader.inline.ruler.after("text", "address", whole_address)
    reader.inline.ruler.at("html_inline", html_tag)
    reader.inline.ruler.at("escape", literal_backslash)
    reader.inline.ruler.at("emphasis", with_cjk_and_punctuation(emphasis.tokenize))
    reader.inline.ruler.at("strikethrough", with_cjk_and_punctuation(strikethrough.tokenize))
    return reader


def parse(markdown: str) -> tuple[Piece, ...]:
    """The pieces of a text; none for a blank one."""
    text = cleaned(markdown)
    if not text.strip():
        return ()
    if len(text) > LARGEST_CHARS:
        return (verbatim(text),)
    from nanohost.rendering.html_tags import with_html_read  # as late as the reader

    tokens = _reader().parse(text)
    if any(token.level >= _DEEPEST - 1 for token in tokens):
        return (verbatim(text),)
    return tuple(_pieces(with_html_read(tokens))) or (verbatim(text),)


def cleaned(text: str) -> str:
    """Without halves of characters and without control characters, which no platform shows."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("\ufffd", text.translate(_LINE_ENDS))


def verbatim(text: str) -> Piece:
    """A text as it stands, in runs of a handy size."""
    text = text.strip("\n")
    return Piece(runs=tuple(Run(text[start : start + _CHUNK_CHARS]) for start in range(0, len(text), _CHUNK_CHARS)))


@dataclass(slots=True)
class _List:
    """A list that is being read: the markers of its items, and whether a reader would count them as they are. `begins`
    and `goes_on` are its first marker and the one after its last; empty for a list without numbers."""

    markers: Iterator[str]
    is_counted: bool = True
    begins: str = ""
    goes_on: str = ""


def _lists(tokens: Sequence[Token]) -> Iterator[_List]:
    """The lists in the order in which they begin."""
    found: list[tuple[Token, list[Token]]] = []
    opened: list[list[Token]] = []
    signed = _signed(tokens)
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
            yield _numbered(items)
        else:
            is_signed = id(begin) in signed
            yield _List(repeat(_SIGNS[begin.markup] if is_signed else "-"), is_counted=not is_signed)


def _signed(tokens: Sequence[Token]) -> set[int]:
    """The lists whose marks are data, by the id of their first token: where a list of `+` stands beside one of `-`, or
    all that has a `+` are amounts."""
    signed: set[int] = set()
    amounts: dict[int, list[bool]] = defaultdict(list)
    begun: list[Token] = []
    ended: Token | None = None
    for index, token in enumerate(tokens):
        if token.type == "bullet_list_open":
            begun.append(token)
            if ended is not None and {ended.markup, token.markup} == _SIGNS.keys():
                signed |= {id(ended), id(token)}
        elif token.type == "list_item_open" and token.markup == "+":
            amounts[id(begun[-1])].append(_AMOUNT.match(tokens[index + 2].content) is not None)
        ended = begun.pop() if token.type == "bullet_list_close" else None
    return signed | {begin for begin, each in amounts.items() if all(each)}


def _numbered(items: Sequence[Token]) -> _List:
    """A list with the numbers that it was given."""
    written, behind = [item.info for item in items], items[0].markup
    first = int(written[0])
    counted = [str(number) for number in range(first, first + len(written))]
    if len(written) > 1 and len({*written}) == 1:
        written = counted
    goes_on = f"{first + len(written)}{behind}"
    return _List((number + behind for number in written), written == counted, written[0] + behind, goes_on)


@dataclass(slots=True)
class _Place:
    """Where in the nesting the reader is."""

    to_come: Iterator[_List]
    quote: int = 0
    lists: list[_List] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    waiting: str = ""
    """The marker of an item that has begun and shown nothing yet."""
    was_in_list: bool = False
    ended: _List | None = None
    """The list that ended, until something is shown: another one would be one with it to a reader."""

    def put(self, piece: Piece, *, tight: bool) -> Piece:
        marker, self.waiting, self.ended = self.waiting, "", None
        # An item's own list is open around what it holds; its marker stands outside of what it pushes in.
        widths = self.widths[:-1] if marker else self.widths
        inside = sum(widths)
        loose = sum(width for width, list_ in zip(widths, self.lists, strict=False) if not list_.is_counted)
        tight = self.was_in_list and tight
        self.was_in_list = bool(self.lists)
        quote = min(self.quote, _DEEPEST_QUOTE)
        placed = replace(piece, quote=quote, indent=min(inside, _DEEPEST_INDENT), loose=loose, tight=tight)
        uncounted = bool(marker) and not self.lists[len(self.widths) - 1].is_counted
        return replace(placed, marker=marker, uncounted=uncounted)

    def empty_item(self) -> Iterator[Piece]:
        if self.waiting:
            yield self.put(Piece(), tight=True)

    def enter(self, token: Token) -> None:
        match token.type:
            case "blockquote_open":
                self.quote += 1
            case "bullet_list_open" | "ordered_list_open":
                self.lists.append(begun := next(self.to_come))
                if self.ended is not None and self.ended.goes_on and begun.begins != self.ended.goes_on:
                    begun.is_counted = False
            case "list_item_open":
                self.waiting = next(self.lists[-1].markers)
                self.widths.append(len(self.waiting) + 1)

    def leave(self, token: Token) -> None:
        match token.type:
            case "blockquote_close":
                self.quote -= 1
            case "bullet_list_close" | "ordered_list_close":
                self.ended = self.lists.pop()
            case "list_item_close":
                self.widths.pop()


def _pieces(tokens: Sequence[Token]) -> Iterator[Piece]:
    place = _Place(_lists(tokens))
    index = 0
    while index < len(tokens):
        token = tokens[index]
        if token.type == "table_open":
            end = next(at for at in range(index, len(tokens)) if tokens[at].type == "table_close")
            yield from _block(place, _table(tokens[index:end]))
            index = end
        elif token.type == "inline":
            yield from _words(place, tokens[index - 1], token)
        elif token.type in ("fence", "code_block", "hr"):
            yield from _block(place, _leaf(token))
        elif token.type in ("list_item_open", "list_item_close"):
            yield from place.empty_item()
        if token.nesting == 1:
            place.enter(token)
        elif token.nesting == -1:
            place.leave(token)
        index += 1


def _words(place: _Place, block: Token, inline: Token) -> Iterator[Piece]:
    runs = tuple(_runs(inline.children or []))
    if not runs:
        return
    if block.type == "heading_open":
        runs = tuple(replace(run, text=run.text.replace("\n", " ")) for run in runs)
        yield place.put(Piece(kind=Kind.HEADING, runs=runs, level=int(block.tag[1:])), tight=False)
    else:
        yield place.put(Piece(runs=runs), tight=block.hidden)


def _block(place: _Place, piece: Piece) -> Iterator[Piece]:
    """A piece that stands by itself: the marker of its item goes before it on a line of its own."""
    yield from place.empty_item()
    if piece.kind is Kind.RULE or piece.text.strip():
        yield replace(place.put(piece, tight=False), indent=0, quote=0)


def _leaf(token: Token) -> Piece:
    if token.type == "hr":
        return Piece(kind=Kind.RULE)
    language = re.sub(r"[^\w+#.-]", "", (token.info.split() or [""])[0], flags=re.ASCII)
    return code(token.content.removesuffix("\n"), language[:_LONGEST_LANGUAGE])


def _table(tokens: Sequence[Token]) -> Piece:
    rows: list[list[tuple[Run, ...]]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            runs = _runs(token.children or [])
            rows[-1].append(tuple(replace(run, text=run.text.replace("\n", " ")) for run in runs))
    drawn = aligned([["".join(in_words(run) for run in cell) for cell in row] for row in rows])
    return Piece(kind=Kind.TABLE, runs=(Run(drawn),), rows=tuple(tuple(row) for row in rows))


def _runs(tokens: Sequence[Token]) -> Iterator[Run]:
    """The inline tokens as runs; neighbours of one style are one run."""
    for (style, is_link), runs in groupby(_each_run(tokens), key=lambda run: (run.style, bool(run.href))):
        if is_link:
            yield from runs
        else:
            yield Run("".join(run.text for run in runs), style)


def _each_run(tokens: Sequence[Token]) -> Iterator[Run]:
    styles: Counter[Style] = Counter()
    index = 0
    while index < len(tokens):
        token, style = tokens[index], _all(styles)
        if token.type == "link_open":
            end = next(at for at in range(index, len(tokens)) if tokens[at].type == "link_close")
            yield _link(_label(tokens[index + 1 : end]), str(token.attrs.get("href", "")), style)
            index = end
        elif token.type == "image":
            yield _link(_label(token.children or []), str(token.attrs.get("src", "")), style)
        elif token.type == "code_inline":
            yield Run(token.content, Style.CODE)
        elif token.type in ("softbreak", "hardbreak"):
            yield Run("\n", style)
        elif token.content:
            yield from _found_urls(token.content, style)
        elif token.nesting and token.tag in _STYLES:
            styles[_STYLES[token.tag]] += token.nesting
        index += 1


def _all(styles: Mapping[Style, int]) -> Style:
    """The styles that are begun and not ended."""
    return reduce(or_, (style for style, depth in styles.items() if depth > 0), Style.NONE)


def _label(tokens: Sequence[Token]) -> str:
    """The words of a link, without styles."""
    words = (_label(token.children or []) if token.type == "image" else token.content or "" for token in tokens)
    breaks = (" " if token.type in ("softbreak", "hardbreak") else "" for token in tokens)
    return "".join(word + gap for word, gap in zip(words, breaks, strict=True))


def _link(label: str, href: str, style: Style) -> Run:
    label = label.strip()
    if _LINKED.match(href):
        return Run(label or href, style, href)
    if href in ("", label):
        return Run(label, style)
    return Run(f"{label} ({href})" if label else href, style)


def _found_urls(text: str, style: Style) -> Iterator[Run]:
    """Text with the addresses in it made links, so that no form puts an escape into one."""
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


def in_words(run: Run) -> str:
    """A run as plain text: a link's address is written out behind its label."""
    if not run.href or run.href in (run.text, f"mailto:{run.text}"):
        return run.text
    return f"{run.text} ({run.href})"

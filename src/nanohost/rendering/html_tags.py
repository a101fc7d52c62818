"""Reads the HTML tags within Markdown into tokens.

A tag without its counterpart is text: "use <b> for bold". Sub- and superscripts use Unicode characters if there are
any, else `x_(…)` and `x^(…)`.
"""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from markdown_it.token import Token

from nanohost.rendering.markdown_rules import BLOCK_TAGS, COMMENT, TAG

_TAG_ALIASES = {
    "b": "strong",
    "summary": "strong",
    "i": "em",
    "ins": "u",
    "del": "s",
    "strike": "s",
}
_STYLES = frozenset({"strong", "em", "u", "s"})
_VOID_TAGS = frozenset({"br", "img"})
_LAYOUT_TAGS = frozenset({"p", "div", "center"})
_BREAK_TYPES, _BLOCK_EDGE = ("softbreak", "hardbreak"), "html_block_edge"
_VISIBLE_TYPES = frozenset({"text", "code_inline", "image", "link_open"})
_ATTRIBUTE = re.compile(r"""\b(href|src|alt)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)
_SUPERSCRIPTS = str.maketrans(
    "0123456789+-\u2212=()abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVW",
    "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂ",
)
_SUBSCRIPTS = str.maketrans("0123456789+-\u2212=()aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ")


def resolve_html(tokens: Sequence[Token]) -> Sequence[Token]:
    """Returns the block tokens of a text; their inline tokens contain no HTML any more."""
    folds = _match_tags(token for block in tokens for token in block.children or () if token.tag == "details")
    for block in tokens:
        if block.type == "inline" and any(token.type in (TAG, COMMENT) for token in block.children or ()):
            block.children = list(_normalize_breaks([*_resolve_tags(block.children or [], folds)]))
    return tokens


def _match_tags(tokens: Iterable[Token]) -> dict[int, Token]:
    """Returns the counterpart of each tag that has one, by the id of the tag."""
    paired: dict[int, Token] = {}
    open_tags: dict[str, list[Token]] = defaultdict(list)
    for token in tokens:
        if token.type != TAG:
            continue
        if not token.markup:
            open_tags[token.tag].append(token)
        elif open_tags[token.tag]:
            opening = open_tags[token.tag].pop()
            paired |= {id(token): opening, id(opening): token}
    return paired


def _resolve_tags(tokens: Sequence[Token], details_pairs: dict[int, Token]) -> Iterator[Token]:
    paired = details_pairs | _match_tags(token for token in tokens if token.tag != "details")
    spoken_of = {
        id(half)
        for index, token in enumerate(tokens)
        if token.tag in _LAYOUT_TAGS
        and not token.markup
        and id(token) in paired
        and not _is_at_line_start(tokens, index)
        for half in (token, paired[id(token)])
    }
    index = 0
    while index < len(tokens):
        token = tokens[index]
        if token.type != TAG:
            yield token
        elif token.tag in _VOID_TAGS:
            yield from _void_tag_tokens(token)
        elif id(token) not in paired or id(token) in spoken_of:
            yield _text(token.content)
        elif token.tag in ("sub", "sup") and not token.markup:
            end = next(at for at in range(index, len(tokens)) if tokens[at].tag == token.tag and tokens[at].markup)
            yield from _sub_or_superscript(token.tag, tokens[index + 1 : end])
            index = end
        else:
            yield from _tag_tokens(token)
        index += 1


def _is_at_line_start(tokens: Sequence[Token], index: int) -> bool:
    """Returns whether a layout tag is at the start of a line; within a line it is text, as in "a <p>…</p> is a
    paragraph"."""
    while index and _is_blank(tokens[index - 1]):
        index -= 1
    return index == 0 or tokens[index - 1].type in (*_BREAK_TYPES, TAG)


def _is_blank(token: Token) -> bool:
    return token.type == "text" and not token.content.strip()


def _tag_tokens(tag: Token) -> Iterator[Token]:
    """Yields the tokens for an opening or closing tag."""
    name = _TAG_ALIASES.get(tag.tag, tag.tag)
    edge = [Token(_BLOCK_EDGE, "", 0)] if tag.tag in BLOCK_TAGS else []
    if not tag.markup:
        yield from edge
    if name in _STYLES:
        yield Token("html_style", name, -1 if tag.markup else 1)
    elif name == "a":
        yield Token("link_close", "a", -1) if tag.markup else _link(tag, "href")
    if tag.markup:
        yield from edge


def _link(tag: Token, attribute: str) -> Token:
    return Token("link_open", "a", 1, attrs={"href": _attributes(tag).get(attribute, "")})


def _void_tag_tokens(tag: Token) -> Iterator[Token]:
    if tag.tag == "br":
        yield Token("hardbreak", "br", 0)
        return
    yield _link(tag, "src")
    yield _text(_attributes(tag).get("alt", ""))
    yield Token("link_close", "a", -1)


def _attributes(tag: Token) -> dict[str, str]:
    found = _ATTRIBUTE.finditer(tag.info)
    return {one[1].lower(): html.unescape(one[2] or one[3] or one[4] or "") for one in found}


def _sub_or_superscript(name: str, tokens: Sequence[Token]) -> Iterator[Token]:
    """Yields the tokens of sub- or superscript text."""
    table, mark = (_SUPERSCRIPTS, "^") if name == "sup" else (_SUBSCRIPTS, "_")
    text = "".join(token.content for token in tokens)
    if any(token.type != "text" for token in tokens):
        yield from _with_styles(tokens)
    elif all(ord(character) in table for character in text):
        yield _text(text.translate(table))
    else:
        yield _text(f"{mark}{text}" if text.isalnum() else f"{mark}({text})")


def _with_styles(tokens: Sequence[Token]) -> Iterator[Token]:
    """Yields text without Unicode super- or subscripts, with its styles."""
    paired = _match_tags(tokens)
    for token in tokens:
        if token.type != TAG or token.tag in _VOID_TAGS:
            yield from [token] if token.type != TAG else _void_tag_tokens(token)
        else:
            yield from _tag_tokens(token) if id(token) in paired else [_text(token.content)]


def _text(content: str) -> Token:
    return Token("text", "", 0, content=content)


def _normalize_breaks(tokens: Sequence[Token]) -> Iterator[Token]:
    """Removes line ends and blanks that only format the HTML source, and adds a line end after each block."""
    kept = [token for index, token in enumerate(tokens) if not _is_ignorable(tokens, index)]
    shown = (index for index, token in enumerate(kept) if token.type in _VISIBLE_TYPES and not _is_blank(token))
    last = max(shown, default=-1)
    is_edge = is_shown = False
    for index, token in enumerate(kept):
        if token.type == _BLOCK_EDGE:
            is_edge = True
        elif token.type in _BREAK_TYPES:
            if is_shown and not is_edge and index < last:
                yield token
        elif _is_blank(token) and (is_edge or not is_shown):
            continue
        elif token.type in _VISIBLE_TYPES:
            if token.type == "text" and (is_edge or not is_shown or kept[index - 1].type == "hardbreak"):
                token.content = token.content.lstrip()
            if is_edge and is_shown:
                yield Token("hardbreak", "br", 0)
            is_edge, is_shown = False, True
            yield token
        else:
            yield token


def _is_ignorable(tokens: Sequence[Token], index: int) -> bool:
    """Returns whether the token is a comment, or a line end next to a comment on its own line or after a final tag."""
    token = tokens[index]
    if token.type == COMMENT:
        return True
    if token.type != "softbreak" or index == 0:
        return False
    if tokens[index - 1].type == "hardbreak":
        return True
    return tokens[index - 1].type == COMMENT and (index == 1 or tokens[index - 2].type in _BREAK_TYPES)

"""Rules that markdown-it gets for Markdown as models write it: addresses, emphasis, backslashes, HTML, tables.

CommonMark finds marks in them, so `__init__` would be bold and its address another one. What stands between the scheme
and the next blank, quotation mark, bracket, backslash or letter of a script without blanks is no markup; marks at its
end are no part of it, since they close what began before it.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache

from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import escapedSplit, getLine, table
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.escape import escape
from markdown_it.token import Token

from nanohost.rendering.characters import is_closing, is_opening, is_punctuation, is_wide

_URL_SCHEME = re.compile(r"(?<![A-Za-z0-9])https?\Z", re.IGNORECASE)
_URL_REST = re.compile(r"://[!#-;=?-Z^_a-~\u00c0-\u1fff]*")
_TRAILING_PUNCTUATION = ".,:;!?'*_~)}|"
_ENTITY = re.compile(r"&#?\w{1,32};")


def bare_url(state: StateInline, silent: bool) -> bool:
    """Parses the rest of an address whose scheme has just been read."""
    if state.src[state.pos] != ":" or not _URL_SCHEME.search(state.src[max(0, state.pos - 6) : state.pos]):
        return False
    found = _URL_REST.match(state.src, state.pos, state.posMax)
    rest = found[0].rstrip(_TRAILING_PUNCTUATION) if found is not None else ""
    if len(rest) <= len("://"):
        return False
    if not silent:
        state.pending += _ENTITY.sub(lambda entity: html.unescape(entity[0]), rest)
    state.pos += len(rest)
    return True


_LATIN_CLOSERS = frozenset(":;,.!?)]}\"'%`>*_~…")
_UNDERSCORE_CLOSERS = frozenset(":!?)]")
_SINGLE_LETTER = re.compile(r"[A-Za-z](?![A-Za-z0-9])")
"""A single letter, which counts as a number in a product."""
_InlineRule = Callable[[StateInline, bool], bool]


def with_cjk_and_punctuation(tokenize: _InlineRule) -> _InlineRule:
    """Extends markdown-it's rule for a mark, so that it may also open or close next to wide characters and
    punctuation."""

    def rule(state: StateInline, silent: bool) -> bool:
        start, first = state.pos, len(state.delimiters)
        if not tokenize(state, silent):
            return False
        if len(state.delimiters) > first:
            opens, closes = _can_open_and_close(state.src, start, state.pos, state.posMax)
            is_operator = _is_operator(state.src, start, state.pos)
            for delimiter in state.delimiters[first:]:
                delimiter.open = (delimiter.open or opens) and not is_operator
                delimiter.close |= closes
        return True

    return rule


def _is_operator(text: str, start: int, end: int) -> bool:
    """Returns whether asterisks are multiplication signs: between letters or numbers with at least one number, or one
    asterisk before a single letter."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if text[start] != "*" or not (before.isascii() and before.isalnum() and after.isascii() and after.isalnum()):
        return False
    return before.isdigit() or after.isdigit() or (end - start == 1 and _SINGLE_LETTER.match(text, end) is not None)


def _can_open_and_close(text: str, start: int, end: int, limit: int) -> tuple[bool, bool]:
    """Returns whether the marks from `start` to `end` may open, and whether they may close."""
    before = text[start - 1] if start else " "
    after = text[end] if end < limit else " "
    if before.isspace() or after.isspace():
        return False, False
    # An underscore here is probably part of a name.
    opens = text[start] != "_" and is_wide(before) and is_punctuation(after) and not is_closing(after)
    return opens, is_punctuation(before) and not is_punctuation(after) and _can_close(text, start, end)


def _can_close(text: str, start: int, end: int) -> bool:
    mark, before, after = text[start], text[start - 1], text[end]
    if is_opening(before, text[start - 2] if start > 1 else " ") or before == "\\":
        return False
    if mark == "_" and not _is_at_word_start(text, text.rfind(mark, 0, start)):
        return False
    if is_wide(after) or not before.isascii():
        return True
    if before not in (_UNDERSCORE_CLOSERS if mark == "_" else _LATIN_CLOSERS):
        return False
    return end - start > 1 or before not in ")]}" or _is_balanced(text[text.rfind(mark, 0, start) + 1 : start])


def _is_at_word_start(text: str, place: int) -> bool:
    """Returns whether the underscore is not part of a name."""
    while place > 0 and text[place - 1] in "_*~":
        place -= 1
    return place == 0 or (place > 0 and (text[place - 1].isspace() or is_opening(text[place - 1], " ")))


def _is_balanced(text: str) -> bool:
    return all(text.count(left) == text.count(right) for left, right in ("()", "[]", "{}"))


_WORD = re.compile(r"[^\s\u2018-\u201f\u3000-\u3002\u3008-\u3011\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f]+")
_BACKSLASH = re.compile(r"\\(.?)", re.DOTALL)
_SHRUG = "¯\\_("
_PATH = re.compile(r"[\"'(\[{<*_]*(?:[A-Za-z]:\\(?!\\)|(?:~|\.{1,2}|%\w+%)\\[._-]+\w)")


def literal_backslash(state: StateInline, silent: bool) -> bool:
    """Applies markdown-it's rule for escapes, except to literal backslashes."""
    if state.src[state.pos] != "\\" or state.pos not in _literal_positions(state.src):
        return escape(state, silent)
    followed = state.src[state.pos + 1 : state.pos + 2]
    text = "\\" if not followed or followed.isspace() else "\\" + followed
    if not silent:
        token = state.push("text_special", "", 0)
        token.content = token.markup = text
        token.info = "escape"
    state.pos += len(text)
    return True


@lru_cache(maxsize=2)
def _literal_positions(text: str) -> frozenset[int]:
    """Returns the positions of literal backslashes."""
    places: set[int] = set()
    for word in _WORD.finditer(text):
        if "\\" in word[0] and _is_literal_word(word[0]):
            places.update(word.start() + found.start() for found in _BACKSLASH.finditer(word[0]))
    return frozenset(places)


def _is_literal_word(word: str) -> bool:
    return _SHRUG in word or bool(_PATH.match(word)) or any(found[1].isalnum() for found in _BACKSLASH.finditer(word))


TAG, COMMENT = "html_tag", "html_comment"
CODE_TAGS = ("code", "kbd", "samp", "tt")
STYLE_TAGS = ("b", "strong", "i", "em", "u", "ins", "s", "del", "strike")
BLOCK_TAGS = ("details", "summary", "p", "div", "center")
OTHER_TAGS = ("a", "br", "img", "sub", "sup", "span", "font", "mark", "small", "big")
_TAG_NAMES = "|".join([*CODE_TAGS, *STYLE_TAGS, *BLOCK_TAGS, *OTHER_TAGS])
_TAG = re.compile(rf"<(/?)({_TAG_NAMES})((?:[\s/][^<>]*)?)>", re.IGNORECASE)


def html_tag(state: StateInline, silent: bool) -> bool:
    """Parses a known tag, a comment, or code between tags."""
    if state.src.startswith("<!--", state.pos):
        return _comment(state, silent)
    tag = _TAG.match(state.src, state.pos, state.posMax)
    if tag is None:
        return False
    slash, name, attributes = tag[1], tag[2].lower(), tag[3]
    if name in CODE_TAGS and not slash:
        return _code_between_tags(state, tag, name, silent)
    if not silent:
        token = state.push(TAG, name, 0)
        token.content = tag[0]
        token.markup, token.info = slash, attributes
    state.pos = tag.end()
    return True


def _code_between_tags(state: StateInline, tag: re.Match[str], name: str, silent: bool) -> bool:
    """Parses text between code tags as literal code, except for entities."""
    closing = f"</{name}>"
    if state.html_terminator_last(closing) < tag.end():
        return False
    end = state.src.find(closing, tag.end(), state.posMax)
    content = html.unescape(state.src[tag.end() : end]) if end >= 0 else ""
    if not content.strip():
        return False
    if not silent:
        state.push("code_inline", "code", 0).content = content
    state.pos = end + len(closing)
    return True


def _comment(state: StateInline, silent: bool) -> bool:
    if state.html_terminator_last("-->") < state.pos + 4:
        return False
    end = state.src.find("-->", state.pos + 4, state.posMax)
    if end < 0:
        return False
    after = end + 3
    if state.src[state.pos - 1 : state.pos] == " " and state.src[after : after + 1] == " ":
        after += 1  # keeps one of the blanks around it
    if not silent:
        state.push(COMMENT, "", 0)
    state.pos = after
    return True


def html_comment(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """Removes a comment that begins a block and has its lines to itself."""
    start = state.bMarks[start_line] + state.tShift[start_line]
    if not state.src.startswith("<!--", start) or state.is_code_block(start_line):
        return False
    end = _end_of_comment(state, start + 4)
    if end < 0:
        return False
    last = bisect_right(state.bMarks, end) - 1
    if last >= end_line or state.src[end + 3 : state.eMarks[last]].strip():
        return False
    if any(state.sCount[line] < state.blkIndent and not state.isEmpty(line) for line in range(start_line + 1, last)):
        return False
    state.line = last + 1
    return True


def _end_of_comment(state: StateBlock, start: int) -> int:
    """Returns the end of the next comment; cached, so that many unclosed comments cost one search."""
    sought, found = state.env.get("comment_end", (0, 0))
    if not (sought <= start and (found < 0 or start <= found)):
        found = state.src.find("-->", start)
        state.env["comment_end"] = (start, found)
    return int(found)


def table_with_extra_cells(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """Applies markdown-it's rule for tables, and then restores text cut from the last cell of each row."""
    first = len(state.tokens)
    if not table(state, start_line, end_line, silent):
        return False
    cells: list[Token] = []
    for token in state.tokens[first:]:
        match token.type:
            case "tr_open":
                cells = []
            case "inline":
                cells.append(token)
            case "tr_close":
                _restore_last_cell(state, cells)
    return True


def _restore_last_cell(state: StateBlock, cells: list[Token]) -> None:
    last = cells[-1]
    assert last.map is not None, "a cell knows its line"
    written = escapedSplit(getLine(state, last.map[0]).strip())
    if written[0] == "":
        del written[0]
    if written and written[-1] == "":
        del written[-1]
    if len(written) > len(cells):
        last.content = "|".join(written[len(cells) - 1 :]).strip()

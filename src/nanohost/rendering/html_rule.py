"""HTML within Markdown: markdown-it's rules for the tags and comments that models write.

The tags are only found here; whether one is markup shows when its other half is there (`html_tags`). What is not on the
list is text, as are names in angle brackets: `List<String>`.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right

from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

TAG, COMMENT = "html_tag", "html_comment"
CODE_TAGS = ("code", "kbd", "samp", "tt")
STYLE_TAGS = ("b", "strong", "i", "em", "u", "ins", "s", "del", "strike")
BLOCK_TAGS = ("details", "summary", "p", "div", "center")
OTHER_TAGS = ("a", "br", "img", "sub", "sup", "span", "font", "mark", "small", "big")
_TAG_NAMES = "|".join([*CODE_TAGS, *STYLE_TAGS, *BLOCK_TAGS, *OTHER_TAGS])
_TAG = re.compile(rf"<(/?)({_TAG_NAMES})((?:[\s/][^<>]*)?)>", re.IGNORECASE)


def html_tag(state: StateInline, silent: bool) -> bool:
    """A tag of the list, a comment, or code between tags."""
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
    """What stands between is code as it is, but for entities."""
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
        after += 1  # of the blanks around it one is left
    if not silent:
        state.push(COMMENT, "", 0)
    state.pos = after
    return True


def html_comment(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """A comment that has its lines to itself, however many, and begins a block; nothing is left of it."""
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
    """Where the next comment ends; kept, so that many beginnings without an end cost one look."""
    sought, found = state.env.get("comment_end", (0, 0))
    if not (sought <= start and (found < 0 or start <= found)):
        found = state.src.find("-->", start)
        state.env["comment_end"] = (start, found)
    return int(found)

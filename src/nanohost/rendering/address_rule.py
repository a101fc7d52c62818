"""Addresses in a text: `https://example.com/pkg/__init__.py`.

CommonMark finds marks in them, so `__init__` would be bold and its address another one. What stands between the scheme
and the next blank, quotation mark, bracket, backslash or letter of a script without blanks is no markup; marks at its
end are no part of it, since they close what began before it.
"""

from __future__ import annotations

import html
import re

from markdown_it.rules_inline import StateInline

_URL_SCHEME = re.compile(r"(?<![A-Za-z0-9])https?\Z", re.IGNORECASE)
_URL_REST = re.compile(r"://[!#-;=?-Z^_a-~\u00c0-\u1fff]*")
_TRAILING_PUNCTUATION = ".,:;!?'*_~)}|"
_ENTITY = re.compile(r"&#?\w{1,32};")


def bare_url(state: StateInline, silent: bool) -> bool:
    """Takes what is left of an address whose scheme has just been read."""
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

"""Marks cards of the host, so that people can tell them from cards of an agent on every platform. Pure.

Promises: a card of the host begins with `host_header`, and so does the message with its buttons. A message of an agent
with choices begins with the agent's name, written by the host. An agent's text never looks like the header: its
brackets are replaced, and a line with its words, also in English or in the language of the install and in
look-alike letters, begins with a bar.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection

from nanohost.text import quoting
from nanohost.text.translation import _, gettext_noop, known_forms

HOST_HEADER_TEXT = gettext_noop("nanohost asks")
_BRACKET_LOOKALIKES = str.maketrans(dict.fromkeys("⟦〚⦋⁅⟬⦗", "[") | dict.fromkeys("⟧〛⦌⁆⟭⦘", "]"))
"""The brackets of the header, and their look-alikes."""
_LOOKALIKES = str.maketrans(
    {
        **dict.fromkeys("\u0430\u03b1\u0251\u237a4", "a"),
        **dict.fromkeys("\u043e\u03bf\u05850\u1d0f\u25cb", "o"),
        **dict.fromkeys("\u0455\ua7315$", "s"),
        **dict.fromkeys("\u04bb\u0570\u043d\u029c", "h"),
        **dict.fromkeys("\u0442\u03c4\u1d1b7", "t"),
        **dict.fromkeys("\u043a\u03ba\u1d0b", "k"),
        **dict.fromkeys("\u043f\u0578\u03b7\u0274\u057c", "n"),
    }
)
"""Digits and letters of other scripts that look like letters of the header."""


def host_header() -> str:
    """The first line of a card of the host, in the language of the install."""
    return f"**⟦ {_(HOST_HEADER_TEXT)} ⟧**"


def agent_header(folder: str) -> str:
    """Returns the first line of a message of an agent with choices."""
    return _("From the agent {agent}:", agent=quoting.name(folder))


def escape_host_header(text: str) -> str:
    """Returns the agent's text with everything replaced that looks like the header of the host."""
    headers = {skeleton for form in known_forms(HOST_HEADER_TEXT) if (skeleton := _skeleton(form))}
    return "\n".join(_escape_line(line, headers) for line in text.translate(_BRACKET_LOOKALIKES).split("\n"))


def _escape_line(line: str, headers: Collection[str]) -> str:
    skeleton = _skeleton(line)
    return f"{quoting.QUOTE_PREFIX}{line}" if any(header in skeleton for header in headers) else line


def _skeleton(line: str) -> str:
    """Returns the line's letters by their look: without marks, case, blanks and invisible characters."""
    plain = unicodedata.normalize("NFKD", line).casefold().translate(_LOOKALIKES)
    return "".join(char for char in plain if char.isalnum())

"""What tells a card of the host from a card of an agent, on every platform. Pure.

Promises: a card of the host begins with `host_header`, and so does the message that carries its buttons. Whatever an
agent says with something to choose begins with its name, written by us. In an agent's text nothing reads as the
header: its signs are replaced, and a line that says its words, in English or in the language of the install and in
whatever letters, begins with a bar.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection

from nanohost.text import quoting
from nanohost.text.translation import _, gettext_noop, known_forms

HOST_HEADER_TEXT = gettext_noop("nanohost asks")
_BRACKET_LOOKALIKES = str.maketrans(dict.fromkeys("⟦〚⦋⁅⟬⦗", "[") | dict.fromkeys("⟧〛⦌⁆⟭⦘", "]"))
"""The brackets of the header, and those that look like them."""
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
"""Letters of other scripts, and digits, that look like those of the header."""


def host_header() -> str:
    """The first line of a card of the host, in the language of the install."""
    return f"**⟦ {_(HOST_HEADER_TEXT)} ⟧**"


def agent_header(folder: str) -> str:
    """The first line of what an agent says with something to choose."""
    return _("From the agent {agent}:", agent=quoting.name(folder))


def escape_host_header(text: str) -> str:
    """An agent's text, in which nothing can be taken for the header of the host."""
    headers = {skeleton for form in known_forms(HOST_HEADER_TEXT) if (skeleton := _skeleton(form))}
    return "\n".join(_escape_line(line, headers) for line in text.translate(_BRACKET_LOOKALIKES).split("\n"))


def _escape_line(line: str, headers: Collection[str]) -> str:
    skeleton = _skeleton(line)
    return f"{quoting.QUOTE_PREFIX}{line}" if any(header in skeleton for header in headers) else line


def _skeleton(line: str) -> str:
    """The letters as they look: without marks, case, blanks and what nobody sees."""
    plain = unicodedata.normalize("NFKD", line).casefold().translate(_LOOKALIKES)
    return "".join(char for char in plain if char.isalnum())

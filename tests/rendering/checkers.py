"""Strict validators of each form: they refuse what the platform would refuse or parse differently."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from urllib.parse import unquote

from nanohost.rendering import Form, Limits, MessagePart, Unit
from nanohost.rendering.dialects import PLAIN
from nanohost.rendering.parsing import parse
from tests.rendering.readers import count_entities

_LENGTHS: dict[Unit, Callable[[str], int]] = {
    Unit.CHARS: len,
    Unit.UTF16: lambda text: len(text.encode("utf-16-le")) // 2,
    Unit.BYTES: lambda text: len(text.encode()),
}
_TELEGRAM_TAG = re.compile(
    r'<(?P<open>b|i|u|s|pre|blockquote|code|code class="language-[\w+#.-]+"|a href="(?:https?:|mailto:|tg:)[^"<>]*")>'
    r"|</(?P<close>b|i|u|s|pre|blockquote|code|a)>"
    r"|&(?:lt|gt|amp|quot|#x27);|[^<>&]",
    re.DOTALL | re.IGNORECASE,
)
_SLACK_TOKEN = re.compile(
    r"<(?:https?:|mailto:|tg:)[^<>|\s]*(?:\|[^<>]*)?>|&(?:lt|gt|amp);|^>|(?<=> )>|[^<>&]", re.M | re.I
)
_PINGS = re.compile(r"@(?:everyone|here|channel)|<[@#!&]", re.IGNORECASE)


def check_part(part: MessagePart, form: Form, limits: Limits) -> None:
    """Raises AssertionError for a message that its platform would refuse, or parse differently."""
    measure = _LENGTHS[limits.unit]
    shown = _telegram_text(part.text) if limits.is_counted_after_parsing else part.text
    assert measure(shown) <= limits.max_length
    assert measure(part.plain) <= limits.max_length
    assert limits.max_entities is None or count_entities(part.text) <= limits.max_entities
    assert part.text.strip()
    if form in (Form.DISCORD, Form.SLACK, Form.SLACK_MARKDOWN):
        assert not _PINGS.search(part.text)
        assert not _PINGS.search(part.plain)
    if form is Form.TELEGRAM:
        _check_telegram(part.text)
    if form is Form.SLACK:
        assert "".join(found[0] for found in _SLACK_TOKEN.finditer(part.text)) == part.text
    if form is Form.MARKDOWN and part.text == part.plain:
        return  # as the agent wrote it
    if form not in (Form.PLAIN, Form.TELEGRAM):
        assert len(re.findall("^```", part.text, re.MULTILINE)) % 2 == 0
    if form in (Form.MARKDOWN, Form.SLACK_MARKDOWN):
        assert _letters(PLAIN.render_part(parse(part.text))) == _letters(part.plain)


def words_in(text: str) -> list[str]:
    """The words of a generated document, also split ones: formatting and addresses are left out."""
    return re.findall(r"w\d+x", re.sub(r"[^wx0-9]", "", text))


def _letters(text: str) -> str:
    """The characters that are compared after parsing."""
    return "".join(re.findall(r"[^\W_]", unquote(text)))


def _telegram_text(text: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", text))


def _check_telegram(text: str) -> None:
    stack: list[str] = []
    at = 0
    while at < len(text):
        found = _TELEGRAM_TAG.match(text, at)
        assert found, f"Telegram stops at {text[at : at + 30]!r}"
        if name := found["open"]:
            _check_nesting(stack, name.split()[0])
            stack.append(name.split()[0])
        elif name := found["close"]:
            assert stack
            assert stack.pop() == name
        at = found.end()
    assert not stack


def _check_nesting(stack: list[str], name: str) -> None:
    assert "code" not in stack
    assert name not in stack
    assert "pre" not in stack or (name == "code" and stack == ["pre"])
    assert name != "blockquote" or not stack

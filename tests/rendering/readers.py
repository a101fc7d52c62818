"""What a person sees of a message on each platform: markup is parsed by the platform's own rules, and what it would not
parse stays visible. Written from the platforms' documentation, not from the dialects under test."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from markdown_it import MarkdownIt
from markdown_it.token import Token

from nanohost.rendering import Form, MessagePart

_LINK = re.compile(r'<a href="([^"]*)">(.*?)</a>', re.DOTALL)


def read_as_person(part: MessagePart, form: Form, *, entities: int | None = None) -> str:
    """The visible text, a link as `label (address)`. `entities`: the platform formats no more than these."""
    return part.text if form is Form.PLAIN else _READERS[form](part.text, entities)


def count_entities(markup: str) -> int:
    """The number of entities in Telegram's HTML: one for each tag and for each bare address."""
    bare = re.sub(r"<(a|pre|code)\b.*?</\1>", "", markup, flags=re.DOTALL)
    in_code = len(re.findall(r"<pre><code", markup))
    return len(re.findall(r"<[a-z]", markup)) - in_code + len(re.findall(r"https?://", bare))


def _telegram(markup: str, entities: int | None) -> str:
    made = 0

    def link(found: re.Match[str]) -> str:
        nonlocal made
        made = count_entities(markup[: found.start()]) + 1
        return f"{found[2]} ({found[1]})" if entities is None or made <= entities else found[2]

    return html.unescape(re.sub(r"</?[a-z][^>]*>", "", _LINK.sub(link, markup)))


def _parse_marks(marks: str, text: str) -> str:
    """Formatting marks of Slack and WhatsApp: parsed next to spaces or punctuation, otherwise visible."""
    for mark in map(re.escape, marks):
        inside = rf"(?=[^\s\u200b])([^\n{mark}]*[^\s\u200b{mark}])"
        text = re.sub(rf"(?<![\w{mark}]){mark}{inside}{mark}(?![\w{mark}])", r"\1", text)
    return text


def _outside_code(text: str, read: Callable[[str], str]) -> str:
    pieces = re.split(r"(```.*?```|(?<!\\)`(?!\u200b)[^`\n]+`)", text, flags=re.DOTALL)
    return "".join(piece.strip("`") if number % 2 else read(piece) for number, piece in enumerate(pieces))


def _whatsapp(text: str, entities: int | None) -> str:
    return _outside_code(text, lambda words: _parse_marks("*_~", words))


def _slack(text: str, entities: int | None) -> str:
    links = re.sub(r"<([^|<>]+)\|([^<>]+)>", r"\2 (\1)", _outside_code(text, lambda words: _parse_marks("*_~", words)))
    return html.unescape(re.sub(r"<([^<>]+)>", r"\1", links))


def _discord(text: str, entities: int | None) -> str:
    return _outside_code(_discord_lists(text), _discord_words)


def _discord_lists(text: str) -> str:
    """Discord numbers a list from its first number on."""
    lines: list[str] = []
    number: int | None = None
    for line in text.split("\n"):
        if item := re.match(r"( *)(\d+)\. (?=\S)", line):
            number = int(item[2]) if number is None else number + 1
            line = f"{item[1]}{number}. {line[item.end() :]}"
        elif line.strip() and not line.startswith(" "):
            number = None
        lines.append(line)
    return "\n".join(lines)


def _discord_words(text: str) -> str:
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[1])
        return f"\0{len(kept) - 1}\0"

    text = re.sub(r"\\([^0-9A-Za-z\s])", keep, text)
    text = re.sub(r"\[([^\]]+)\]\(<([^>]+)>\)", r"\1 (\2)", text)
    text = re.sub(r"<(https?://[^>]+)>", r"\1", text)
    for mark in (r"\*\*(.+?)\*\*(?!\*)", "__(.+?)__(?!_)", "~~(.+?)~~", r"\*(?=\S)(.+?)\*(?!\*)", r"\b_(.+?)_\b"):
        text = re.sub(mark, r"\1", text, flags=re.DOTALL)
    return re.sub(r"\0(\d+)\0", lambda found: kept[int(found[1])], text)


def _commonmark(text: str, entities: int | None) -> str:
    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    shown: list[str] = []
    numbers: list[int | None] = []
    for token in reader.parse(text):
        match token.type:
            case "ordered_list_open":
                numbers.append(int(token.attrs.get("start", 1)))
            case "bullet_list_open":
                numbers.append(None)
            case "ordered_list_close" | "bullet_list_close":
                numbers.pop()
            case "list_item_open":
                shown.append("- " if numbers[-1] is None else f"{numbers[-1]}. ")
                numbers[-1] = None if numbers[-1] is None else numbers[-1] + 1
            case "inline":
                shown.append(_words(token.children or []) + "\n")
            case "fence" | "code_block":
                shown.append(token.content)
    return "".join(shown)


def _words(tokens: list[Token]) -> str:
    shown: list[str] = []
    links: list[str] = []
    for token in tokens:
        if token.type == "link_open":
            links.append(str(token.attrs["href"]))
        elif token.type == "link_close":
            shown.append(f" ({links.pop()})")
        elif token.type in ("softbreak", "hardbreak"):
            shown.append("\n")
        else:
            shown.append(token.content)
    return "".join(shown)


_READERS: dict[Form, Callable[[str, int | None], str]] = {
    Form.TELEGRAM: _telegram,
    Form.SLACK: _slack,
    Form.MARKDOWN: _commonmark,
    Form.SLACK_MARKDOWN: _commonmark,
    Form.DISCORD: _discord,
    Form.WHATSAPP: _whatsapp,
}

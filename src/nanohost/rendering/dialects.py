"""The forms: what marks a style, a link and a block of code on each platform, and what must be escaped there."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import replace

from nanohost.rendering.characters import is_punctuation, is_strict_punctuation, takes_a_blank
from nanohost.rendering.dialect import Dialect, fenced, tags_read
from nanohost.rendering.form import Form
from nanohost.rendering.parsing import in_words
from nanohost.rendering.pieces import ZERO_WIDTH_SPACE, Kind, Piece, Run, Style

_ADDRESS_ESCAPES = str.maketrans({"(": "%28", ")": "%29", "<": "%3C", ">": "%3E", "|": "%7C", "\\": "%5C", " ": "%20"})
_MARK_CHARACTERS = frozenset("*_~`")
_FLANKED = Style.BOLD | Style.ITALIC | Style.STRIKE


class Markdown(Dialect):
    """CommonMark with tables and strikethrough."""

    marks: tuple[tuple[Style, str, str], ...] = (
        (Style.STRIKE, "~~", "~~"),
        (Style.BOLD, "**", "**"),
        (Style.ITALIC, "*", "*"),
    )
    rule = "---"
    heading_style = Style.NONE
    _special = re.compile(r"[\\*`\[\]<~|]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")
    _at_start = re.compile(r"(?:[#>+=-]|(?<=\d)[.)])")
    _line_start = re.compile(r"\d{1,9}(?=[.)])")

    def part(self, pieces: Sequence[Piece]) -> str:
        """A list that begins in the middle moves to the margin: what is pushed in by four would be code. So does what
        stands under an item that is no item to the reader."""
        placed: list[Piece] = []
        margin = 0
        for index, piece in enumerate(pieces):
            indent = max(0, piece.indent - piece.loose)
            if not index or not pieces[index - 1].in_list:
                margin = indent
            placed.append(replace(piece, indent=max(0, indent - margin)))
        return super().part(placed)

    def joint(self, above: Piece, below: Piece) -> str:
        """An item with a number of its own is a paragraph: it would go on with the line above."""
        if below.tight and above.uncounted and below.uncounted:
            return "  \n"
        if above.uncounted or below.uncounted:
            below = replace(below, tight=False)
        return super().joint(above, below)

    def margins(self, piece: Piece) -> tuple[str, str]:
        first, rest = super().margins(piece)
        return (first + "#" * piece.level + " " if piece.kind is Kind.HEADING else first), rest

    def marker(self, piece: Piece) -> str:
        marker = super().marker(piece)
        return f"{marker[:-1]}\\{marker[-1]}" if piece.uncounted and marker.isascii() else marker

    def gap(self, left: Run, right: Run, before: str, after: str) -> str:
        if _are_unflanked(left, right, before[-1], after[0]):
            return " "
        if before[-1] not in _MARK_CHARACTERS or after[0] not in _MARK_CHARACTERS:
            return ""
        # A reader takes a zero-width space for a letter.
        is_unflanked = _is_unflanked(left, left.text[-1], ZERO_WIDTH_SPACE) or _is_unflanked(
            right, right.text[0], ZERO_WIDTH_SPACE
        )
        return " " if is_unflanked else ZERO_WIDTH_SPACE

    def escape(self, text: str, *, at_start: bool) -> str:
        start = 0
        if at_start and (number := self._line_start.match(text)):
            start = number.end()
        if at_start and self._at_start.match(text, start):
            return f"{text[:start]}\\{text[start]}{self._escaped(text[start + 1 :])}"
        return self._escaped(text)

    def _escaped(self, text: str) -> str:
        return self._special.sub(r"\\\g<0>", text)

    def link(self, run: Run) -> str:
        address = run.href.translate(_ADDRESS_ESCAPES)
        return f"<{address}>" if run.text == run.href else f"[{self._escaped(run.text)}]({address})"

    def code_span(self, text: str) -> str | None:
        if not text.strip() or "```" in text:
            return None
        tick = "```" if "``" in text else "``" if "`" in text else "`"
        gap = " " if len(tick) > 1 else ""
        return f"{tick}{gap}{text}{gap}{tick}"

    def code(self, content: str, language: str) -> str:
        return fenced(content, language)

    def table(self, piece: Piece) -> str:
        head, *body = ["| " + " | ".join(self._cell(cell) for cell in row) + " |" for row in piece.rows]
        return "\n".join([head, "|" + " --- |" * len(piece.rows[0]), *body])

    def _cell(self, cell: Sequence[Run]) -> str:
        """A bar ends a cell, in code too, where nothing else needs an escape."""
        return self.line([replace(run, text=run.text.replace("|", "\\|")) if _is_code(run) else run for run in cell])


class Discord(Markdown):
    """Discord's Markdown. Addresses stand in angle brackets: they get no preview."""

    marks = (
        (Style.STRIKE, "~~", "~~"),
        (Style.UNDERLINE, "__", "__"),
        (Style.BOLD, "**", "**"),
        (Style.ITALIC, "*", "*"),
    )
    rule = "———"
    heading_style = Style.BOLD
    _special = re.compile(r"[\\*`\[\]<]|~(?=~|$)|\|(?=\||$)|(?<!\w)_|_(?!\w)|(?<=_)_|_(?=_)")
    _at_start = re.compile(r"[#>-]|(?<=\d)\.")
    _line_start = re.compile(r"\d{1,9}(?=\. )")

    def part(self, pieces: Sequence[Piece]) -> str:
        return Dialect.part(self, pieces)

    def joint(self, above: Piece, below: Piece) -> str:
        return Dialect.joint(self, above, below)

    def margins(self, piece: Piece) -> tuple[str, str]:
        return Dialect.margins(self, piece)

    def marker(self, piece: Piece) -> str:
        """A bracket behind a number makes no list."""
        return Dialect.marker(self, piece) if piece.marker.endswith(")") else super().marker(piece)

    def gap(self, left: Run, right: Run, before: str, after: str) -> str:
        """What stands around its marks does not matter here."""
        return ZERO_WIDTH_SPACE if before[-1] in _MARK_CHARACTERS and after[0] in _MARK_CHARACTERS else ""

    def link(self, run: Run) -> str:
        address = f"<{run.href.translate(_ADDRESS_ESCAPES)}>"
        if run.text == run.href:
            return address
        if not run.href.lower().startswith("http"):
            return self._escaped(in_words(run))
        # A label that looks like an address is not taken for a label.
        label = self._escaped(run.text)
        return f"{label} ({address})" if "://" in run.text else f"[{label}]({address})"

    def table(self, piece: Piece) -> str:
        return self.code(piece.text, "")


class Telegram(Dialect):
    """Telegram's HTML."""

    marks = (
        (Style.STRIKE, "<s>", "</s>"),
        (Style.UNDERLINE, "<u>", "</u>"),
        (Style.BOLD, "<b>", "</b>"),
        (Style.ITALIC, "<i>", "</i>"),
    )
    bullet = "•"
    _opening = re.compile(r"<(?!/)")
    _in_one = re.compile(r"<(a|pre|code)\b.*?</\1>", re.DOTALL)
    _found = re.compile(
        r"https?://|(?<![\w/])/\w|[@#$]\w|(?<=\w)\.[a-z]{2}|(?<!\w)\+?\d[\d -]{6}", re.IGNORECASE | re.ASCII
    )
    """What Telegram makes an entity of by itself: addresses, commands, names, tags, telephone numbers, or what looks
    like one of these to us."""

    def part(self, pieces: Sequence[Piece]) -> str:
        """Quoted pieces that follow each other are one quote: there is none within another."""
        return re.sub(r"</blockquote>(\n+)<blockquote>", r"\1", super().part(pieces))

    def joint(self, above: Piece, below: Piece) -> str:
        return "\n" if below.tight else "\n\n"

    def piece(self, piece: Piece) -> str:
        written = super().piece(piece)
        return f"<blockquote>{written}</blockquote>" if piece.quote else written

    def quote_marks(self, depth: int) -> str:
        return "&gt; " * (depth - 1)

    def escape(self, text: str, *, at_start: bool) -> str:
        return html.escape(text, quote=False)

    def link(self, run: Run) -> str:
        label = html.escape(run.text, quote=False)
        return label if run.text == run.href else f'<a href="{html.escape(run.href)}">{label}</a>'

    def code_span(self, text: str) -> str | None:
        return f"<code>{html.escape(text, quote=False)}</code>" if text.strip() else None

    def code(self, content: str, language: str) -> str:
        content = html.escape(content, quote=False)
        return f'<pre><code class="language-{language}">{content}</code></pre>' if language else f"<pre>{content}</pre>"

    def entities(self, written: str) -> int:
        """Too many rather than too few: a block of code in a language has two tags."""
        tags = len(self._opening.findall(written))
        return tags + len(self._found.findall(tags_read(self._in_one.sub("", written))))

    def visible(self, written: str) -> str:
        return tags_read(written)


class WhatsApp(Dialect):
    """WhatsApp knows no escape: a mark that is meant as a character is kept from its word by a zero-width space."""

    marks = ((Style.STRIKE, "~", "~"), (Style.BOLD, "*", "*"), (Style.ITALIC, "_", "_"))
    _opener = re.compile(r"(?<!\w)[*_~`](?=\S|$)|`")
    _behind = frozenset(").,:;!?")
    _closers = tuple((mark, re.compile(rf"(?<=\S){re.escape(mark)}(?!\w)")) for mark in "*_~")

    def line(self, runs: Sequence[Run]) -> str:
        """A mark that nothing in its line can close is left alone: a path with it can be copied."""
        written = super().line(runs)
        if ZERO_WIDTH_SPACE not in written:
            return written
        shown, styled = "".join(run.text for run in runs), {style for run in runs for style in run.style}
        read = {mark for style, mark, _ in self.marks if style in styled}
        read |= {mark for mark, closer in self._closers if closer.search(shown)}
        if shown.count("`") > 1 or Style.CODE in styled:
            read.add("`")
        return re.sub(f"([*_~`]){ZERO_WIDTH_SPACE}", lambda found: found[0] if found[1] in read else found[1], written)

    def gap(self, left: Run, right: Run, before: str, after: str) -> str:
        """Beside a mark stands a blank or punctuation that every reader knows. Else a blank, where one changes nothing
        but the look, or a zero-width space."""
        if not (before[-1] in _MARK_CHARACTERS or after[0] in _MARK_CHARACTERS):
            return ""
        if before[-1].isspace() or after[0].isspace() or before[-1] == "(" or after[0] in self._behind:
            return ""
        return " " if takes_a_blank(left.text, right.text) else ZERO_WIDTH_SPACE

    def escape(self, text: str, *, at_start: bool) -> str:
        text = self._opener.sub(rf"\g<0>{ZERO_WIDTH_SPACE}", text)
        return ZERO_WIDTH_SPACE + text if at_start and text.startswith(">") else text

    def link(self, run: Run) -> str:
        return in_words(run)

    def code_span(self, text: str) -> str | None:
        return None if "`" in text or not text.strip() else f"`{text}`"

    def code(self, content: str, language: str) -> str:
        return fenced(content)


class Slack(WhatsApp):
    """Slack's mrkdwn: marks as in WhatsApp, and `&`, `<`, `>` always escaped, in code too."""

    bullet = "•"

    def escape(self, text: str, *, at_start: bool) -> str:
        return html.escape(super().escape(text, at_start=at_start), quote=False)

    def link(self, run: Run) -> str:
        address = html.escape(run.href.translate(_ADDRESS_ESCAPES), quote=False)
        return f"<{address}>" if run.text == run.href else f"<{address}|{self.escape(run.text, at_start=False)}>"

    def code_span(self, text: str) -> str | None:
        span = super().code_span(text)
        return None if span is None else html.escape(span, quote=False)

    def code(self, content: str, language: str) -> str:
        return html.escape(super().code(content, language), quote=False)


def _is_code(run: Run) -> bool:
    return Style.CODE in run.style and not run.href


def _are_unflanked(left: Run, right: Run, before: str, after: str) -> bool:
    """Whether marks between two runs would be none, with these characters on their outer sides."""
    return _is_unflanked(left, left.text[-1], after) or _is_unflanked(right, right.text[0], before)


def _is_unflanked(run: Run, inner: str, outer: str) -> bool:
    """Whether a reader of Markdown would not take the marks at one end of a run for marks (CommonMark: flanking).
    `inner` and `outer`: the characters on both sides of them. A link begins and ends in punctuation."""
    is_between = bool(run.style & _FLANKED) and (bool(run.href) or is_punctuation(inner))
    return is_between and not outer.isspace() and not is_strict_punctuation(outer)


PLAIN = Dialect()

DIALECTS: dict[Form, Dialect] = {
    Form.PLAIN: PLAIN,
    Form.MARKDOWN: Markdown(),
    Form.TELEGRAM: Telegram(),
    Form.SLACK_MARKDOWN: Markdown(),
    Form.SLACK: Slack(),
    Form.DISCORD: Discord(),
    Form.WHATSAPP: WhatsApp(),
}

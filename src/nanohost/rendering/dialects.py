"""Renders blocks for each platform: its marks for styles, links and code, and what must be escaped there."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import replace

from nanohost.rendering.blocks import ZERO_WIDTH_SPACE, Block, BlockKind, Run, Style
from nanohost.rendering.characters import can_take_space, is_punctuation, is_strict_punctuation
from nanohost.rendering.dialect import Dialect, fenced_code, strip_tags
from nanohost.rendering.message_form import Form
from nanohost.rendering.parsing import plain_text

_URL_ESCAPES = str.maketrans({"(": "%28", ")": "%29", "<": "%3C", ">": "%3E", "|": "%7C", "\\": "%5C", " ": "%20"})
_MARK_CHARACTERS = frozenset("*_~`")
_FLANKING_STYLES = Style.BOLD | Style.ITALIC | Style.STRIKE


class Markdown(Dialect):
    """CommonMark with tables and strikethrough."""

    marks: tuple[tuple[Style, str, str], ...] = (
        (Style.STRIKE, "~~", "~~"),
        (Style.BOLD, "**", "**"),
        (Style.ITALIC, "*", "*"),
    )
    rule = "---"
    heading_style = Style.NONE
    _special_chars = re.compile(r"[\\*`\[\]<~|]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")
    _at_start = re.compile(r"(?:[#>+=-]|(?<=\d)[.)])")
    _line_start = re.compile(r"\d{1,9}(?=[.)])")

    def render_part(self, pieces: Sequence[Block]) -> str:
        """Moves a list that begins in the middle to the margin: text indented by four would be code. Also moves blocks
        below an item that is not rendered as a list item."""
        placed: list[Block] = []
        margin = 0
        for index, piece in enumerate(pieces):
            indent = max(0, piece.indent - piece.unnumbered_indent)
            if not index or not pieces[index - 1].is_in_list:
                margin = indent
            placed.append(replace(piece, indent=max(0, indent - margin)))
        return super().render_part(placed)

    def separator(self, above: Block, below: Block) -> str:
        """Separates an item that is rendered as a paragraph, which would continue the line above."""
        if below.is_tight and above.is_unnumbered and below.is_unnumbered:
            return "  \n"
        if above.is_unnumbered or below.is_unnumbered:
            below = replace(below, is_tight=False)
        return super().separator(above, below)

    def line_prefixes(self, piece: Block) -> tuple[str, str]:
        first, rest = super().line_prefixes(piece)
        return (first + "#" * piece.level + " " if piece.kind is BlockKind.HEADING else first), rest

    def list_marker(self, piece: Block) -> str:
        marker = super().list_marker(piece)
        return f"{marker[:-1]}\\{marker[-1]}" if piece.is_unnumbered and marker.isascii() else marker

    def run_separator(self, left: Run, right: Run, before: str, after: str) -> str:
        if _has_unflanked_mark(left, right, before[-1], after[0]):
            return " "
        if before[-1] not in _MARK_CHARACTERS or after[0] not in _MARK_CHARACTERS:
            return ""
        # A parser counts a zero-width space as a letter.
        is_unflanked = _is_unflanked(left, left.text[-1], ZERO_WIDTH_SPACE) or _is_unflanked(
            right, right.text[0], ZERO_WIDTH_SPACE
        )
        return " " if is_unflanked else ZERO_WIDTH_SPACE

    def escape(self, text: str, *, at_start: bool) -> str:
        start = 0
        if at_start and (number := self._line_start.match(text)):
            start = number.end()
        if at_start and self._at_start.match(text, start):
            return f"{text[:start]}\\{text[start]}{self._escape_special(text[start + 1 :])}"
        return self._escape_special(text)

    def _escape_special(self, text: str) -> str:
        return self._special_chars.sub(r"\\\g<0>", text)

    def render_link(self, run: Run) -> str:
        address = run.href.translate(_URL_ESCAPES)
        return f"<{address}>" if run.text == run.href else f"[{self._escape_special(run.text)}]({address})"

    def render_code_span(self, text: str) -> str | None:
        if not text.strip() or "```" in text:
            return None
        tick = "```" if "``" in text else "``" if "`" in text else "`"
        gap = " " if len(tick) > 1 else ""
        return f"{tick}{gap}{text}{gap}{tick}"

    def render_code_block(self, content: str, language: str) -> str:
        return fenced_code(content, language)

    def render_table(self, piece: Block) -> str:
        head, *body = ["| " + " | ".join(self._render_cell(cell) for cell in row) + " |" for row in piece.rows]
        return "\n".join([head, "|" + " --- |" * len(piece.rows[0]), *body])

    def _render_cell(self, cell: Sequence[Run]) -> str:
        """Renders a cell. A bar ends a cell even within code, where nothing else needs an escape."""
        return self.render_line(
            [replace(run, text=run.text.replace("|", "\\|")) if _is_code(run) else run for run in cell]
        )


class Discord(Markdown):
    """Discord's Markdown. Addresses are in angle brackets, so that they get no preview."""

    marks = (
        (Style.STRIKE, "~~", "~~"),
        (Style.UNDERLINE, "__", "__"),
        (Style.BOLD, "**", "**"),
        (Style.ITALIC, "*", "*"),
    )
    rule = "———"
    heading_style = Style.BOLD
    _special_chars = re.compile(r"[\\*`\[\]<]|~(?=~|$)|\|(?=\||$)|(?<!\w)_|_(?!\w)|(?<=_)_|_(?=_)")
    _at_start = re.compile(r"[#>-]|(?<=\d)\.")
    _line_start = re.compile(r"\d{1,9}(?=\. )")

    def render_part(self, pieces: Sequence[Block]) -> str:
        return Dialect.render_part(self, pieces)

    def separator(self, above: Block, below: Block) -> str:
        return Dialect.separator(self, above, below)

    def line_prefixes(self, piece: Block) -> tuple[str, str]:
        return Dialect.line_prefixes(self, piece)

    def list_marker(self, piece: Block) -> str:
        """Returns the marker; a bracket after a number makes no list here."""
        return Dialect.list_marker(self, piece) if piece.marker.endswith(")") else super().list_marker(piece)

    def run_separator(self, left: Run, right: Run, before: str, after: str) -> str:
        """Returns the separator; the characters around marks do not matter here."""
        return ZERO_WIDTH_SPACE if before[-1] in _MARK_CHARACTERS and after[0] in _MARK_CHARACTERS else ""

    def render_link(self, run: Run) -> str:
        address = f"<{run.href.translate(_URL_ESCAPES)}>"
        if run.text == run.href:
            return address
        if not run.href.lower().startswith("http"):
            return self._escape_special(plain_text(run))
        # Discord does not accept a label that looks like an address.
        label = self._escape_special(run.text)
        return f"{label} ({address})" if "://" in run.text else f"[{label}]({address})"

    def render_table(self, piece: Block) -> str:
        return self.render_code_block(piece.text, "")


class Telegram(Dialect):
    """Telegram's HTML."""

    marks = (
        (Style.STRIKE, "<s>", "</s>"),
        (Style.UNDERLINE, "<u>", "</u>"),
        (Style.BOLD, "<b>", "</b>"),
        (Style.ITALIC, "<i>", "</i>"),
    )
    bullet = "•"
    _opening_tag = re.compile(r"<(?!/)")
    _nested_entity = re.compile(r"<(a|pre|code)\b.*?</\1>", re.DOTALL)
    _auto_entity = re.compile(
        r"https?://|(?<![\w/])/\w|[@#$]\w|(?<=\w)\.[a-z]{2}|(?<!\w)\+?\d[\d -]{6}", re.IGNORECASE | re.ASCII
    )
    """Texts that Telegram itself may turn into entities: addresses, commands, names, tags, telephone numbers."""

    def render_part(self, pieces: Sequence[Block]) -> str:
        """Joins successive quoted blocks into one quote, as quotes cannot be nested."""
        return re.sub(r"</blockquote>(\n+)<blockquote>", r"\1", super().render_part(pieces))

    def separator(self, above: Block, below: Block) -> str:
        return "\n" if below.is_tight else "\n\n"

    def render_block(self, piece: Block) -> str:
        written = super().render_block(piece)
        return f"<blockquote>{written}</blockquote>" if piece.quote else written

    def quote_prefix(self, depth: int) -> str:
        return "&gt; " * (depth - 1)

    def escape(self, text: str, *, at_start: bool) -> str:
        return html.escape(text, quote=False)

    def render_link(self, run: Run) -> str:
        label = html.escape(run.text, quote=False)
        return label if run.text == run.href else f'<a href="{html.escape(run.href)}">{label}</a>'

    def render_code_span(self, text: str) -> str | None:
        return f"<code>{html.escape(text, quote=False)}</code>" if text.strip() else None

    def render_code_block(self, content: str, language: str) -> str:
        content = html.escape(content, quote=False)
        return f'<pre><code class="language-{language}">{content}</code></pre>' if language else f"<pre>{content}</pre>"

    def count_entities(self, written: str) -> int:
        """Returns an upper bound: a code block with a language has two tags."""
        tags = len(self._opening_tag.findall(written))
        return tags + len(self._auto_entity.findall(strip_tags(self._nested_entity.sub("", written))))

    def visible_text(self, written: str) -> str:
        return strip_tags(written)


class WhatsApp(Dialect):
    """WhatsApp has no escapes: a zero-width space separates a literal mark character from its word."""

    marks = ((Style.STRIKE, "~", "~"), (Style.BOLD, "*", "*"), (Style.ITALIC, "_", "_"))
    _opening_mark = re.compile(r"(?<!\w)[*_~`](?=\S|$)|`")
    _trailing_punctuation = frozenset(").,:;!?")
    _closing_marks = tuple((mark, re.compile(rf"(?<=\S){re.escape(mark)}(?!\w)")) for mark in "*_~")

    def render_line(self, runs: Sequence[Run]) -> str:
        """Renders a line. A mark that nothing in its line can close is unchanged, so that a path can be copied."""
        written = super().render_line(runs)
        if ZERO_WIDTH_SPACE not in written:
            return written
        shown, styled = "".join(run.text for run in runs), {style for run in runs for style in run.style}
        read = {mark for style, mark, _ in self.marks if style in styled}
        read |= {mark for mark, closer in self._closing_marks if closer.search(shown)}
        if shown.count("`") > 1 or Style.CODE in styled:
            read.add("`")
        return re.sub(f"([*_~`]){ZERO_WIDTH_SPACE}", lambda found: found[0] if found[1] in read else found[1], written)

    def run_separator(self, left: Run, right: Run, before: str, after: str) -> str:
        """Returns nothing if a blank or plain punctuation is next to the mark; else a blank if it changes only the
        look,
        or a zero-width space."""
        if not (before[-1] in _MARK_CHARACTERS or after[0] in _MARK_CHARACTERS):
            return ""
        if before[-1].isspace() or after[0].isspace() or before[-1] == "(" or after[0] in self._trailing_punctuation:
            return ""
        return " " if can_take_space(left.text, right.text) else ZERO_WIDTH_SPACE

    def escape(self, text: str, *, at_start: bool) -> str:
        text = self._opening_mark.sub(rf"\g<0>{ZERO_WIDTH_SPACE}", text)
        return ZERO_WIDTH_SPACE + text if at_start and text.startswith(">") else text

    def render_link(self, run: Run) -> str:
        return plain_text(run)

    def render_code_span(self, text: str) -> str | None:
        return None if "`" in text or not text.strip() else f"`{text}`"

    def render_code_block(self, content: str, language: str) -> str:
        return fenced_code(content)


class Slack(WhatsApp):
    """Slack's mrkdwn: marks as in WhatsApp, and `&`, `<`, `>` always escaped, in code too."""

    bullet = "•"

    def escape(self, text: str, *, at_start: bool) -> str:
        return html.escape(super().escape(text, at_start=at_start), quote=False)

    def render_link(self, run: Run) -> str:
        address = html.escape(run.href.translate(_URL_ESCAPES), quote=False)
        return f"<{address}>" if run.text == run.href else f"<{address}|{self.escape(run.text, at_start=False)}>"

    def render_code_span(self, text: str) -> str | None:
        span = super().render_code_span(text)
        return None if span is None else html.escape(span, quote=False)

    def render_code_block(self, content: str, language: str) -> str:
        return html.escape(super().render_code_block(content, language), quote=False)


def _is_code(run: Run) -> bool:
    return Style.CODE in run.style and not run.href


def _has_unflanked_mark(left: Run, right: Run, before: str, after: str) -> bool:
    """Returns whether marks between two runs would not be parsed, with these characters on their outer sides."""
    return _is_unflanked(left, left.text[-1], after) or _is_unflanked(right, right.text[0], before)


def _is_unflanked(run: Run, inner: str, outer: str) -> bool:
    """Returns whether a Markdown parser would not parse the marks at one end of a run (CommonMark: flanking).
    `inner` and `outer`: the characters on both sides of them. A link begins and ends in punctuation."""
    is_between = bool(run.style & _FLANKING_STYLES) and (bool(run.href) or is_punctuation(inner))
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

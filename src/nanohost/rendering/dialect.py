"""Renders blocks as plain text: the base class of all dialects.

A dialect must be able to bound the length of its output in advance: a run is at most as long as it is alone at the
beginning of a line, plus one zero-width space (or blank) for each of its lines.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from nanohost.rendering.blocks import ZERO_WIDTH_SPACE, Block, BlockKind, Run, Style, split_lines
from nanohost.rendering.parsing import plain_text

_SURROUNDING_SPACE = re.compile(r"(\s*)(.*?)(\s*)", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


class Dialect:
    """Renders plain text. Other dialects override its methods."""

    marks: tuple[tuple[Style, str, str], ...] = ()
    """The opening and closing mark of each style, from the outermost inwards."""
    bullet = "-"
    rule = "———"
    heading_style = Style.BOLD

    def render_part(self, blocks: Sequence[Block]) -> str:
        """Renders one message."""
        written: list[str] = []
        for index, piece in enumerate(blocks):
            if index:
                written.append(self.separator(blocks[index - 1], piece))
            written.append(self.render_block(piece))
        return "".join(written)

    def separator(self, above: Block, below: Block) -> str:
        """Returns the separator of two blocks."""
        if below.is_tight:
            return "\n"
        quote = min(above.quote, below.quote)
        return "\n" + self.quote_prefix(quote).rstrip() + "\n"

    def render_block(self, block: Block) -> str:
        match block.kind:
            case BlockKind.CODE:
                return self.render_code_block(block.text, block.language)
            case BlockKind.TABLE:
                return self.render_table(block)
            case BlockKind.RULE:
                return self.rule
            case _:
                first, rest = self.line_prefixes(block)
                lines = split_lines(self.styled_runs(block))
                return "\n".join(
                    (rest if number else first) + self.render_line(line) for number, line in enumerate(lines)
                )

    def line_prefixes(self, block: Block) -> tuple[str, str]:
        """Returns the prefix of a block's first line and of its other lines."""
        edge = self.quote_prefix(block.quote) + " " * block.indent
        if not block.marker:
            return edge, edge
        return f"{edge}{self.list_marker(block)} ", edge + " " * (len(block.marker) + 1)

    def list_marker(self, piece: Block) -> str:
        """Returns the marker of a list item."""
        return self.bullet if piece.marker == "-" else piece.marker

    def styled_runs(self, piece: Block) -> tuple[Run, ...]:
        """Returns the runs with the style of their block."""
        if piece.kind is not BlockKind.HEADING:
            return piece.runs
        return tuple(Run(run.text, run.style | self.heading_style, run.href) for run in piece.runs)

    def quote_prefix(self, depth: int) -> str:
        return "> " * depth

    def render_line(self, runs: Sequence[Run]) -> str:
        written: list[str] = []
        for index, run in enumerate(runs):
            text = self.render_run(run, at_start=index == 0)
            if index:
                written.append(self.run_separator(runs[index - 1], run, written[-1], text))
            written.append(text)
        return "".join(written)

    def run_separator(self, left: Run, right: Run, before: str, after: str) -> str:
        """Returns what to insert between two runs, rendered as `before` and `after`, so that marks are read
        correctly."""
        return ""

    def render_run(self, run: Run, *, at_start: bool) -> str:
        """Renders one run within a line."""
        if not run.href and not run.style and not run.text[:1].isspace():
            return self.escape(run.text, at_start=at_start)
        if not run.href and Style.CODE in run.style and (span := self.render_code_span(run.text)) is not None:
            return span
        edges = _SURROUNDING_SPACE.fullmatch(run.text)
        assert edges is not None
        lead, core, trail = edges.groups()
        if not core:
            return run.text
        text = self.render_link(Run(core, run.style, run.href)) if run.href else self.escape(core, at_start=at_start)
        for style, opening, closing in reversed(self.marks):
            if style in run.style:
                text = opening + text + closing
        return f"{lead}{text}{trail}"

    def escape(self, text: str, *, at_start: bool) -> str:
        """Escapes the text of one line, so that none of it is read as markup."""
        return text

    def render_link(self, run: Run) -> str:
        return plain_text(run)

    def render_code_span(self, text: str) -> str | None:
        """Renders code within a line; returns None if it has to be written as text."""
        return None

    def render_code_block(self, content: str, language: str) -> str:
        return content

    def render_table(self, piece: Block) -> str:
        return self.render_code_block(piece.text, "")

    def count_entities(self, rendered: str) -> int:
        """Returns an upper bound of the formatted ranges in `rendered`; 0 if the platform has no limit."""
        return 0

    def visible_text(self, rendered: str) -> str:
        """Returns the text of a message after the platform has parsed the markup."""
        return rendered


def fenced_code(content: str, language: str = "") -> str:
    """Returns code between fences; three backticks in it are separated."""
    content = re.sub("``(?=`)", f"``{ZERO_WIDTH_SPACE}", content)
    return f"```{language}\n{content}\n```"


def strip_tags(rendered: str) -> str:
    return html.unescape(_TAG.sub("", rendered))

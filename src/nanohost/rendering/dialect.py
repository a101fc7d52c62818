"""How pieces are written in one form: the part that all forms share. Plain text is the form that adds nothing.

A dialect must be able to bound the length of what it writes before it writes it: a run costs at most what it costs
alone at the beginning of a line, and one zero-width space (or blank) for each of its lines.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from nanohost.rendering.parsing import in_words
from nanohost.rendering.pieces import ZERO_WIDTH_SPACE, Kind, Piece, Run, Style, lines_of

_EDGES = re.compile(r"(\s*)(.*?)(\s*)", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


class Dialect:
    """Plain text, and what the others change of it."""

    marks: tuple[tuple[Style, str, str], ...] = ()
    """What opens and closes a style, from the outermost inwards."""
    bullet = "-"
    rule = "———"
    heading_style = Style.BOLD

    def part(self, pieces: Sequence[Piece]) -> str:
        """One message."""
        written: list[str] = []
        for index, piece in enumerate(pieces):
            if index:
                written.append(self.joint(pieces[index - 1], piece))
            written.append(self.piece(piece))
        return "".join(written)

    def joint(self, above: Piece, below: Piece) -> str:
        """What stands between two pieces."""
        if below.tight:
            return "\n"
        quote = min(above.quote, below.quote)
        return "\n" + self.quote_marks(quote).rstrip() + "\n"

    def piece(self, piece: Piece) -> str:
        match piece.kind:
            case Kind.CODE:
                return self.code(piece.text, piece.language)
            case Kind.TABLE:
                return self.table(piece)
            case Kind.RULE:
                return self.rule
            case _:
                first, rest = self.margins(piece)
                lines = lines_of(self.styled(piece))
                return "\n".join((rest if number else first) + self.line(line) for number, line in enumerate(lines))

    def margins(self, piece: Piece) -> tuple[str, str]:
        """What stands before the first line of a piece and before the others."""
        edge = self.quote_marks(piece.quote) + " " * piece.indent
        if not piece.marker:
            return edge, edge
        return f"{edge}{self.marker(piece)} ", edge + " " * (len(piece.marker) + 1)

    def marker(self, piece: Piece) -> str:
        """What stands before an item of a list."""
        return self.bullet if piece.marker == "-" else piece.marker

    def styled(self, piece: Piece) -> tuple[Run, ...]:
        """The runs with the style that their piece gives them."""
        if piece.kind is not Kind.HEADING:
            return piece.runs
        return tuple(Run(run.text, run.style | self.heading_style, run.href) for run in piece.runs)

    def quote_marks(self, depth: int) -> str:
        return "> " * depth

    def line(self, runs: Sequence[Run]) -> str:
        written: list[str] = []
        for index, run in enumerate(runs):
            text = self.run(run, at_start=index == 0)
            if index:
                written.append(self.gap(runs[index - 1], run, written[-1], text))
            written.append(text)
        return "".join(written)

    def gap(self, left: Run, right: Run, before: str, after: str) -> str:
        """What keeps marks from being misread where two runs touch that are written as `before` and `after`."""
        return ""

    def run(self, run: Run, *, at_start: bool) -> str:
        """One run within a line."""
        if not run.href and not run.style and not run.text[:1].isspace():
            return self.escape(run.text, at_start=at_start)
        if not run.href and Style.CODE in run.style and (span := self.code_span(run.text)) is not None:
            return span
        edges = _EDGES.fullmatch(run.text)
        assert edges is not None
        lead, core, trail = edges.groups()
        if not core:
            return run.text
        text = self.link(Run(core, run.style, run.href)) if run.href else self.escape(core, at_start=at_start)
        for style, opening, closing in reversed(self.marks):
            if style in run.style:
                text = opening + text + closing
        return f"{lead}{text}{trail}"

    def escape(self, text: str, *, at_start: bool) -> str:
        """Text of one line, so that none of it is taken for markup."""
        return text

    def link(self, run: Run) -> str:
        return in_words(run)

    def code_span(self, text: str) -> str | None:
        """Code within a line; None where it is to be written as text."""
        return None

    def code(self, content: str, language: str) -> str:
        return content

    def table(self, piece: Piece) -> str:
        return self.code(piece.text, "")

    def entities(self, written: str) -> int:
        """How many stretches of `written` the platform formats, rather too many; 0 where it sets no limit."""
        return 0

    def visible(self, written: str) -> str:
        """What is left of a message when the platform has read the markup."""
        return written


def fenced(content: str, language: str = "") -> str:
    """Code between fences; three backticks in it are taken apart."""
    content = re.sub("``(?=`)", f"``{ZERO_WIDTH_SPACE}", content)
    return f"```{language}\n{content}\n```"


def tags_read(written: str) -> str:
    return html.unescape(_TAG.sub("", written))

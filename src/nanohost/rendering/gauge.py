"""How much of a message a piece takes up: as it is written, and as plain text, whichever is more."""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.rendering.dialect import Dialect
from nanohost.rendering.dialects import PLAIN
from nanohost.rendering.form import Limits, length
from nanohost.rendering.pieces import ZERO_WIDTH_SPACE, Piece, Run


@dataclass(frozen=True, slots=True)
class Gauge:
    """Measures in the platform's unit. Sums of what it says are never less than the length of the whole."""

    dialect: Dialect
    limits: Limits

    def written(self, text: str) -> int:
        return length(self.dialect.visible(text) if self.limits.counted_after_parsing else text, self.limits.unit)

    def joint(self, above: Piece, below: Piece) -> int:
        return max(self.written(dialect.joint(above, below)) for dialect in (self.dialect, PLAIN))

    def piece(self, piece: Piece) -> int:
        """What a piece takes up; of one that is far too long, something above the limit."""
        characters = 0
        for run in piece.runs:
            characters += len(run.text)
            if characters > self.limits.text:
                return characters
        return max(self.written(self.dialect.piece(piece)), length(PLAIN.piece(piece), self.limits.unit))

    def margin(self, piece: Piece) -> tuple[int, int]:
        """What stands before the first line of a piece, and before each of the others; around it included."""
        bare = self.piece(Piece(kind=piece.kind, level=piece.level, quote=piece.quote))
        first, rest = self.dialect.margins(piece)
        plain_first, plain_rest = PLAIN.margins(piece)
        unit = self.limits.unit
        return (
            bare + max(length(first, unit), length(plain_first, unit)),
            max(length(rest, unit), length(plain_rest, unit)),
        )

    def run(self, run: Run, rest_margin: int) -> int:
        """What a run takes up at most, wherever in its piece it stands."""
        lines = [Run(line, run.style, run.href) for line in run.text.split("\n")]
        written = sum(self.written(self.dialect.run(line, at_start=True)) for line in lines if line.text)
        plain = sum(length(PLAIN.run(line, at_start=True), self.limits.unit) for line in lines)
        gaps = len(lines) * (length(ZERO_WIDTH_SPACE, self.limits.unit) if self.dialect.marks else 0)
        return max(written, plain) + (len(lines) - 1) * (1 + rest_margin) + gaps

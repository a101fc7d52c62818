"""How much of a message a piece takes up: as it is written, and as plain text, whichever is more; and how many of the
stretches that the platform formats."""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.rendering.dialect import Dialect
from nanohost.rendering.dialects import PLAIN
from nanohost.rendering.form import Limits, length
from nanohost.rendering.pieces import ZERO_WIDTH_SPACE, Piece, Run

NO_LIMIT = 2**31
"""More entities than any text has."""


@dataclass(frozen=True, slots=True)
class Size:
    """What something takes up of a message, or what is left of one."""

    length: int
    entities: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.length + other.length, self.entities + other.entities)

    def __sub__(self, other: Size) -> Size:
        return Size(self.length - other.length, self.entities - other.entities)

    def fits(self, room: Size) -> bool:
        return self.length <= room.length and self.entities <= room.entities

    def is_much_of(self, whole: Size) -> bool:
        """Half of it or more."""
        return self.length >= whole.length // 2 and self.entities >= whole.entities // 2


@dataclass(frozen=True, slots=True)
class Gauge:
    """Measures in the platform's unit. Sums of what it says are never less than the length of the whole."""

    dialect: Dialect
    limits: Limits

    @property
    def whole(self) -> Size:
        """What one message holds."""
        return Size(self.limits.text, NO_LIMIT if self.limits.entities is None else self.limits.entities)

    def written(self, text: str) -> int:
        return length(self.dialect.visible(text) if self.limits.counted_after_parsing else text, self.limits.unit)

    def entities(self, written: str) -> int:
        return 0 if self.limits.entities is None else self.dialect.entities(written)

    def joint(self, above: Piece, below: Piece) -> Size:
        return Size(max(self.written(dialect.joint(above, below)) for dialect in (self.dialect, PLAIN)))

    def piece(self, piece: Piece) -> Size:
        """What a piece takes up; of one that is far too long, something above the limit."""
        characters = 0
        for run in piece.runs:
            characters += len(run.text)
            if characters > self.limits.text:
                return Size(characters)
        written = self.dialect.piece(piece)
        return Size(
            max(self.written(written), length(PLAIN.piece(piece), self.limits.unit)),
            self.entities(written),
        )

    def margin(self, piece: Piece) -> tuple[Size, int]:
        """What stands before the first line of a piece, around it included; and the length of what stands before each
        of the others."""
        bare = self.piece(Piece(kind=piece.kind, level=piece.level, quote=piece.quote))
        first, rest = self.dialect.margins(piece)
        plain_first, plain_rest = PLAIN.margins(piece)
        unit = self.limits.unit
        return (
            bare + Size(max(length(first, unit), length(plain_first, unit))),
            max(length(rest, unit), length(plain_rest, unit)),
        )

    def run(self, run: Run, rest_margin: int) -> Size:
        """What a run takes up at most, wherever in its piece it stands."""
        lines = [Run(line, run.style, run.href) for line in run.text.split("\n")]
        texts = [self.dialect.run(line, at_start=True) for line in lines if line.text]
        written = sum(self.written(text) for text in texts)
        plain = sum(length(PLAIN.run(line, at_start=True), self.limits.unit) for line in lines)
        gaps = len(lines) * (length(ZERO_WIDTH_SPACE, self.limits.unit) if self.dialect.marks else 0)
        breaks = (len(lines) - 1) * (1 + rest_margin)
        return Size(max(written, plain) + breaks + gaps, sum(self.entities(text) for text in texts))

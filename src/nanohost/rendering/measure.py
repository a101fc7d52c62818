"""Measures how much of a message a block takes, rendered and as plain text, and how many formatted stretches it has."""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.rendering.blocks import ZERO_WIDTH_SPACE, Block, Run
from nanohost.rendering.dialect import Dialect
from nanohost.rendering.dialects import PLAIN
from nanohost.rendering.message_form import Limits, text_length

NO_LIMIT = 2**31
"""More entities than any text has."""


@dataclass(frozen=True, slots=True)
class Size:
    """The size of something in a message, or the room left in one."""

    length: int
    entities: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.length + other.length, self.entities + other.entities)

    def __sub__(self, other: Size) -> Size:
        return Size(self.length - other.length, self.entities - other.entities)

    def fits(self, available: Size) -> bool:
        return self.length <= available.length and self.entities <= available.entities

    def is_half_of(self, max_size: Size) -> bool:
        """Returns whether it is half of `max_size` or more."""
        return self.length >= max_size.length // 2 and self.entities >= max_size.entities // 2


@dataclass(frozen=True, slots=True)
class Measure:
    """Measures in the platform's unit. A sum of its results is never less than the length of the whole."""

    dialect: Dialect
    limits: Limits

    @property
    def max_size(self) -> Size:
        """The size of one message."""
        return Size(self.limits.max_length, NO_LIMIT if self.limits.max_entities is None else self.limits.max_entities)

    def rendered_length(self, text: str) -> int:
        return text_length(
            self.dialect.visible_text(text) if self.limits.is_counted_after_parsing else text, self.limits.unit
        )

    def count_entities(self, written: str) -> int:
        return 0 if self.limits.max_entities is None else self.dialect.count_entities(written)

    def separator_size(self, above: Block, below: Block) -> Size:
        return Size(max(self.rendered_length(dialect.separator(above, below)) for dialect in (self.dialect, PLAIN)))

    def block_size(self, block: Block) -> Size:
        """Returns the size of a block; for one that is far too long, any size above the limit."""
        characters = 0
        for run in block.runs:
            characters += len(run.text)
            if characters > self.limits.max_length:
                return Size(characters)
        written = self.dialect.render_block(block)
        return Size(
            max(self.rendered_length(written), text_length(PLAIN.render_block(block), self.limits.unit)),
            self.count_entities(written),
        )

    def prefix_size(self, piece: Block) -> tuple[Size, int]:
        """Returns the size of a block's first prefix and its surroundings, and the length of the prefix of other
        lines."""
        bare = self.block_size(Block(kind=piece.kind, level=piece.level, quote=piece.quote))
        first, rest = self.dialect.line_prefixes(piece)
        plain_first, plain_rest = PLAIN.line_prefixes(piece)
        unit = self.limits.unit
        return (
            bare + Size(max(text_length(first, unit), text_length(plain_first, unit))),
            max(text_length(rest, unit), text_length(plain_rest, unit)),
        )

    def run_size(self, run: Run, rest_margin: int) -> Size:
        """Returns the maximum size of a run, at any position in its block."""
        lines = [Run(line, run.style, run.href) for line in run.text.split("\n")]
        texts = [self.dialect.render_run(line, at_start=True) for line in lines if line.text]
        written = sum(self.rendered_length(text) for text in texts)
        plain = sum(text_length(PLAIN.render_run(line, at_start=True), self.limits.unit) for line in lines)
        gaps = len(lines) * (text_length(ZERO_WIDTH_SPACE, self.limits.unit) if self.dialect.marks else 0)
        breaks = (len(lines) - 1) * (1 + rest_margin)
        return Size(max(written, plain) + breaks + gaps, sum(self.count_entities(text) for text in texts))

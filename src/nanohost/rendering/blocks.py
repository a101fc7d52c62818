"""Defines the parsed form of a message, independent of the platform: a flat list of blocks of styled runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, Flag, auto

ZERO_WIDTH_SPACE = "\u200b"


class Style(Flag):
    NONE = 0
    BOLD = auto()
    ITALIC = auto()
    STRIKE = auto()
    UNDERLINE = auto()
    CODE = auto()


@dataclass(frozen=True, slots=True)
class Run:
    """Text of one style. With `href` it is a link and is never cut."""

    text: str
    style: Style = Style.NONE
    href: str = ""


class BlockKind(Enum):
    TEXT = auto()
    HEADING = auto()
    CODE = auto()
    TABLE = auto()
    RULE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One paragraph, heading, list item, code block, table or rule.

    `runs`: the content; of a code block the code, of a table (`rows`, the first is its header) the table drawn with
    aligned columns. `quote`: the depth of quotes; `indent`: the columns of indentation by lists; `marker`: the list
    marker ("-", "3.", "3)", or a sign that is data). `is_unnumbered`: platforms with their own lists must not render it
    as a list item, since they would show another number or mark; `unnumbered_indent`: the columns of `indent` below
    such markers. `is_tight`: no empty line separates it from the block above.
    """

    kind: BlockKind = BlockKind.TEXT
    runs: tuple[Run, ...] = ()
    language: str = ""
    level: int = 0
    quote: int = 0
    indent: int = 0
    marker: str = ""
    is_unnumbered: bool = False
    unnumbered_indent: int = 0
    is_tight: bool = False
    rows: tuple[tuple[tuple[Run, ...], ...], ...] = ()

    @property
    def is_in_list(self) -> bool:
        return bool(self.indent or self.marker)

    @property
    def text(self) -> str:
        return "".join(run.text for run in self.runs)


def code_block(content: str, language: str = "") -> Block:
    return Block(kind=BlockKind.CODE, runs=(Run(content),), language=language)


def split_lines(runs: tuple[Run, ...]) -> list[list[Run]]:
    """Splits the runs into lines, so that no markup spans the end of a line."""
    lines: list[list[Run]] = [[]]
    for run in runs:
        if "\n" not in run.text:
            lines[-1].append(run)
            continue
        first, *others = run.text.split("\n")
        lines[-1].append(Run(first, run.style, run.href))
        lines.extend([Run(line, run.style, run.href)] for line in others)
    return [[run for run in line if run.text] for line in lines]

"""The parsed form of a message, independent of the platform: a flat list of blocks of styled runs."""

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
    """Words of one style. With `href` it is a link and is never cut."""

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

    `runs` is the content; of a code block the code, of a table (`rows`, the first is its head) the same table drawn
    with aligned columns. `quote` is how many quotes it stands in, `indent` how many columns its list pushes it in,
    `marker` what its list puts before it ("-", "3.", "3)", or a sign that is data). `is_unnumbered`: to a reader that
    makes lists of its own this is none, since it would show another number or mark; `unnumbered_indent` is how many
    columns of `indent` stand under such markers. A `is_tight` piece follows the one above without an empty line.
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
    """The runs line by line, so that no markup has to reach over the end of a line."""
    lines: list[list[Run]] = [[]]
    for run in runs:
        if "\n" not in run.text:
            lines[-1].append(run)
            continue
        first, *others = run.text.split("\n")
        lines[-1].append(Run(first, run.style, run.href))
        lines.extend([Run(line, run.style, run.href)] for line in others)
    return [[run for run in line if run.text] for line in lines]

"""Tables of which no cell is lost.

GitHub's Markdown drops the cells that a row has beyond those of the head, and parts a cell at a bar even within code.
Here what a row has too much stays in its last cell, as it was written: "`a|b`" is whole again there.
"""

from __future__ import annotations

from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import escapedSplit, getLine, table
from markdown_it.token import Token


def table_with_extra_cells(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """markdown-it's rule for tables, and then the last cell of each row made whole."""
    first = len(state.tokens)
    if not table(state, start_line, end_line, silent):
        return False
    cells: list[Token] = []
    for token in state.tokens[first:]:
        match token.type:
            case "tr_open":
                cells = []
            case "inline":
                cells.append(token)
            case "tr_close":
                _restore_last_cell(state, cells)
    return True


def _restore_last_cell(state: StateBlock, cells: list[Token]) -> None:
    last = cells[-1]
    assert last.map is not None, "a cell knows its line"
    written = escapedSplit(getLine(state, last.map[0]).strip())
    if written[0] == "":
        del written[0]
    if written and written[-1] == "":
        del written[-1]
    if len(written) > len(cells):
        last.content = "|".join(written[len(cells) - 1 :]).strip()

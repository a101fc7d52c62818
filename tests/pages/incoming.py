"""What each example of a platform becomes, as its page shows it, and what the agent reads of it."""

from __future__ import annotations

from tests.channels.examples import ReceivedExample, receive_examples
from tests.support.agent_view import merge_album, table_cell

HEAD = "| what somebody sends | what the agent reads |\n|---|---|"


def render_table(platform: str) -> str:
    """One row for each example."""
    return "\n".join([HEAD, *(f"| {name} | {_describe(one)} |" for name, one in receive_examples(platform).items())])


def _describe(one: ReceivedExample) -> str:
    """Events are in the chat of the example; a move is about the chat itself."""
    moves = [f"nothing: the chat goes on as `{new}`" for _, new in dict.fromkeys(one.moves)]
    return "<br>".join([*map(table_cell, merge_album(one.events)), *moves]) or "nothing"

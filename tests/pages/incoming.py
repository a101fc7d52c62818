"""What arrives as what on each platform, as its page shows it: the simulator's examples, and what the agent reads of
them."""

from __future__ import annotations

from tests.channels.examples import Arrived, arrived
from tests.support.arrivals import as_one, cell

HEAD = "| what somebody sends | what the agent reads |\n|---|---|"


def table(platform: str) -> str:
    """One line an example."""
    return "\n".join([HEAD, *(f"| {name} | {_told(one)} |" for name, one in arrived(platform).items())])


def _told(one: Arrived) -> str:
    """Events are in the chat of the example; a move is told of the chat itself."""
    moves = [f"nothing: the chat goes on as `{new}`" for _, new in dict.fromkeys(one.moves)]
    return "<br>".join([*map(cell, as_one(one.events)), *moves]) or "nothing"

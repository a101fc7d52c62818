"""Terminal: what a first `nanohost chat` needs."""

from __future__ import annotations

from nanohost.arguments import Arguments
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.setup import MAIN, ensure_terminal
from nanohost.commands.show import Json


class SetUp(Arguments):
    """Nothing to say."""


async def _set_up(context: CommandContext, arguments: SetUp) -> Json:
    await ensure_terminal(context.store, context.home, context.clock.now())
    return {"group": MAIN, "character": str(context.home.groups / MAIN / "CLAUDE.md")}


COMMANDS = (
    Command(
        words="terminal setup",
        begins=True,
        help="make groups/main and wire this machine's terminal to it; a first chat does this by itself",
        example="nanohost terminal setup",
        arguments=SetUp,
        run=_set_up,
    ),
)

"""Channels: which there are, and which cannot be used and why."""

from __future__ import annotations

import asyncio

from nanohost.channels.loader import Catalogue, discover
from nanohost.commands.context import CommandContext
from nanohost.commands.registry import Arguments, Command
from nanohost.commands.show import Json


class List(Arguments):
    """Nothing to say."""


async def _list(context: CommandContext, arguments: List) -> Json:
    return _rows(await asyncio.to_thread(discover, context.home.channel_folders))


def _rows(catalogue: Catalogue) -> Json:
    good: list[Json] = [
        {"name": name, "usable": True, "file": str(entry.path), "reason": "", "hint": ""}
        for name, entry in sorted(catalogue.available.items())
    ]
    bad: list[Json] = [
        {"name": entry.name, "usable": False, "file": str(entry.path), "reason": entry.reason, "hint": entry.hint}
        for entry in catalogue.unavailable
    ]
    return good + bad


COMMANDS = (
    Command(
        words="channels list",
        help="list channel files, with what is wrong with those that cannot be used",
        example="nanohost channels list",
        arguments=List,
        run=_list,
    ),
)

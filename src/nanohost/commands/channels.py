"""Channels: which there are, how they stand, setting one up, trying one."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.channels.loader import Catalogue, discover
from nanohost.commands import channel_setup
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext, OfflineContext
from nanohost.commands.setup import TERMINAL
from nanohost.commands.show import Json
from nanohost.errors import UsageError
from nanohost.logs import scrubber
from nanohost.settings import FILE, channel_instances, load_settings, resolved_channel


class List(Arguments):
    """Nothing to say."""


class Check(Arguments):
    name: str = Field(description="the channel, as NAME or NAME:INSTANCE")


class Add(Check):
    settings: str = Field("", description='what would be asked for, as "key=value key=value"; a secret as env:NAME')
    anyway: bool = Field(False, description="save it though the platform does not accept it, or cannot be asked")


class Simulate(Arguments):
    name: str = Field(description="the platform, such as telegram")


async def _list(context: CommandContext, arguments: List) -> Json:
    catalogue = await asyncio.to_thread(discover, context.home.channel_folders)
    return _rows(catalogue, _states(context))


def _states(context: CommandContext) -> Mapping[str, str]:
    """How the instances of each channel stand, in words: what a running host says, else that they are set up."""
    found: dict[str, list[str]] = defaultdict(list)
    report = context.live.report()["channels"] if context.live else []
    for row in report if isinstance(report, Sequence) else ():
        if isinstance(row, Mapping):
            detail = f" ({row['detail']})" if row["detail"] else ""
            found[str(row["name"])].append(f"{row['instance']}: {row['state']}{detail}")
    if context.live is None:
        for one in channel_instances(context.settings):
            found[one.name].append(f"{one.instance}: set up")
    return {name: ", ".join(states) for name, states in found.items()}


def _rows(catalogue: Catalogue, states: Mapping[str, str]) -> Json:
    good: list[Json] = [
        {
            "name": name,
            "usable": True,
            "instances": states.get(name, ""),
            "file": str(entry.path),
            "reason": "",
            "hint": "",
        }
        for name, entry in sorted(catalogue.available.items())
    ]
    bad: list[Json] = [
        {
            "name": entry.name,
            "usable": False,
            "instances": states.get(entry.name, ""),
            "file": str(entry.path),
            "reason": entry.reason,
            "hint": entry.hint,
        }
        for entry in catalogue.unavailable
    ]
    return good + bad


async def _check(context: OfflineContext, arguments: Check) -> Json:
    name, instance = channel_setup.named(arguments.name)
    if (name, instance) == TERMINAL:
        return {"channel": f"{name}:{instance}", "said": "it is always switched on, and has nothing to set up"}
    entry = (await asyncio.to_thread(discover, context.home.channel_folders)).find(name)
    settings = load_settings(context.home.root, os.environ)
    tables = {(one.name, one.instance): one.settings for one in channel_instances(settings)}
    if (name, instance) not in tables:
        raise UsageError(
            f"{name}:{instance} is not set up in {context.home.root / FILE}",
            hint=f"nanohost channels add {arguments.name}",
        )
    table = tables[name, instance]
    said = await channel_setup.tried(entry, instance, table, context.home.root)
    doubt = channel_setup.misspelt(entry.settings, table)
    return {"channel": f"{name}:{instance}", "said": f"{said} But {doubt}" if doubt else said}


async def _add(context: OfflineContext, arguments: Add) -> Json:
    name, instance = channel_setup.named(arguments.name)
    if (name, instance) == TERMINAL:
        raise UsageError("the terminal is always switched on, and has nothing to set up", hint="nanohost chat")
    if any((one.name, one.instance) == (name, instance) for one in channel_instances(context.settings)):
        raise UsageError(
            f"{name}:{instance} is set up already",
            hint=f"edit it in {context.home.root / FILE}, or name another: nanohost channels add {name}:second",
        )
    entry = (await asyncio.to_thread(discover, context.home.channel_folders)).find(name)
    # Asked for right here: nothing else runs on this loop, and Ctrl-C has to end it.
    table = channel_setup.completed(entry.settings, channel_setup.given(arguments.settings), channel_setup.ask_person)
    known = resolved_channel(context.home.root, os.environ, name, table)
    scrubber.learn(str(known[one.name]) for one in entry.settings if one.secret and one.name in known)
    said = "it was not tried"
    if not arguments.anyway:
        said = await channel_setup.tried(entry, instance, known, context.home.root)
    await asyncio.to_thread(context.home.prepare)
    path = await asyncio.to_thread(channel_setup.save, context.home.root, name, instance, table)
    return {
        "channel": f"{name}:{instance}",
        "said": said,
        "saved": str(path),
        "next": f"nanohost run, and beside it nanohost pair {arguments.name}: it makes you the owner",
    }


async def _simulate(context: OfflineContext, arguments: Simulate) -> Json:
    # Loaded when it is asked for: what is made for tests is part of no host.
    simulated = importlib.import_module("nanohost.testing.simulated")
    return {"written": await simulated.serve(simulated.find(arguments.name), sys.stdin, sys.stdout)}


COMMANDS = (
    Command(
        words="channels list",
        help="list channel files, how they stand, and what is wrong with those that cannot be used",
        example="nanohost channels list",
        arguments=List,
        run=_list,
    ),
    Command(
        words="channels check",
        help="ask the platform of a channel whether its settings are right",
        example="nanohost channels check telegram",
        arguments=Check,
        run=_check,
        positional=("name",),
        offline=True,
    ),
    Command(
        words="channels add",
        help="ask for a channel's settings, try them, and write them to nanohost.toml",
        example='nanohost channels add telegram --settings "token=env:TELEGRAM_TOKEN"',
        arguments=Add,
        run=_add,
        positional=("name",),
        offline=True,
    ),
    Command(
        words="channels simulate",
        help="be a platform on this machine, with you as the person on it",
        example="nanohost channels simulate telegram",
        arguments=Simulate,
        run=_simulate,
        positional=("name",),
        offline=True,
    ),
)

"""Channels: list, check, create, update and delete them."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.channel_api import ChannelDown
from nanohost.channels.header import ChannelSetting
from nanohost.channels.loader import AvailableChannel, ChannelCatalogue, discover
from nanohost.commands import channel_setup
from nanohost.commands.command import Command
from nanohost.commands.context import EFFECTIVE_AFTER_RESTART, CommandContext, OfflineContext
from nanohost.commands.prompts import retry_until_valid
from nanohost.commands.setup import TERMINAL_CHANNEL
from nanohost.commands.tables import Json
from nanohost.config import settings_file
from nanohost.config.settings import (
    ENABLED_KEY,
    SETTINGS_FILE,
    ChannelInstance,
    channel_instances,
    load_settings,
    resolve_channel_secrets,
)
from nanohost.config.settings_file import Table
from nanohost.errors import ChannelLoadError, NanohostError, UsageError
from nanohost.logs import scrubber

ABOUT = "bots on platforms such as Telegram, and how they stand"


class ListArgs(CommandArguments):
    """Nothing to say."""


class CheckArgs(CommandArguments):
    name: str = Field(description="the channel, as NAME or NAME:INSTANCE")


class Create(CheckArgs):
    set: tuple[str, ...] = Field((), description="a setting that would be asked for; a secret as env:NAME")
    anyway: bool = Field(False, description="save it also where the platform does not accept it, or cannot be asked")


class UpdateArgs(CheckArgs):
    set: tuple[str, ...] = Field(
        (), description="a setting that is to change; KEY= takes it out (default: all are asked for)"
    )
    anyway: bool = Field(False, description="save it also where the platform does not accept it, or cannot be asked")


class SimulateArgs(CommandArguments):
    name: str = Field(description="the platform, such as telegram")


async def _list(context: CommandContext, arguments: ListArgs) -> Json:
    catalogue = await asyncio.to_thread(discover, context.home.channel_folders)
    return _catalogue_rows(catalogue, _instance_states(context))


def _instance_states(context: CommandContext) -> Mapping[str, str]:
    """Returns the states of each channel's instances as text: from a running host, else that they are configured."""
    found: dict[str, list[str]] = defaultdict(list)
    report = context.host.report()["channels"] if context.host else []
    for row in report if isinstance(report, Sequence) else ():
        if isinstance(row, Mapping):
            detail = f" ({row['detail']})" if row["detail"] else ""
            found[str(row["name"])].append(f"{row['instance']}: {row['state']}{detail}")
    if context.host is None:
        for one in channel_instances(context.settings):
            found[one.name].append(f"{one.instance}: {'set up' if one.is_enabled else 'disabled'}")
    return {name: ", ".join(states) for name, states in found.items()}


def _catalogue_rows(catalogue: ChannelCatalogue, states: Mapping[str, str]) -> Json:
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


async def _check(context: OfflineContext, arguments: CheckArgs) -> Json:
    name, instance = channel_setup.parse_channel(arguments.name)
    if (name, instance) == TERMINAL_CHANNEL:
        return {"channel": f"{name}:{instance}", "said": "it is always switched on, and has nothing to set up"}
    entry = (await asyncio.to_thread(discover, context.home.channel_folders)).find(name)
    one = _find_instance(context, arguments.name)
    table = resolve_channel_secrets(context.home.root, os.environ, name, one.settings)
    hint = f"nanohost channels update {arguments.name}"
    answer = await channel_setup.check_settings(entry, instance, table, context.home.root, hint=hint)
    misspelling = channel_setup.describe_misspelling(entry.settings, table)
    answer = f"{answer} But {misspelling}" if misspelling else answer
    if not one.is_enabled:
        answer += f" But it is disabled: nanohost channels enable {arguments.name}"
    return {"channel": f"{name}:{instance}", "said": answer}


def _find_instance(context: OfflineContext, text: str) -> ChannelInstance:
    """Returns the configured instance, with unresolved secrets. Raises UsageError if it is not configured."""
    name, instance = channel_setup.parse_channel(text)
    if (name, instance) == TERMINAL_CHANNEL:
        raise UsageError("the terminal is always switched on, and has nothing to set up", hint="nanohost chat")
    settings = load_settings(context.home.root, os.environ, resolve_secrets=False)
    for one in channel_instances(settings):
        if (one.name, one.instance) == (name, instance):
            return one
    raise UsageError(
        f"{name}:{instance} is not set up in {context.home.root / SETTINGS_FILE}",
        hint=f"nanohost channels create {text}",
    )


async def _create(context: OfflineContext, arguments: Create) -> Json:
    name, instance = channel_setup.parse_channel(arguments.name)
    if (name, instance) == TERMINAL_CHANNEL:
        raise UsageError("the terminal is always switched on, and has nothing to set up", hint="nanohost chat")
    if any((one.name, one.instance) == (name, instance) for one in channel_instances(context.settings)):
        raise UsageError(
            f"{name}:{instance} is set up already",
            hint=f"nanohost channels update {arguments.name}, or name another: nanohost channels create {name}:second",
        )
    entry = (await asyncio.to_thread(discover, context.home.channel_folders)).find(name)
    given = channel_setup.parse_settings(arguments.set)

    async def attempt() -> tuple[Table, str]:
        # Asked for right here: nothing else runs on this loop, and Ctrl-C has to end it.
        table = channel_setup.complete_settings(entry.settings, given, channel_setup.prompt_for_setting)
        return table, await _check_settings(context, entry, instance, table, should_save_anyway=arguments.anyway)

    table, answer = await retry_until_valid(attempt, was_prompted=True, is_input_error=_is_input_error)
    await asyncio.to_thread(context.home.prepare)
    path = await asyncio.to_thread(_save, context, entry, instance, table)
    return {
        "channel": f"{name}:{instance}",
        "said": answer,
        "saved": str(path),
        "next": f"nanohost run (one that runs already: end it first), and in another terminal "
        f"nanohost pair {arguments.name}: it makes you the owner",
    }


async def _check_settings(
    context: OfflineContext, entry: AvailableChannel, instance: str, table: Table, *, should_save_anyway: bool
) -> str:
    """Returns the answer of the platform. Raises ChannelLoadError with the problem."""
    known = resolve_channel_secrets(context.home.root, os.environ, entry.name, table)
    scrubber.add_secrets(str(known[one.name]) for one in entry.settings if one.secret and one.name in known)
    try:
        return await channel_setup.check_settings(entry, instance, known, context.home.root)
    except ChannelLoadError as error:
        if not should_save_anyway:
            raise
        return f"it does not work yet: {error}"


def _is_input_error(error: NanohostError) -> bool:
    """Returns whether the typed settings are the cause; not so if the platform cannot be reached."""
    return isinstance(error, ChannelLoadError) and not isinstance(error.__cause__, ChannelDown)


def _save(context: OfflineContext, entry: AvailableChannel, instance: str, table: Table) -> Path:
    root, at = context.home.root, channel_setup.settings_table_path(entry.name, instance)
    settings_file.check_can_add(root, at, table)
    return settings_file.add_table(root, at, channel_setup.store_secrets(root, at, table, entry.settings))


async def _update(context: OfflineContext, arguments: UpdateArgs) -> Json:
    before = _find_instance_in_file(context, _find_instance(context, arguments.name))
    entry = (await asyncio.to_thread(discover, context.home.channel_folders)).find(before.name)
    given = channel_setup.parse_settings(arguments.set)

    async def attempt() -> tuple[Table, str]:
        table = channel_setup.update_settings(entry.settings, before.settings, given, channel_setup.prompt_for_setting)
        if table == before.settings:
            raise UsageError("nothing is to be changed", hint="nanohost channels update --help")
        return table, await _check_settings(context, entry, before.instance, table, should_save_anyway=arguments.anyway)

    table, answer = await retry_until_valid(attempt, was_prompted=not given, is_input_error=_is_input_error)
    path = await asyncio.to_thread(_save_change, context, entry.settings, before, table)
    return {"channel": _full_name(before), "said": answer, "saved": str(path), "next": EFFECTIVE_AFTER_RESTART}


def _save_change(
    context: OfflineContext, settings: Sequence[ChannelSetting], before: ChannelInstance, table: Table
) -> Path:
    root, at = context.home.root, channel_setup.settings_table_path(before.name, before.instance)
    was, whole = (_with_enabled(one, enabled=before.is_enabled) for one in (before.settings, table))
    settings_file.replace_table(root, at, was)  # fails before a secret is replaced
    path = settings_file.replace_table(root, at, channel_setup.store_secrets(root, at, whole, settings))
    channel_setup.delete_secrets(root, at, before.settings)
    return path


async def _disable(context: OfflineContext, arguments: CheckArgs) -> Json:
    return await _set_enabled(context, arguments, enabled=False)


async def _enable(context: OfflineContext, arguments: CheckArgs) -> Json:
    return await _set_enabled(context, arguments, enabled=True)


async def _set_enabled(context: OfflineContext, arguments: CheckArgs, *, enabled: bool) -> Json:
    one = _find_instance_in_file(context, _find_instance(context, arguments.name))
    if one.is_enabled is enabled:
        raise UsageError(
            f"{_full_name(one)} is {'enabled' if enabled else 'disabled'} already",
            hint=f"nanohost channels {'disable' if enabled else 'enable'} {arguments.name}",
        )
    table = _with_enabled(one.settings, enabled=enabled)
    at = channel_setup.settings_table_path(one.name, one.instance)
    path = await asyncio.to_thread(settings_file.replace_table, context.home.root, at, table)
    return {"channel": _full_name(one), "enabled": enabled, "saved": str(path), "next": EFFECTIVE_AFTER_RESTART}


async def _delete(context: OfflineContext, arguments: CheckArgs) -> Json:
    one = _find_instance_in_file(context, _find_instance(context, arguments.name))
    at = channel_setup.settings_table_path(one.name, one.instance)
    path = await asyncio.to_thread(settings_file.remove_table, context.home.root, at)
    await asyncio.to_thread(channel_setup.delete_secrets, context.home.root, at, one.settings)
    return {
        "removed": _full_name(one),
        "saved": str(path),
        "kept": "its chats, wirings and conversations, for the day it is added again; the bot itself is ended at the"
        " platform",
        "next": EFFECTIVE_AFTER_RESTART,
    }


def _find_instance_in_file(context: OfflineContext, one: ChannelInstance) -> ChannelInstance:
    """Returns the instance as in the file, without overriding variables, which must not be written.

    Raises UsageError if it is configured only by variables.
    """
    for found in channel_instances(load_settings(context.home.root, {}, resolve_secrets=False)):
        if (found.name, found.instance) == (one.name, one.instance):
            return found
    raise UsageError(
        f"{_full_name(one)} is not set up in {context.home.root / SETTINGS_FILE}, but in variables",
        hint=f"env | grep NANOHOST_CHANNELS_{one.name.upper()}",
    )


def _with_enabled(table: Table, *, enabled: bool) -> Table:
    return dict(table) if enabled else {**table, ENABLED_KEY: False}


def _full_name(one: ChannelInstance) -> str:
    return f"{one.name}:{one.instance}"


async def _simulate(context: OfflineContext, arguments: SimulateArgs) -> Json:
    # Imported only here: test code is not part of a host.
    simulated = importlib.import_module("nanohost.testing.simulated_chat")
    simulator = simulated.make_interactive_simulator(arguments.name, context.clock.now())
    return {"written": await simulated.serve_terminal(simulator, sys.stdin, sys.stdout)}


_offline_command = partial(Command, positional=("name",), is_offline=True)

COMMANDS = (
    Command(
        words="channels list",
        help="list channel files, how they stand, and what is wrong with those that cannot be used",
        example="nanohost channels list",
        arguments=ListArgs,
        run=_list,
    ),
    Command(
        words="channels check",
        help="ask the platform of a channel whether its settings are right",
        example="nanohost channels check telegram",
        arguments=CheckArgs,
        run=_check,
        positional=("name",),
        is_offline=True,
    ),
    Command(
        words="channels create",
        help="ask for a channel's settings, try them, and write them down: secrets each into a file of its own",
        example="nanohost channels create telegram",
        arguments=Create,
        run=_create,
        positional=("name",),
        is_offline=True,
    ),
    _offline_command(
        words="channels update",
        help="change a channel's settings, try them, and write them to nanohost.toml",
        example="nanohost channels update telegram",
        arguments=UpdateArgs,
        run=_update,
    ),
    _offline_command(
        words="channels disable",
        help="leave a channel out from the host's next start on; its settings are kept",
        example="nanohost channels disable telegram",
        arguments=CheckArgs,
        run=_disable,
    ),
    _offline_command(
        words="channels enable",
        help="start a channel again that is disabled, from the host's next start on",
        example="nanohost channels enable telegram",
        arguments=CheckArgs,
        run=_enable,
    ),
    _offline_command(
        words="channels delete",
        confirm="Delete the channel {name} and its secrets?",
        help="take a channel out of nanohost.toml, with the secrets that were kept for it",
        example="nanohost channels delete telegram",
        arguments=CheckArgs,
        run=_delete,
    ),
    Command(
        words="channels simulate",
        help="be a platform on this machine, with you as the person on it",
        example="nanohost channels simulate telegram",
        arguments=SimulateArgs,
        run=_simulate,
        positional=("name",),
        is_offline=True,
    ),
)

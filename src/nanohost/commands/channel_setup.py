"""Asks for a channel's settings and checks them before they are written (config/settings_file.py).

Settings that do not work are not saved, unless the operator wants that.
"""

from __future__ import annotations

import getpass
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nanohost.channel_api import Channel, ChannelContext, ChannelError, Checks
from nanohost.channels.header import ChannelSetting, find_misspelt_keys, is_applicable
from nanohost.channels.loader import AvailableChannel, load
from nanohost.config.settings import is_reference, is_secret
from nanohost.config.settings_file import Table, TablePath, delete_secret, secret_reference, store_secret
from nanohost.errors import ChannelLoadError, UsageError

_INSTANCE = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")

CHECK_UNAVAILABLE = "it cannot be tried from here; nanohost status shows how it stands once the host runs"


def parse_channel(text: str) -> tuple[str, str]:
    """Parses NAME or NAME:INSTANCE. Raises UsageError."""
    name, _, instance = text.partition(":")
    instance = instance or "default"
    if not name or not _INSTANCE.fullmatch(instance):
        raise UsageError(f"{text[:80]!r} names no channel", hint="like this: telegram, or telegram:work")
    return name, instance


def settings_table_path(name: str, instance: str) -> TablePath:
    """Returns the path of the channel's table in nanohost.toml."""
    return ("channels", name) if instance == "default" else ("channels", name, instance)


def store_secrets(home: Path, table_path: TablePath, table: Table, settings: Sequence[ChannelSetting]) -> Table:
    """Stores each secret in its own file; returns the table with references in their place. Raises UsageError."""
    known = {setting.name: setting.secret for setting in settings}
    kept = dict(table)
    for key, value in table.items():
        if isinstance(value, str) and value and known.get(key, is_secret(key)) and not is_reference(value):
            kept[key] = store_secret(home, _secret_name(table_path, key), value)
    return kept


def delete_secrets(home: Path, table_path: TablePath, table: Table) -> None:
    """Deletes the files that `store_secrets` created for this table and that nothing refers to any more. Raises
    UsageError."""
    for key, value in table.items():
        if value == secret_reference(_secret_name(table_path, key)):
            delete_secret(home, _secret_name(table_path, key))


def _secret_name(table_path: TablePath, key: str) -> str:
    return ".".join([*table_path[1:], key])


def parse_settings(settings: Sequence[str]) -> dict[str, str]:
    """Parses typed settings, `key=value` each. Raises UsageError."""
    found: dict[str, str] = {}
    for word in settings:
        key, sign, value = word.partition("=")
        if not sign or not re.fullmatch(r"[a-z][a-z0-9_]*", key):
            raise UsageError(f"{key[:40]!r} is no setting with a value", hint="--set token=env:TOKEN")
        found[key] = value
    return found


def complete_settings(
    settings: Sequence[ChannelSetting], values: Mapping[str, str], prompt: Callable[[ChannelSetting], str]
) -> Table:
    """Returns the table to write: the given values, and the answers of `prompt` for the rest. Leaves out defaults."""
    known = {setting.name: setting for setting in settings}
    table = {name: _parse_value(value, known.get(name)) for name, value in values.items()}
    for setting in settings:
        if setting.name in table or not is_applicable(setting, table, known):
            continue
        answer = prompt(setting).strip()
        if answer and answer != str(setting.default):
            table[setting.name] = _parse_value(answer, setting)
        elif setting.default is None:
            hint = describe_misspelling(settings, table) or f"--set {setting.name}=…"
            raise UsageError(f"{setting.name} has to be given: {setting.help}", hint=hint)
    return table


def update_settings(
    settings: Sequence[ChannelSetting],
    before: Table,
    values: Mapping[str, str],
    prompt: Callable[[ChannelSetting], str],
) -> Table:
    """Returns the table with the given values; if none is given, with the answers of `prompt`.

    An empty answer keeps a setting. A key with an empty given value is removed; so is one that no longer applies.
    """
    known = {setting.name: setting for setting in settings}
    changes = {name: _parse_value(value, known.get(name)) for name, value in values.items()}
    table = {name: value for name, value in {**before, **changes}.items() if value != ""}
    for setting in settings:
        if not is_applicable(setting, table, known):
            if setting.name not in values and is_applicable(setting, before, known):
                table.pop(setting.name, None)
        elif not values and (answer := prompt(_with_current_value(setting, table)).strip()):
            table[setting.name] = _parse_value(answer, setting)
    for setting in settings:
        if setting.default is None and setting.name not in table and is_applicable(setting, table, known):
            raise UsageError(f"{setting.name} cannot be left out: {setting.help}", hint=f"--set {setting.name}=…")
    return table


def _with_current_value(setting: ChannelSetting, table: Table) -> ChannelSetting:
    """Returns the setting with its current value as default; the value of a secret is not shown."""
    kept = "as it is" if setting.secret and setting.name in table else table.get(setting.name, setting.default)
    return replace(setting, default=str(kept) if kept is not None else None)


def describe_misspelling(settings: Sequence[ChannelSetting], table: Table) -> str:
    """Returns a sentence about a key that resembles an expected one; empty if there is none.

    Other unknown keys are no mistake: a channel may read more keys than it asks for.
    """
    known = [setting.name for setting in settings]
    found = next(find_misspelt_keys(known, settings, table), None)
    return f"{found[0]} is no setting of it: did you mean {found[1]}?" if found else ""


def prompt_for_setting(setting: ChannelSetting) -> str:
    """Asks at the terminal; a secret is not shown. Asks nothing if there is no terminal."""
    if not sys.stdin.isatty():
        return ""
    default = f" [{setting.default}]" if setting.default not in (None, "") else ""
    prompt = f"{setting.help}\n{setting.name}{default}: "
    # This blocks the event loop, and so its handling of Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return getpass.getpass(prompt) if setting.secret else input(prompt)
    except EOFError:
        return ""
    finally:
        signal.signal(signal.SIGINT, before)


def create_channel(entry: AvailableChannel, instance: str, settings: Table, home: Path, runtime_dir: Path) -> Channel:
    """Creates the channel as the host does. Raises ChannelLoadError with the channel's own message."""
    create = load(entry)
    try:
        return create(ChannelContext(instance=instance, settings=settings, runtime_dir=runtime_dir, home=home))
    except (ChannelError, ValueError) as error:
        hint = describe_misspelling(entry.settings, settings) or f"docs/channels/{entry.name}.md"
        raise ChannelLoadError(f"channel {entry.name}: {error}", hint=hint) from error


async def check_settings(entry: AvailableChannel, instance: str, settings: Table, home: Path, *, hint: str = "") -> str:
    """Checks the settings with the platform and returns its answer.

    Raises ChannelLoadError with the problem, and with `hint` or the page about it.
    """
    with tempfile.TemporaryDirectory(prefix="nanohost-check-") as folder:
        channel = create_channel(entry, instance, settings, home, Path(folder))
        if not isinstance(channel, Checks):
            return CHECK_UNAVAILABLE
        try:
            return await channel.check()
        except ChannelError as error:
            raise ChannelLoadError(
                f"channel {entry.name}: {error}", hint=hint or f"docs/channels/{entry.name}.md says how to set it up"
            ) from error


def _parse_value(value: str, setting: ChannelSetting | None) -> object:
    """Converts typed text to the type of the setting's default."""
    default = None if setting is None else setting.default
    if isinstance(default, bool) and value in {"true", "false"}:
        return value == "true"
    if isinstance(default, (int, float)) and re.fullmatch(r"-?[0-9]+", value):
        return int(value)
    if isinstance(default, (int, float)) and re.fullmatch(r"-?[0-9]+\.[0-9]+", value):
        return float(value)
    return value

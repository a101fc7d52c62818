"""Checks names in nanohost.toml that other parts own: actions of [guard], channels, and the keys of channels.

A misspelt name is reported together with all other mistakes. An unknown channel that resembles no known one is
accepted: its file may be added later, and the host shows it as not connected. So is an unknown key: a channel may read
more keys than it asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import cast

from nanohost.actions.policy import validate_names
from nanohost.actions.registry import extension_names
from nanohost.channels.header import ChannelSetting, find_misspelt_keys, is_applicable
from nanohost.channels.loader import discover
from nanohost.config.home import Home
from nanohost.config.mistakes import ProblemCollector
from nanohost.config.settings import Settings, is_enabled, load_settings
from nanohost.text.phrases import did_you_mean

Tables = Mapping[str, object]


def load_validated_settings(home: Home, environ: Mapping[str, str], *, resolve_secrets: bool = True) -> Settings:
    """Loads the settings, as load_settings does, and checks every name.

    Reads the headers of channel files; imports an install's actions if a name is no shipped one. Raises SettingsError.
    """
    look = partial(_check_names, home)
    return load_settings(home.root, environ, resolve_secrets=resolve_secrets, extra_check=look)


def _check_names(home: Home, table: Tables, mistakes: ProblemCollector) -> None:
    validate_names(cast("Tables", table.get("guard", {})), mistakes, partial(extension_names, home.actions))
    if channels := cast("Mapping[str, Tables]", table.get("channels", {})):
        _check_channels(channels, home.channel_folders, mistakes)


def _check_channels(channels: Mapping[str, Tables], folders: tuple[Path, ...], mistakes: ProblemCollector) -> None:
    found = discover(folders)
    known = {*found.available, *(one.name for one in found.unavailable)}
    for name, table in channels.items():
        if name not in known:
            hint = did_you_mean(name, known)
            if hint and any(is_enabled(one) for _, one in _instance_tables(name, table)):
                mistakes.add_for_key(f"channels.{name}", f"[channels.{name}] is of no channel that is here", hint=hint)
        elif name in found.available:
            for place, one in _instance_tables(name, table):
                _check_keys(place, one, found.available[name].settings, mistakes)


def _instance_tables(name: str, table: Tables) -> Iterator[tuple[str, Tables]]:
    """Yields the dotted name and the table of each instance."""
    inner = {key: cast("Tables", value) for key, value in table.items() if isinstance(value, Mapping)}
    plain = {key: value for key, value in table.items() if key not in inner}
    if plain or not inner:
        yield f"channels.{name}", plain
    yield from ((f"channels.{name}.{key}", one) for key, one in inner.items())


def _check_keys(
    table_name: str, table: Tables, settings: tuple[ChannelSetting, ...], mistakes: ProblemCollector
) -> None:
    """Reports a key that resembles a missing required one, without which the channel could not be created."""
    if not is_enabled(table):
        return
    known = {setting.name: setting for setting in settings}
    needed = [one for one in settings if one.default is None and is_applicable(one, table, known)]
    wrong = [(key, near) for key, near in find_misspelt_keys(known, needed, table) if key != "enabled"]
    for key, near in wrong:
        mistakes.add_for_key(f"{table_name}.{key}", f"[{table_name}] has no key {key}", hint=f"did you mean {near}?")

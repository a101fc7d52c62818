"""A channel is set up: its settings are asked for, tried, and written to nanohost.toml, in this order.

Nothing is saved that does not work, unless the operator says so; what stood in the file before stays as it was. The
file is for its owner alone, since it may hold secrets.
"""

from __future__ import annotations

import contextlib
import difflib
import getpass
import json
import os
import re
import shlex
import signal
import stat
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nanohost.channel_api import Channel, ChannelContext, ChannelError, Checks
from nanohost.channels.header import Setting
from nanohost.channels.loader import Available, load
from nanohost.errors import ChannelLoadError, UsageError
from nanohost.settings import FILE

Table = Mapping[str, object]
_INSTANCE = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")

CANNOT_BE_TRIED = "it cannot be tried from here; nanohost status shows how it stands once the host runs"


def named(text: str) -> tuple[str, str]:
    """NAME or NAME:INSTANCE. Raises UsageError."""
    name, _, instance = text.partition(":")
    instance = instance or "default"
    if not name or not _INSTANCE.fullmatch(instance):
        raise UsageError(f"{text[:80]!r} names no channel", hint="like this: telegram, or telegram:work")
    return name, instance


def given(text: str) -> dict[str, str]:
    """Settings as they are typed in one word: `key=value key="another value"`. Raises UsageError."""
    found: dict[str, str] = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"the settings cannot be read: {error}", hint='--settings "token=env:TOKEN"') from error
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not re.fullmatch(r"[a-z][a-z0-9_]*", key):
            raise UsageError(f"{key[:40]!r} is no setting with a value", hint='--settings "token=env:TOKEN"')
        found[key] = value
    return found


def completed(settings: Sequence[Setting], values: Mapping[str, str], ask: Callable[[Setting], str]) -> Table:
    """The table to write: what was given, and what `ask` is told of the rest. Defaults are not written down."""
    known = {setting.name: setting for setting in settings}
    table = {name: _typed(value, known.get(name)) for name, value in values.items()}
    for setting in settings:
        if setting.name in table or not _is_of_use(setting, table, known):
            continue
        answer = ask(setting).strip()
        if answer and answer != str(setting.default):
            table[setting.name] = _typed(answer, setting)
        elif setting.default is None:
            hint = misspelt(settings, table) or f'--settings "{setting.name}=…"'
            raise UsageError(f"{setting.name} has to be given: {setting.help}", hint=hint)
    return table


def misspelt(settings: Sequence[Setting], table: Table) -> str:
    """A key that is almost one of these, in words; empty: there is none. A channel may read more than it asks for."""
    free = {setting.name for setting in settings} - set(table)
    for key in set(table) - {setting.name for setting in settings}:
        if near := difflib.get_close_matches(key, free, 1):
            return f"{key} is no setting of it: did you mean {near[0]}?"
    return ""


def ask_person(setting: Setting) -> str:
    """Asked at the terminal; a secret is not shown. Where nobody can answer, nothing is."""
    if not sys.stdin.isatty():
        return ""
    default = f" [{setting.default}]" if setting.default not in (None, "") else ""
    prompt = f"{setting.help}\n{setting.name}{default}: "
    # While this waits the event loop stands still, and its own way with Ctrl-C with it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return getpass.getpass(prompt) if setting.secret else input(prompt)
    except EOFError:
        return ""
    finally:
        signal.signal(signal.SIGINT, before)


def make(entry: Available, instance: str, settings: Table, home: Path, runtime_dir: Path) -> Channel:
    """The channel as the host would make it. Raises ChannelLoadError with the channel's own words."""
    create = load(entry)
    try:
        return create(ChannelContext(instance=instance, settings=settings, runtime_dir=runtime_dir, home=home))
    except (ChannelError, ValueError) as error:
        hint = misspelt(entry.settings, settings) or f"docs/channels/{entry.name}.md"
        raise ChannelLoadError(f"channel {entry.name}: {error}", hint=hint) from error


async def tried(entry: Available, instance: str, settings: Table, home: Path) -> str:
    """What the platform says to these settings. Raises ChannelLoadError with what is wrong."""
    with tempfile.TemporaryDirectory(prefix="nanohost-check-") as folder:
        channel = make(entry, instance, settings, home, Path(folder))
        if not isinstance(channel, Checks):
            return CANNOT_BE_TRIED
        try:
            return await channel.check()
        except ChannelError as error:
            raise ChannelLoadError(
                f"channel {entry.name}: {error}", hint=f"docs/channels/{entry.name}.md says how to set it up"
            ) from error


def save(home: Path, name: str, instance: str, table: Table) -> Path:
    """Add the table to nanohost.toml. Raises UsageError when it is there, or the file does not take one more."""
    path = (home / FILE).resolve()
    before = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    key = f"channels.{name}" if instance == "default" else f"channels.{name}.{instance}"
    if before and not before.endswith("\n"):
        before += "\n"
    after = before + ("\n" if before else "") + as_toml(key, table)
    try:
        tomllib.loads(after)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{path} has no place for a table [{key}]: {error}", hint=f"if it is there already, edit it in {path}"
        ) from error
    _replace(path, after)
    return path


def as_toml(key: str, table: Table) -> str:
    """A table as it stands in the file."""
    lines = [f"{name} = {_value(value)}" for name, value in table.items()]
    return "\n".join([f"[{key}]", *lines]) + "\n"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    # A TOML string of one line is a JSON string, but for DEL.
    return (
        str(value) if isinstance(value, int) else json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    )


def _is_of_use(setting: Setting, table: Table, known: Mapping[str, Setting]) -> bool:
    """Whether the key that it depends on has the value that it needs."""
    key, _, wanted = setting.only_if.partition("=")
    default = known[key].default if key in known else None
    return not key or str(table.get(key, default)) == wanted


def _typed(value: str, setting: Setting | None) -> object:
    """As the channel's default is: what is typed is text."""
    default = None if setting is None else setting.default
    if isinstance(default, bool) and value in {"true", "false"}:
        return value == "true"
    if isinstance(default, (int, float)) and re.fullmatch(r"-?[0-9]+", value):
        return int(value)
    return value


def _replace(path: Path, text: str) -> None:
    """The whole file or none of it, readable by its owner alone: the one it had, where root writes for another."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".nanohost-toml-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), stat.S_IRUSR | stat.S_IWUSR)
            if os.geteuid() == 0:
                owner = (path if path.exists() else path.parent).stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise

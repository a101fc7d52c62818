"""A channel's table in nanohost.toml, and its secrets in files of their own beside it.

Promises: what else stands in the file, comments and all, stays as it is; a file is there wholly or not at all, and for
its owner alone; where the text cannot be changed safely it is left alone, and said so. A secret is never written into
nanohost.toml by a command: the table says in which file it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nanohost.channels.header import Setting
from nanohost.errors import UsageError
from nanohost.settings import FILE, is_reference, is_secret

Table = Mapping[str, object]

SECRETS = "secrets"
"""The folder of the install root that secrets are kept in."""
_HEADER = re.compile(r"\s*\[[^\[\]]+\]\s*(#.*)?$")
_KEY = re.compile(r"\s*(?P<key>[A-Za-z0-9_-]+)\s*=")


def add(home: Path, name: str, instance: str, table: Table) -> Path:
    """Add the table to nanohost.toml. Raises UsageError when it is there, or the file does not take one more."""
    path, text = _added(home, name, instance, table)
    replace(path, text)
    return path


def check_can_add(home: Path, name: str, instance: str, table: Table) -> None:
    """Raises UsageError where `add` would: before anything else is written for it."""
    _added(home, name, instance, table)


def _added(home: Path, name: str, instance: str, table: Table) -> tuple[Path, str]:
    path, before = _read(home)
    key = _key(name, instance)
    if before and not before.endswith("\n"):
        before += "\n"
    after = before + ("\n" if before else "") + as_toml(key, table)
    try:
        tomllib.loads(after)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{path} has no place for a table [{key}]: {error}", hint=f"if it is there already, edit it in {path}"
        ) from error
    return path, after


def change(home: Path, name: str, instance: str, table: Table) -> Path:
    """Have the table that is there hold this. Raises UsageError where the file is written in a way that only a person
    can change."""
    path, before = _read(home)
    lines = before.splitlines(keepends=True)
    first, end = _span(lines, name, instance, path)
    body = list(_changed(lines[first:end], table))
    _write(path, [*lines[:first], *body, *lines[end:]], before, name, instance, table)
    return path


def remove(home: Path, name: str, instance: str) -> Path:
    """Take the table out. Raises UsageError as `change` does."""
    path, before = _read(home)
    lines = before.splitlines(keepends=True)
    first, end = _span(lines, name, instance, path)
    _write(path, [*lines[: first - 1], *lines[end:]], before, name, instance, None)
    return path


def keep_secrets(home: Path, name: str, instance: str, table: Table, settings: Sequence[Setting]) -> Table:
    """The table with each secret in a file of its own, and in its place where that is. Raises UsageError."""
    known = {setting.name: setting.secret for setting in settings}
    kept = dict(table)
    for key, value in table.items():
        if isinstance(value, str) and value and known.get(key, is_secret(key)) and not is_reference(value):
            file = f"{SECRETS}/{_dotted(name, instance)}.{key}"
            _keep(home / file, value)
            kept[key] = f"file:{file}"
    return kept


def forget_secrets(home: Path, name: str, instance: str, table: Table) -> None:
    """Delete the files that `keep_secrets` made for this table; another's stay."""
    for key, value in table.items():
        file = f"{SECRETS}/{_dotted(name, instance)}.{key}"
        if value == f"file:{file}":
            (home / file).unlink(missing_ok=True)


def as_toml(key: str, table: Table) -> str:
    """A table as it stands in the file."""
    return "\n".join([f"[{key}]", *(_line(name, value) for name, value in table.items())]) + "\n"


def _line(name: str, value: object) -> str:
    return f"{name} = {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    # A TOML string of one line is a JSON string, but for DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str, instance: str) -> str:
    return f"channels.{_dotted(name, instance)}"


def _dotted(name: str, instance: str) -> str:
    return name if instance == "default" else f"{name}.{instance}"


def _read(home: Path) -> tuple[Path, str]:
    path = (home / FILE).resolve()
    return path, path.read_text(encoding="utf-8-sig") if path.exists() else ""


def _span(lines: Sequence[str], name: str, instance: str, path: Path) -> tuple[int, int]:
    """The lines of the table behind its heading: up to the next heading, without what is written right above that."""
    parts = ["channels", name, *([] if instance == "default" else [instance])]
    heading = re.compile(r"\s*\[\s*" + r"\s*\.\s*".join(rf"[\"']?{re.escape(one)}[\"']?" for one in parts) + r"\s*\]")
    found = [at for at, line in enumerate(lines) if heading.match(line)]
    if len(found) != 1:
        raise _by_hand(path, name, instance)
    first = found[0] + 1
    end = next((at for at in range(first, len(lines)) if _HEADER.match(lines[at])), len(lines))
    if end < len(lines):
        while end > first and not _KEY.match(lines[end - 1]):
            end -= 1
    return first, end


def _changed(lines: Sequence[str], table: Table) -> Iterator[str]:
    left = dict(table)
    before = tomllib.loads("".join(lines)) if _is_toml(lines) else {}
    for line in lines:
        found = _KEY.match(line)
        if found is None:
            yield line
        elif (key := found["key"]) in left:
            value = left.pop(key)
            yield line if key in before and before[key] == value else _line(key, value) + "\n"
    for key, value in left.items():
        yield _line(key, value) + "\n"


def _is_toml(lines: Sequence[str]) -> bool:
    try:
        tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError:
        return False
    return True


def _write(path: Path, lines: Sequence[str], before: str, name: str, instance: str, table: Table | None) -> None:
    """Only where it says afterwards what it is to say, and nothing else has changed."""
    if lines and not lines[-1].endswith("\n"):
        lines = [*lines[:-1], lines[-1] + "\n"]
    try:
        now = tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError as error:
        raise _by_hand(path, name, instance) from error
    if now != _wanted(tomllib.loads(before), name, instance, table):
        raise _by_hand(path, name, instance)
    replace(path, "".join(lines))


def _wanted(whole: dict[str, Any], name: str, instance: str, table: Table | None) -> dict[str, Any]:
    """What the file is to say. Of a default instance those beside it are left."""
    of_name = whole["channels"][name]
    if instance != "default":
        others = {key: value for key, value in of_name.items() if key != instance}
        mine: dict[str, Any] = {} if table is None else {instance: dict(table)}
    else:
        others = {key: value for key, value in of_name.items() if isinstance(value, dict)}
        mine = dict(table or {})
    channels = {**whole["channels"], name: {**mine, **others}}
    if table is None and not channels[name]:
        del channels[name]
    wanted = {**whole, "channels": channels}
    return wanted if channels else {key: value for key, value in wanted.items() if key != "channels"}


def _by_hand(path: Path, name: str, instance: str) -> UsageError:
    return UsageError(
        f"{path} sets {_key(name, instance)} in a way that no command can change safely, and it was left as it is",
        hint=f"edit it in {path}",
    )


def _keep(path: Path, secret: str) -> None:
    try:
        path.parent.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        if os.geteuid() == 0:  # the host may be another user, to whom the install root belongs
            owner = path.parent.parent.stat()
            os.chown(path.parent, owner.st_uid, owner.st_gid)
        replace(path, secret + "\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint=f"ls -ld {path.parent}") from error


def replace(path: Path, text: str) -> None:
    """The whole file or none of it, readable by its owner alone: the one it had, where root writes for another."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".nanohost-")
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

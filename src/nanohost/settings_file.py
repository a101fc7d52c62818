"""nanohost.toml, changed by a command: tables and single keys, and secrets in files of their own beside it.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nanohost.errors import UsageError
from nanohost.secrets import secret_file
from nanohost.settings import FILE

Table = Mapping[str, object]
At = Sequence[str]
"""Where a table stands: ("channels", "slack", "work") is [channels.slack.work]."""

SECRETS = "secrets"
"""The folder of the install root that secrets are kept in."""
_HEADING = re.compile(r"\s*\[[^\[\]]+\]\s*(#.*)?$")
_KEY = re.compile(r"\s*(?P<key>[A-Za-z0-9_-]+)\s*=")


def put(home: Path, at: At, values: Table) -> Path:
    """Have the table, made where there is none, hold these values beside its others. Returns the file. Raises
    UsageError where only a person can do it."""

    def changed(text: str) -> str:
        table = _find(tomllib.loads(text), at)
        if table is None and not _headings(text.splitlines(), at):
            return _with_table(text, at, values)
        own = {key: value for key, value in (table or {}).items() if not isinstance(value, dict)}
        return _with_values(text, at, {**own, **values})

    return _edit(home, changed, lambda whole: {**(_find(whole, at) or {}), **values}, at, _lines_of(at, values))


def add(home: Path, at: At, table: Table) -> Path:
    """Add the table. Returns the file. Raises UsageError when it is there, or the file does not take one more."""
    path, text = _added(home, at, table)
    replace(path, text)
    return path


def check_can_add(home: Path, at: At, table: Table) -> None:
    """Raises UsageError where `add` would: before anything else is written for it."""
    _added(home, at, table)


def change(home: Path, at: At, table: Table) -> Path:
    """Have the table that is there hold this and nothing else; tables within it stay. Returns the file. Raises
    UsageError where only a person can do it."""
    return _edit(
        home,
        lambda text: _with_values(text, at, table),
        lambda whole: {**table, **_within(whole, at)},
        at,
        _lines_of(at, table),
    )


def remove(home: Path, at: At) -> Path:
    """Take the table out; tables within it stay. Returns the file. Raises UsageError as `change` does."""
    return _edit(
        home,
        lambda text: _without_table(text, at),
        lambda whole: _within(whole, at),
        at,
        f"remove [{'.'.join(at)}] from it",
    )


def keep_secret(home: Path, name: str, secret: str) -> str:
    """Keep it in a file of its own. Returns what points at it. Raises UsageError."""
    path = home / SECRETS / name
    try:
        path.parent.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        if os.geteuid() == 0:  # the host may be another user, to whom the install root belongs
            owner = home.stat()
            os.chown(path.parent, owner.st_uid, owner.st_gid)
        replace(path, f"{secret}\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint=f"ls -ld {path.parent}") from error
    return secret_reference(name)


def secret_reference(name: str) -> str:
    """What points at the secret that is kept under this name."""
    return f"file:{SECRETS}/{name}"


def forget_secret(home: Path, name: str) -> None:
    """Delete its file, if there is one, and nothing in nanohost.toml points at it any more. Raises UsageError."""
    path = home / SECRETS / name
    try:
        if not _is_pointed_at(home, path):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be deleted: {error.strerror}", hint=f"rm {path}") from error


def _is_pointed_at(home: Path, path: Path) -> bool:
    """However the file writes its path, and in whichever table."""
    pointers = [text for text in _texts(tomllib.loads(_read(home / FILE))) if text.startswith("file:")]
    return path.resolve() in [secret_file(home, text.removeprefix("file:")).resolve() for text in pointers]


def _texts(value: object) -> Iterator[str]:
    """All that stand in a table and the tables and lists within it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _texts(one)
    if isinstance(value, str):
        yield value


def as_toml(at: At, table: Table) -> str:
    """A table as it stands in the file."""
    return "".join([f"[{'.'.join(at)}]\n", *(_line(key, value) for key, value in table.items())])


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


def _edit(
    home: Path,
    changed: Callable[[str], str],
    wanted: Callable[[Mapping[str, Any]], Table],
    at: At,
    by_hand: str,
) -> Path:
    """Change the text, if it says afterwards what it is to say at this place, and nothing else has changed."""
    path = (home / FILE).resolve()
    try:
        before = _read(path)
        whole = tomllib.loads(before)
        after = changed(before)
        if _filled(tomllib.loads(after)) != _filled(_with(whole, at, wanted(whole))):
            raise ValueError("the text says it in another way")
        replace(path, after)
    except OSError as error:
        raise UsageError(f"{path} cannot be changed: {error.strerror}", hint=f"ls -l {path}") from error
    except ValueError as error:
        raise UsageError(
            f"{path} is written in a way that no command can change safely, and was left as it is", hint=by_hand
        ) from error
    return path


def _added(home: Path, at: At, table: Table) -> tuple[Path, str]:
    path = (home / FILE).resolve()
    try:
        after = _with_table(_read(path), at, table)
        tomllib.loads(after)
    except OSError as error:
        raise UsageError(f"{path} cannot be changed: {error.strerror}", hint=f"ls -l {path}") from error
    except ValueError as error:
        raise UsageError(
            f"{path} has no place for a table [{'.'.join(at)}]: {error}",
            hint=f"if it is there already, edit it in {path}",
        ) from error
    return path, after


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig") if path.exists() else ""


# --- what the text says ---


def _find(whole: Mapping[str, Any], at: At) -> Mapping[str, Any] | None:
    """The table; None: there is none. Raises ValueError where something else stands there."""
    found: Any = whole
    for part in at:
        found = found.get(part)
        if found is None:
            return None
        if not isinstance(found, dict):
            raise ValueError(f"{part} is no table")
    return found  # type: ignore[no-any-return]


def _within(whole: Mapping[str, Any], at: At) -> Table:
    """The tables within this one."""
    return {key: value for key, value in (_find(whole, at) or {}).items() if isinstance(value, dict)}


def _with(whole: Mapping[str, Any], at: At, table: Table) -> Table:
    """All of it, with this table in its place."""
    if not at:
        return table
    first, *others = at
    return {**whole, first: _with(whole.get(first, {}), others, table)}


def _filled(value: object) -> object:
    """Without what is empty: [channels] alone says nothing."""
    if not isinstance(value, dict):
        return value
    filled = {key: _filled(inner) for key, inner in value.items()}
    return {key: inner for key, inner in filled.items() if inner != {}}


# --- the lines of the text ---


def _with_table(text: str, at: At, table: Table) -> str:
    lines = _lines(text)
    return "".join([*lines, *(["\n"] if lines else []), as_toml(at, table)])


def _with_values(text: str, at: At, table: Table) -> str:
    lines = _lines(text)
    first, end = _span(lines, at)
    return "".join([*lines[:first], *_changed(lines[first:end], table), *lines[end:]])


def _without_table(text: str, at: At) -> str:
    lines = _lines(text)
    first, end = _span(lines, at)
    return "".join([*lines[: first - 1], *lines[end:]])


def _lines(text: str) -> list[str]:
    """Each with its end."""
    return f"{text}\n".splitlines(keepends=True) if text and not text.endswith("\n") else text.splitlines(keepends=True)


def _headings(lines: Sequence[str], at: At) -> list[int]:
    parts = r"\s*\.\s*".join(rf"[\"']?{re.escape(part)}[\"']?" for part in at)
    heading = re.compile(rf"\s*\[\s*{parts}\s*\]")
    return [number for number, line in enumerate(lines) if heading.match(line)]


def _span(lines: Sequence[str], at: At) -> tuple[int, int]:
    """The lines of the table behind its heading: up to the next heading, without what is written right above that.
    Raises ValueError where there is no such heading, or more than one."""
    [heading] = _headings(lines, at)
    first = heading + 1
    end = next((number for number in range(first, len(lines)) if _HEADING.match(lines[number])), len(lines))
    if end < len(lines):
        while end > first and not _KEY.match(lines[end - 1]):
            end -= 1
    return first, end


def _changed(lines: Sequence[str], table: Table) -> Iterator[str]:
    """A line that says already what it is to say stays, with the comment behind it."""
    left = dict(table)
    before = _said(lines)
    for line in lines:
        found = _KEY.match(line)
        if found is None:
            yield line
        elif (key := found["key"]) in left:
            value = left.pop(key)
            yield line if key in before and before[key] == value else _line(key, value)
    for key, value in left.items():
        yield _line(key, value)


def _said(lines: Sequence[str]) -> Table:
    try:
        return tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError:
        return {}


def _lines_of(at: At, table: Table) -> str:
    lines = "; ".join(_line(key, value).strip() for key, value in table.items())
    return f"write below [{'.'.join(at)}] in it: {lines}"


def _line(key: str, value: object) -> str:
    return f"{key} = {_value(value)}\n"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    # A TOML string of one line is a JSON string, but for DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")

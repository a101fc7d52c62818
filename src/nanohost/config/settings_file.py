"""Edits nanohost.toml for commands: tables, single keys, and secrets in files of their own.

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

from nanohost.config.secrets import secret_file
from nanohost.config.settings import SETTINGS_FILE
from nanohost.errors import UsageError

Table = Mapping[str, object]
TablePath = Sequence[str]
"""Where a table stands: ("channels", "slack", "work") is [channels.slack.work]."""

SECRETS_DIR_NAME = "secrets"
"""The folder of the install root that secrets are kept in."""
_HEADING_PATTERN = re.compile(r"\s*\[[^\[\]]+\]\s*(#.*)?$")
_KEY_PATTERN = re.compile(r"\s*(?P<key>[A-Za-z0-9_-]+)\s*=")


def update_table(home: Path, table_path: TablePath, values: Table) -> Path:
    """Have the table, made where there is none, hold these values beside its others. Returns the file. Raises
    UsageError where only a person can do it."""

    def changed(text: str) -> str:
        table = _find_table(tomllib.loads(text), table_path)
        if table is None and not _find_headings(text.splitlines(), table_path):
            return _append_table(text, table_path, values)
        own = {key: value for key, value in (table or {}).items() if not isinstance(value, dict)}
        return _replace_values(text, table_path, {**own, **values})

    return _edit(
        home,
        changed,
        lambda whole: {**(_find_table(whole, table_path) or {}), **values},
        table_path,
        _manual_edit_hint(table_path, values),
    )


def add_table(home: Path, table_path: TablePath, table: Table) -> Path:
    """Add the table. Returns the file. Raises UsageError when it is there, or the file does not take one more."""
    path, text = _text_with_table(home, table_path, table)
    write_atomically(path, text)
    return path


def check_can_add(home: Path, table_path: TablePath, table: Table) -> None:
    """Raises UsageError where `add` would: before anything else is written for it."""
    _text_with_table(home, table_path, table)


def replace_table(home: Path, table_path: TablePath, table: Table) -> Path:
    """Have the table that is there hold this and nothing else; tables within it stay. Returns the file. Raises
    UsageError where only a person can do it."""
    return _edit(
        home,
        lambda text: _replace_values(text, table_path, table),
        lambda whole: {**table, **_subtables(whole, table_path)},
        table_path,
        _manual_edit_hint(table_path, table),
    )


def remove_table(home: Path, table_path: TablePath) -> Path:
    """Take the table out; tables within it stay. Returns the file. Raises UsageError as `change` does."""
    return _edit(
        home,
        lambda text: _remove_lines(text, table_path),
        lambda whole: _subtables(whole, table_path),
        table_path,
        f"remove [{'.'.join(table_path)}] from it",
    )


def store_secret(home: Path, name: str, secret: str) -> str:
    """Keep it in a file of its own. Returns what points at it. Raises UsageError."""
    path = home / SECRETS_DIR_NAME / name
    try:
        path.parent.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        if os.geteuid() == 0:  # the host may be another user, to whom the install root belongs
            owner = home.stat()
            os.chown(path.parent, owner.st_uid, owner.st_gid)
        write_atomically(path, f"{secret}\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint=f"ls -ld {path.parent}") from error
    return secret_reference(name)


def secret_reference(name: str) -> str:
    """What points at the secret that is kept under this name."""
    return f"file:{SECRETS_DIR_NAME}/{name}"


def delete_secret(home: Path, name: str) -> None:
    """Delete its file, if there is one, and nothing in nanohost.toml points at it any more. Raises UsageError."""
    path = home / SECRETS_DIR_NAME / name
    try:
        if not _is_referenced(home, path):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be deleted: {error.strerror}", hint=f"rm {path}") from error


def _is_referenced(home: Path, path: Path) -> bool:
    """However the file writes its path, and in whichever table."""
    pointers = [text for text in _strings_in(tomllib.loads(_read(home / SETTINGS_FILE))) if text.startswith("file:")]
    return path.resolve() in [secret_file(home, text.removeprefix("file:")).resolve() for text in pointers]


def _strings_in(value: object) -> Iterator[str]:
    """All that stand in a table and the tables and lists within it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _strings_in(one)
    if isinstance(value, str):
        yield value


def to_toml(table_path: TablePath, table: Table) -> str:
    """A table as it stands in the file."""
    return "".join([f"[{'.'.join(table_path)}]\n", *(_toml_line(key, value) for key, value in table.items())])


def write_atomically(path: Path, text: str) -> None:
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
    edit_text: Callable[[str], str],
    expected_table: Callable[[Mapping[str, Any]], Table],
    table_path: TablePath,
    manual_hint: str,
) -> Path:
    """Change the text, if it says afterwards what it is to say at this place, and nothing else has changed."""
    path = (home / SETTINGS_FILE).resolve()
    try:
        before = _read(path)
        whole = tomllib.loads(before)
        after = edit_text(before)
        if _without_empty_tables(tomllib.loads(after)) != _without_empty_tables(
            _replace_in(whole, table_path, expected_table(whole))
        ):
            raise ValueError("the text says it in another way")
        write_atomically(path, after)
    except OSError as error:
        raise UsageError(f"{path} cannot be changed: {error.strerror}", hint=f"ls -l {path}") from error
    except ValueError as error:
        raise UsageError(
            f"{path} is written in a way that no command can change safely, and was left as it is", hint=manual_hint
        ) from error
    return path


def _text_with_table(home: Path, table_path: TablePath, table: Table) -> tuple[Path, str]:
    path = (home / SETTINGS_FILE).resolve()
    try:
        after = _append_table(_read(path), table_path, table)
        tomllib.loads(after)
    except OSError as error:
        raise UsageError(f"{path} cannot be changed: {error.strerror}", hint=f"ls -l {path}") from error
    except ValueError as error:
        raise UsageError(
            f"{path} has no place for a table [{'.'.join(table_path)}]: {error}",
            hint=f"if it is there already, edit it in {path}",
        ) from error
    return path, after


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig") if path.exists() else ""


# --- what the text says ---


def _find_table(whole: Mapping[str, Any], table_path: TablePath) -> Mapping[str, Any] | None:
    """The table; None: there is none. Raises ValueError where something else stands there."""
    found: Any = whole
    for part in table_path:
        found = found.get(part)
        if found is None:
            return None
        if not isinstance(found, dict):
            raise ValueError(f"{part} is no table")
    return found  # type: ignore[no-any-return]


def _subtables(whole: Mapping[str, Any], table_path: TablePath) -> Table:
    """The tables within this one."""
    return {key: value for key, value in (_find_table(whole, table_path) or {}).items() if isinstance(value, dict)}


def _replace_in(whole: Mapping[str, Any], table_path: TablePath, table: Table) -> Table:
    """All of it, with this table in its place."""
    if not table_path:
        return table
    first, *others = table_path
    return {**whole, first: _replace_in(whole.get(first, {}), others, table)}


def _without_empty_tables(value: object) -> object:
    """Without what is empty: [channels] alone says nothing."""
    if not isinstance(value, dict):
        return value
    filled = {key: _without_empty_tables(inner) for key, inner in value.items()}
    return {key: inner for key, inner in filled.items() if inner != {}}


# --- the lines of the text ---


def _append_table(text: str, table_path: TablePath, table: Table) -> str:
    lines = _split_lines(text)
    return "".join([*lines, *(["\n"] if lines else []), to_toml(table_path, table)])


def _replace_values(text: str, table_path: TablePath, table: Table) -> str:
    lines = _split_lines(text)
    first, end = _table_span(lines, table_path)
    return "".join([*lines[:first], *_merge_lines(lines[first:end], table), *lines[end:]])


def _remove_lines(text: str, table_path: TablePath) -> str:
    lines = _split_lines(text)
    first, end = _table_span(lines, table_path)
    return "".join([*lines[: first - 1], *lines[end:]])


def _split_lines(text: str) -> list[str]:
    """Each with its end."""
    return f"{text}\n".splitlines(keepends=True) if text and not text.endswith("\n") else text.splitlines(keepends=True)


def _find_headings(lines: Sequence[str], table_path: TablePath) -> list[int]:
    parts = r"\s*\.\s*".join(rf"[\"']?{re.escape(part)}[\"']?" for part in table_path)
    heading = re.compile(rf"\s*\[\s*{parts}\s*\]")
    return [number for number, line in enumerate(lines) if heading.match(line)]


def _table_span(lines: Sequence[str], table_path: TablePath) -> tuple[int, int]:
    """The lines of the table behind its heading: up to the next heading, without what is written right above that.
    Raises ValueError where there is no such heading, or more than one."""
    [heading] = _find_headings(lines, table_path)
    first = heading + 1
    end = next((number for number in range(first, len(lines)) if _HEADING_PATTERN.match(lines[number])), len(lines))
    if end < len(lines):
        while end > first and not _KEY_PATTERN.match(lines[end - 1]):
            end -= 1
    return first, end


def _merge_lines(lines: Sequence[str], table: Table) -> Iterator[str]:
    """A line that says already what it is to say stays, with the comment behind it."""
    left = dict(table)
    before = _parse_lines(lines)
    for line in lines:
        found = _KEY_PATTERN.match(line)
        if found is None:
            yield line
        elif (key := found["key"]) in left:
            value = left.pop(key)
            yield line if key in before and before[key] == value else _toml_line(key, value)
    for key, value in left.items():
        yield _toml_line(key, value)


def _parse_lines(lines: Sequence[str]) -> Table:
    try:
        return tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError:
        return {}


def _manual_edit_hint(table_path: TablePath, table: Table) -> str:
    lines = "; ".join(_toml_line(key, value).strip() for key, value in table.items())
    return f"write below [{'.'.join(table_path)}] in it: {lines}"


def _toml_line(key: str, value: object) -> str:
    return f"{key} = {_toml_value(value)}\n"


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    # A TOML string of one line is a JSON string, but for DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")

"""Edits nanohost.toml for commands: tables, single keys, and secrets in files of their own.

Promises: the rest of the file stays as it is, including comments. A file is written atomically and is readable only by
its owner. A text that cannot be changed safely is left alone, with an error. Never: writes a secret into nanohost.toml;
the table refers to the secret's file.
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
"""The path of a table: ("channels", "slack", "work") is [channels.slack.work]."""

SECRETS_DIR_NAME = "secrets"
"""The folder of secrets in the install root."""
_HEADING_PATTERN = re.compile(r"\s*\[[^\[\]]+\]\s*(#.*)?$")
_KEY_PATTERN = re.compile(r"\s*(?P<key>[A-Za-z0-9_-]+)\s*=")


def update_table(home: Path, table_path: TablePath, values: Table) -> Path:
    """Set these values in a table, and keep its others; create the table if it is missing. Returns the file. Raises
    UsageError if the text cannot be changed safely."""

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
    """Add a table. Returns the file. Raises UsageError if the table exists, or cannot be added."""
    path, text = _text_with_table(home, table_path, table)
    write_atomically(path, text)
    return path


def check_can_add(home: Path, table_path: TablePath, table: Table) -> None:
    """Check that `add_table` would succeed, before anything else is written for the table. Raises UsageError."""
    _text_with_table(home, table_path, table)


def replace_table(home: Path, table_path: TablePath, table: Table) -> Path:
    """Replace the keys of an existing table; tables within it stay. Returns the file. Raises UsageError if the text
    cannot be changed safely."""
    return _edit(
        home,
        lambda text: _replace_values(text, table_path, table),
        lambda whole: {**table, **_subtables(whole, table_path)},
        table_path,
        _manual_edit_hint(table_path, table),
    )


def remove_table(home: Path, table_path: TablePath) -> Path:
    """Remove a table; tables within it stay. Returns the file. Raises UsageError if the text cannot be changed
    safely."""
    return _edit(
        home,
        lambda text: _remove_lines(text, table_path),
        lambda whole: _subtables(whole, table_path),
        table_path,
        f"remove [{'.'.join(table_path)}] from it",
    )


def store_secret(home: Path, name: str, secret: str) -> str:
    """Store a secret in a file of its own. Returns the reference to it. Raises UsageError."""
    path = home / SECRETS_DIR_NAME / name
    try:
        path.parent.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        if os.geteuid() == 0:  # the host may run as another user, who owns the install root
            owner = home.stat()
            os.chown(path.parent, owner.st_uid, owner.st_gid)
        write_atomically(path, f"{secret}\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint=f"ls -ld {path.parent}") from error
    return secret_reference(name)


def secret_reference(name: str) -> str:
    """Returns the reference to the secret with this name."""
    return f"file:{SECRETS_DIR_NAME}/{name}"


def delete_secret(home: Path, name: str) -> None:
    """Delete a secret's file, unless nanohost.toml still refers to it. Raises UsageError."""
    path = home / SECRETS_DIR_NAME / name
    try:
        if not _is_referenced(home, path):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be deleted: {error.strerror}", hint=f"rm {path}") from error


def _is_referenced(home: Path, path: Path) -> bool:
    """Whether nanohost.toml refers to this file, in any table and by any form of its path."""
    references = [text for text in _strings_in(tomllib.loads(_read(home / SETTINGS_FILE))) if text.startswith("file:")]
    return path.resolve() in [secret_file(home, text.removeprefix("file:")).resolve() for text in references]


def _strings_in(value: object) -> Iterator[str]:
    """Yields all strings in a table, and in the tables and lists within it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _strings_in(one)
    if isinstance(value, str):
        yield value


def to_toml(table_path: TablePath, table: Table) -> str:
    """Returns a table as TOML text."""
    return "".join([f"[{'.'.join(table_path)}]\n", *(_toml_line(key, value) for key, value in table.items())])


def write_atomically(path: Path, text: str) -> None:
    """Write a file atomically, readable only by its owner. If root writes it, the file keeps its owner."""
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
    """Change the text and write it, if afterwards the table has the expected content and nothing else has changed.
    Returns the file. Raises UsageError."""
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


# --- the parsed file ---


def _find_table(whole: Mapping[str, Any], table_path: TablePath) -> Mapping[str, Any] | None:
    """Returns the table; None if there is none. Raises ValueError if its path is not a table."""
    found: Any = whole
    for part in table_path:
        found = found.get(part)
        if found is None:
            return None
        if not isinstance(found, dict):
            raise ValueError(f"{part} is no table")
    return found  # type: ignore[no-any-return]


def _subtables(whole: Mapping[str, Any], table_path: TablePath) -> Table:
    """Returns the tables within a table."""
    return {key: value for key, value in (_find_table(whole, table_path) or {}).items() if isinstance(value, dict)}


def _replace_in(whole: Mapping[str, Any], table_path: TablePath, table: Table) -> Table:
    """Returns the whole content with this table replaced."""
    if not table_path:
        return table
    first, *others = table_path
    return {**whole, first: _replace_in(whole.get(first, {}), others, table)}


def _without_empty_tables(value: object) -> object:
    """Returns the value without empty tables, such as [channels] alone."""
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
    """Returns the lines with their ends."""
    return f"{text}\n".splitlines(keepends=True) if text and not text.endswith("\n") else text.splitlines(keepends=True)


def _find_headings(lines: Sequence[str], table_path: TablePath) -> list[int]:
    parts = r"\s*\.\s*".join(rf"[\"']?{re.escape(part)}[\"']?" for part in table_path)
    heading = re.compile(rf"\s*\[\s*{parts}\s*\]")
    return [number for number, line in enumerate(lines) if heading.match(line)]


def _table_span(lines: Sequence[str], table_path: TablePath) -> tuple[int, int]:
    """Returns the range of a table's lines after its heading: up to the next heading, without the comments above that.
    Raises ValueError if there is no such heading, or more than one."""
    [heading] = _find_headings(lines, table_path)
    first = heading + 1
    end = next((number for number in range(first, len(lines)) if _HEADING_PATTERN.match(lines[number])), len(lines))
    if end < len(lines):
        while end > first and not _KEY_PATTERN.match(lines[end - 1]):
            end -= 1
    return first, end


def _merge_lines(lines: Sequence[str], table: Table) -> Iterator[str]:
    """Yields the lines with the table's values. A line that has its value already stays, with its comment."""
    remaining = dict(table)
    before = _parse_lines(lines)
    for line in lines:
        found = _KEY_PATTERN.match(line)
        if found is None:
            yield line
        elif (key := found["key"]) in remaining:
            value = remaining.pop(key)
            yield line if key in before and before[key] == value else _toml_line(key, value)
    for key, value in remaining.items():
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
    # A one-line TOML string is a JSON string, except for DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")

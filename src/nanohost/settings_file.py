"""nanohost.toml, changed by a command: single keys of a table, and secrets in files of their own beside it.

Promises: what else stands in the file, comments and all, stays as it is; a file is there wholly or not at all, and for
its owner alone; where the text cannot be changed safely it is left alone, and said so.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from nanohost.errors import UsageError
from nanohost.settings import FILE

SECRETS = "secrets"
"""The folder of the install root that secrets are kept in."""
_HEADING = re.compile(r"\s*\[")


def put(home: Path, section: str, values: Mapping[str, str]) -> Path:
    """Have the table [section] hold these texts. Returns the file. Raises UsageError where only a person can do it."""
    path = (home / FILE).resolve()
    try:
        before = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        wanted = tomllib.loads(before)
        wanted[section] = {**wanted.get(section, {}), **values}
        after = _changed(before, section, values)
        if tomllib.loads(after) != wanted:
            raise ValueError("the text says it in another way")
        replace(path, after)
    except OSError as error:
        raise UsageError(f"{path} cannot be changed: {error.strerror}", hint=f"ls -l {path}") from error
    except (ValueError, TypeError) as error:
        lines = "; ".join(_line(key, value).strip() for key, value in values.items())
        raise UsageError(
            f"{path} is written in a way that no command can change safely, and was left as it is",
            hint=f"write below [{section}] in it: {lines}",
        ) from error
    return path


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
    return f"file:{SECRETS}/{name}"


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


def _changed(text: str, section: str, values: Mapping[str, str]) -> str:
    """The text with these lines in place of those that set the keys now, or right below the heading."""
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    heading = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]")
    first = next((at for at, line in enumerate(lines) if heading.match(line)), None)
    if first is None:
        gap = ["\n"] if lines else []
        return "".join([*lines, *gap, f"[{section}]\n", *(_line(key, value) for key, value in values.items())])
    end = next((at for at in range(first + 1, len(lines)) if _HEADING.match(lines[at])), len(lines))
    body = [line for line in lines[first + 1 : end] if not _sets(line, values)]
    new = [_line(key, value) for key, value in values.items()]
    return "".join([*lines[: first + 1], *new, *body, *lines[end:]])


def _sets(line: str, values: Mapping[str, str]) -> bool:
    found = re.match(r"\s*([A-Za-z0-9_-]+)\s*=", line)
    return found is not None and found[1] in values


def _line(key: str, value: str) -> str:
    # A TOML string of one line is a JSON string, but for DEL.
    return f"{key} = {json.dumps(value, ensure_ascii=False)}\n".replace("\x7f", "\\u007f")

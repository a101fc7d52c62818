"""Prepares a session's folders for a container: checks that they exist, and gives them to the container's user.

Promises: follows no link, and leaves correct folders alone. Never: creates a folder of the session except log/, or
changes in/ (the host's own, which the container can read).
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from nanohost.errors import SpawnError
from nanohost.runtimes.runtime_api import ContainerSpec
from nanohost.work.tree_removal import DIR_FLAGS, DirLevel, is_directory
from nanohost_protocol.layout import SessionLayout

CONTAINER_UID = 1000
"""The uid of a container if the host is root. Never 0; Claude's command line refuses to run unattended as root too."""

MAX_LEVELS = 100
"""The most nested folders that are given to a container's user; the walk keeps two descriptors open for each level."""

BLOCK_BYTES = 512
"""What st_blocks counts in, whatever the file system's own blocks are."""

MAX_LOG_BYTES = 1_000_000
"""A container log above this is emptied when the next container starts."""


def prepare_folders(spec: ContainerSpec, owner: int | None) -> SessionLayout:
    """Prepare the session's folders for a container. `owner`: the uid and gid to give them; None leaves the owner.

    Raises SpawnError if a folder is missing or has invalid content.
    """
    layout = SessionLayout(spec.session_dir)
    for folder in (layout.in_dir, layout.out_dir, layout.state_dir, layout.run_dir, spec.agent_dir):
        if not folder.is_dir():
            raise SpawnError(f"The folder {folder} of session {spec.session_id} is missing.", hint="nanohost verify")
    layout.log_dir.mkdir(mode=0o700, exist_ok=True)
    ensure_outbound_db(layout.outbound_db)
    if owner is not None:
        for path in (layout.out_dir, layout.outbound_db, layout.state_dir, spec.agent_dir):
            change_owner(path, owner)
    return layout


def ensure_outbound_db(path: Path) -> None:
    """Create outbound.db as an empty file if it is missing: it is mounted over itself, so it has to exist.

    Raises SpawnError if it is not a regular file: the engine would follow a link out of the session.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o640))
    except FileExistsError:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise SpawnError(f"{path} is not an ordinary file.", hint="move it away, then nanohost verify") from None


def change_owner(path: Path, owner: int) -> None:
    """Give `path` and all below it to `owner` (uid and gid), unless `path` is theirs already. Raises SpawnError."""
    if path.lstat().st_uid == owner:
        return
    if path.is_dir():
        _change_owner_below(path, owner)
    # Last, so that an interrupted walk is repeated.
    os.chown(path, owner, owner, follow_symlinks=False)


def _change_owner_below(path: Path, owner: int) -> None:
    """Give everything below a folder to `owner`. Containers may have filled it or write it now: names are not collected
    first, no link is followed, and entries that vanish are skipped."""
    levels = [DirLevel(str(path), os.open(path, DIR_FLAGS))]
    try:
        while levels:
            level = levels[-1]
            entry = level.next_entry()
            if entry is None:
                levels.pop().close()
                continue
            with suppress(FileNotFoundError):
                os.chown(entry.name, owner, owner, dir_fd=level.fd, follow_symlinks=False)
            if is_directory(entry):
                _descend(levels, entry.name, path, owner)
    finally:
        for level in levels:
            level.close()


def _descend(levels: list[DirLevel], name: str, path: Path, owner: int) -> None:
    if len(levels) == MAX_LEVELS:
        raise SpawnError(
            f"The folders in {path} lie more than {MAX_LEVELS} deep; it cannot be given to the container's user.",
            hint=f"chown -R {owner}:{owner} {shlex.quote(str(path))}, or remove them",
        )
    with suppress(FileNotFoundError, NotADirectoryError):
        levels.append(DirLevel(name, os.open(name, DIR_FLAGS, dir_fd=levels[-1].fd)))


def open_log(session_dir: Path) -> int:
    """Returns a descriptor that appends to the container's log, which is emptied if it is too long. The caller
    closes it."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(container_log_path(session_dir), flags, 0o640)
    if disk_usage_bytes(descriptor) > MAX_LOG_BYTES:
        os.ftruncate(descriptor, 0)
    return descriptor


def disk_usage_bytes(descriptor: int) -> int:
    """Returns how much disk a file takes: a container may reserve disk beyond the end of its log."""
    found = os.fstat(descriptor)
    return max(found.st_size, found.st_blocks * BLOCK_BYTES)


def container_log_path(session_dir: Path) -> Path:
    """Returns the path of a container's log."""
    return SessionLayout(session_dir).log_dir / "container.log"


LOG_TAIL_BYTES = 2000
TIMESTAMP_PATTERN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) ")
"""The time in UTC at the beginning of a line of the runner: see agent_runner.log."""


def log_tail(session_dir: Path, *, lines: int = 1) -> list[str]:
    """Returns the last lines that a container wrote, to explain why it ended, without control characters and times."""
    try:
        with container_log_path(session_dir).open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    printable = ("".join(c for c in line if c.isprintable()) for line in text.strip().splitlines())
    messages = (
        TIMESTAMP_PATTERN.sub("", line, count=1) if TIMESTAMP_PATTERN.match(line) else line for line in printable
    )
    return [line for line in messages if line.strip()][-lines:]

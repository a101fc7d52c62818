"""A session's folders just before a container gets them: complete, and owned by the user the container runs as.

Promises: no link is followed, and what is already right is left alone. It never creates a folder of the session
except log/, and never touches in/ (the host's own, readable as it is).
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from nanohost.errors import SpawnError
from nanohost.runtimes.port import ContainerSpec
from nanohost.work.tree_removal import DIR_FLAGS, DirLevel, is_directory
from nanohost_protocol.layout import SessionLayout

CONTAINER_UID = 1000
"""Who a container is when the host is root. Never 0: also Claude's command line refuses to work unattended as root."""

MAX_LEVELS = 100
"""Of folders in folders that are given to a container's user, each with two descriptors while the walk is below it."""

BLOCK_BYTES = 512
"""What st_blocks counts in, whatever the file system's own blocks are."""

MAX_LOG_BYTES = 1_000_000
"""A container log above this starts afresh with the next container."""


def prepare_folders(spec: ContainerSpec, owner: int | None) -> SessionLayout:
    """Make the session's folders fit for a container. `owner`: uid and gid they must have; None leaves that alone.

    Raises SpawnError when a folder is missing or something in it is not what it should be.
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
    """Make outbound.db as an empty file when it is missing: it is mounted over itself, so it has to exist.

    Raises SpawnError when something else lies there: a link would be followed by the engine, out of the session.
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
    # Last, so that an interrupted walk is walked again.
    os.chown(path, owner, owner, follow_symlinks=False)


def _change_owner_below(path: Path, owner: int) -> None:
    """A container may have filled it before, and another may be at work in it: names are taken as they come, no link is
    followed, and what is gone meanwhile is left out."""
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
    """A descriptor that appends to the container's log, emptied first when it has grown too long. Caller closes."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(container_log_path(session_dir), flags, 0o640)
    if disk_usage_bytes(descriptor) > MAX_LOG_BYTES:
        os.ftruncate(descriptor, 0)
    return descriptor


def disk_usage_bytes(descriptor: int) -> int:
    """What a file takes: a container may reserve disk behind the end of its log, where the length does not tell."""
    found = os.fstat(descriptor)
    return max(found.st_size, found.st_blocks * BLOCK_BYTES)


def container_log_path(session_dir: Path) -> Path:
    """Where a container's output is kept."""
    return SessionLayout(session_dir).log_dir / "container.log"


LOG_TAIL_BYTES = 2000
TIMESTAMP_PATTERN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) ")
"""When a line of the runner was said, in UTC, at its beginning: see agent_runner.log."""


def log_tail(session_dir: Path, *, lines: int = 1) -> list[str]:
    """The last lines a container wrote, for somebody who asks why it ended; what would move a cursor is left out, and
    so is when they were said."""
    try:
        with container_log_path(session_dir).open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    printable = ("".join(c for c in line if c.isprintable()) for line in text.strip().splitlines())
    said = (TIMESTAMP_PATTERN.sub("", line, count=1) if TIMESTAMP_PATTERN.match(line) else line for line in printable)
    return [line for line in said if line.strip()][-lines:]

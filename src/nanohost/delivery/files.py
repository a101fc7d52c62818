"""Describes, copies and removes files of the agent. A copy cannot be changed by the container while it is sent.

The container wrote the name: it must be a bare name, and files are opened without following links, also those of the
folders above. All functions block: keep them off the event loop.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from nanohost.text.translation import _
from nanohost.work.tree_removal import RemovalResult, open_dir, remove_step, remove_tree
from nanohost_protocol.layout import SessionLayout


def describe_file(layout: SessionLayout, out_id: str, name: str) -> str:
    """Returns a line about outbox/<row>/<name>: its size, and its path for the operator. Blocks for microseconds."""
    if not _is_bare_name(name) or not _is_bare_name(out_id):
        return _("a file whose name cannot be used")
    size = file_size(layout, out_id, name)
    if size is None:
        return _("{name}, which is not there", name=name)
    path = layout.out_dir / "outbox" / out_id / name
    return _(
        "{name}, {size} bytes, kept in {path}", name=name, size=size, path=path.relative_to(layout.root.parents[2])
    )


def file_size(layout: SessionLayout, out_id: str, name: str) -> int | None:
    """Returns the size of outbox/<row>/<name> in bytes; None if there is no plain file of that name."""
    try:
        with _open_plain_file(layout, out_id, name) as descriptor:
            return os.fstat(descriptor).st_size
    except (OSError, ValueError):  # ValueError: half a character, which no file system can be asked for
        return None


def copy_file(layout: SessionLayout, out_id: str, name: str, max_bytes: int) -> Path:
    """Copies outbox/<row>/<name> to where no container can reach it, until `delete_copy`.

    Raises OSError, also if the file is larger than `max_bytes` by now.
    """
    if not _is_bare_name(out_id):
        raise FileNotFoundError(errno.ENOENT, "it has no bare name")
    folder = _copy_folder(layout, out_id)
    remove_tree(folder)
    folder.mkdir(parents=True, mode=0o700)
    into = folder / "content"
    try:
        with _open_plain_file(layout, out_id, name) as descriptor, into.open("xb") as target:
            size = os.fstat(descriptor).st_size
            if size > max_bytes:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            _copy_bytes(descriptor, target, size)
    except ValueError as error:
        raise FileNotFoundError(errno.ENOENT, "its name cannot be used") from error
    return into


def clear_copy(layout: SessionLayout, out_id: str) -> None:
    """Empties the copy after sending. The rest of it marks that outbox/<row> is still to be removed."""
    if _is_bare_name(out_id):
        (_copy_folder(layout, out_id) / "content").unlink(missing_ok=True)


def delete_copy(layout: SessionLayout, out_id: str) -> None:
    """Deletes the copy, or what is left of it."""
    if _is_bare_name(out_id):
        remove_tree(_copy_folder(layout, out_id))


def list_copies(layout: SessionLayout) -> list[str]:
    """Returns the rows that have a copy, or the rest of one."""
    try:
        return [entry.name for entry in os.scandir(layout.root / "sending")]
    except OSError:
        return []


def remove_outbox_step(layout: SessionLayout, out_id: str) -> RemovalResult:
    """Removes files from outbox/<row>, which was sent, for a short time. Files that cannot be removed stay."""
    if not _is_bare_name(out_id):
        return RemovalResult.BLOCKED
    try:
        with open_dir(layout.out_dir, None) as out, open_dir("outbox", out) as outbox:
            return remove_step(out_id, outbox)
    except FileNotFoundError:
        return RemovalResult.REMOVED
    except (OSError, ValueError):  # ValueError: half a character, which no file system can be asked for
        return RemovalResult.BLOCKED


def sanitize_name(name: str) -> str:
    """Returns the name in a form that is safe for a platform to show."""
    return (
        re.sub(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]", "_", name).encode("utf-8", "replace").decode()
    )


def _copy_folder(layout: SessionLayout, out_id: str) -> Path:
    """Returns the folder of the copy, which is not mounted into a container."""
    return layout.root / "sending" / out_id


def _copy_bytes(descriptor: int, target: BinaryIO, size: int) -> None:
    """Copies at most `size` bytes: a container may keep appending to the file."""
    while size > 0 and (chunk := os.read(descriptor, min(size, 1024 * 1024))):
        target.write(chunk)
        size -= len(chunk)


def _is_bare_name(name: str) -> bool:
    return bool(name) and name not in {".", ".."} and "/" not in name and "\0" not in name and len(name) <= 255


@contextmanager
def _open_plain_file(layout: SessionLayout, out_id: str, name: str) -> Iterator[int]:
    """Opens a plain file, folder by folder: a link in place of a folder could lead out of the session."""
    if not _is_bare_name(name) or not _is_bare_name(out_id):
        raise FileNotFoundError(errno.ENOENT, "it has no bare name")
    with ExitStack() as stack:
        folder = stack.enter_context(open_dir(layout.out_dir, None))
        for each in ("outbox", out_id):
            folder = stack.enter_context(open_dir(each, folder))
        # Non-blocking: it may be a pipe that nobody writes to.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
        stack.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(errno.ENOENT, "it is no plain file")
        yield descriptor

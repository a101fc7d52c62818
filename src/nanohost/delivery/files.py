"""Files of the agent: in words, for platforms that cannot be sent one, and as a copy that nobody changes meanwhile.

The name was written by a container: it has to be a bare name, and what is there is looked at without following links,
those of the folders above it included. Everything here blocks: keep it off the event loop.
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
    """What to say of outbox/<row>/<name>: its size and where the operator finds it. Blocking, a few microseconds."""
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
    """The size of outbox/<row>/<name> in bytes; None where there is no plain file of that name."""
    try:
        with _open_plain_file(layout, out_id, name) as descriptor:
            return os.fstat(descriptor).st_size
    except (OSError, ValueError):  # ValueError: half a character, which no file system can be asked for
        return None


def copy_file(layout: SessionLayout, out_id: str, name: str, max_bytes: int) -> Path:
    """A copy of outbox/<row>/<name> that no container can reach, until `delete_copy`. Raises OSError, also when it is
    larger than that by now."""
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
    """It is sent: what is left of the copy says that outbox/<row> is still to be removed."""
    if _is_bare_name(out_id):
        (_copy_folder(layout, out_id) / "content").unlink(missing_ok=True)


def delete_copy(layout: SessionLayout, out_id: str) -> None:
    """The copy is not needed any more, nor what is left of it."""
    if _is_bare_name(out_id):
        remove_tree(_copy_folder(layout, out_id))


def list_copies(layout: SessionLayout) -> list[str]:
    """The rows of which there is a copy, or what is left of one."""
    try:
        return [entry.name for entry in os.scandir(layout.root / "sending")]
    except OSError:
        return []


def remove_outbox_step(layout: SessionLayout, out_id: str) -> RemovalResult:
    """Remove for a moment what is in outbox/<row>, which is sent. What cannot be removed stays, and does no harm."""
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
    """The name as a platform may show it."""
    return (
        re.sub(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]", "_", name).encode("utf-8", "replace").decode()
    )


def _copy_folder(layout: SessionLayout, out_id: str) -> Path:
    """Beside the folders that are mounted into a container."""
    return layout.root / "sending" / out_id


def _copy_bytes(descriptor: int, target: BinaryIO, size: int) -> None:
    """No more than it was when it was looked at: a container may write on and on."""
    while size > 0 and (chunk := os.read(descriptor, min(size, 1024 * 1024))):
        target.write(chunk)
        size -= len(chunk)


def _is_bare_name(name: str) -> bool:
    return bool(name) and name not in {".", ".."} and "/" not in name and "\0" not in name and len(name) <= 255


@contextmanager
def _open_plain_file(layout: SessionLayout, out_id: str, name: str) -> Iterator[int]:
    """A plain file, opened. Goes down folder by folder: a link in place of one would lead out of the session."""
    if not _is_bare_name(name) or not _is_bare_name(out_id):
        raise FileNotFoundError(errno.ENOENT, "it has no bare name")
    with ExitStack() as stack:
        folder = stack.enter_context(open_dir(layout.out_dir, None))
        for each in ("outbox", out_id):
            folder = stack.enter_context(open_dir(each, folder))
        # Without waiting: what looks like a file may be a pipe that nobody writes to.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
        stack.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(errno.ENOENT, "it is no plain file")
        yield descriptor

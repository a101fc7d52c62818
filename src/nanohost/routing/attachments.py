"""Fetches files that people send into the session's in/inbox/<message>/, before the agent gets the message.

Promises: a file there is complete, within the size limit, has a bare name, and was created by the host. The row tells
the agent which files could not be fetched. A chat waits at most FETCH_TIMEOUT_S for the files of a message.
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from nanohost.channel_api import Attachment, Channel, ChannelError, FetchesFiles, NotSent, RateLimited, Refused
from nanohost.clock import Clock
from nanohost.db.events import StoredEvent
from nanohost.errors import MailboxError
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.mailbox.session_dirs import attachment_dir, prepare_session_dir
from nanohost.model import Session
from nanohost.text.file_names import shorten_file_name
from nanohost.work.keyed_workers import is_cancelled
from nanohost.work.tree_removal import remove_tree
from nanohost_protocol.layout import WORKSPACE, SessionLayout
from nanohost_protocol.payloads import ChatIn, decode_in, encode
from nanohost_protocol.rows import NewMessageIn

FETCH_TIMEOUT_S = 30.0
"""Seconds for all files of one message. A file that is not complete by then is reported to the agent as not fetched."""
RETRY_DELAYS_S = (0.5, 2.0, 5.0)
"""Seconds between the four attempts, if the platform says that the file may be available later."""
MAX_REASON_CHARS = 200
MAX_NAME_CHARS = 60
"""Characters: 240 bytes at most; file systems allow 255."""

_log = structlog.get_logger()


class AttachmentFetcher:
    """Fetches the files of messages.

    `channels` is looked up by (channel type, instance). `is_containerized`: agents see their session as /workspace.
    """

    def __init__(
        self,
        *,
        mailboxes: Mailboxes,
        clock: Clock,
        channels: Mapping[tuple[str, str], Channel],
        max_bytes: int,
        is_containerized: bool = True,
        timeout_s: float = FETCH_TIMEOUT_S,
    ) -> None:
        self._mailboxes = mailboxes
        self._clock = clock
        self._channels = channels
        self._max_bytes = max_bytes
        self._is_containerized = is_containerized
        self._timeout_s = timeout_s

    async def add_files(self, session: Session, stored: StoredEvent, message: NewMessageIn) -> NewMessageIn:
        """Fetches the files and returns the row with a line for each of them.

        A repeated call fetches again, unless the row is already written.
        Raises MailboxError if the session's folder cannot be written.
        """
        if not stored.event.attachments:
            return message
        layout = self._mailboxes.layout(session)
        begun = await asyncio.to_thread(layout.inbound_db.exists)
        if begun and await self._mailboxes.read_inbound(session, lambda box: box.find(message.id)) is not None:
            return message
        try:
            return _append_lines(message, await self._fetch_all(layout, stored, attachment_dir(layout, message.id)))
        except OSError as error:
            raise MailboxError(
                f"session {session.id} of {session.group_folder}: {error}", hint="check the disk with df -h"
            ) from error

    async def _fetch_all(self, layout: SessionLayout, stored: StoredEvent, folder: Path) -> list[str]:
        """Returns the line for the agent about each file. Raises OSError."""
        files = stored.event.attachments
        names = unique_file_names(files)
        await asyncio.to_thread(_recreate_folder, layout, folder)
        channel = self._channels.get((stored.chat.channel_type, stored.chat.instance))
        problems = await asyncio.gather(
            *(self._fetch(channel, file, folder / name) for file, name in zip(files, names, strict=True))
        )
        seen = (WORKSPACE if self._is_containerized else layout.root) / folder.relative_to(layout.root)
        return [_file_line(seen / name, folder / name, why) for name, why in zip(names, problems, strict=True)]

    async def _fetch(self, channel: Channel | None, file: Attachment, target: Path) -> str | None:
        """Returns why the file could not be fetched; None if it was."""
        if channel is None:
            return "its channel is not connected"
        if not isinstance(channel, FetchesFiles):
            return "its channel cannot fetch files"
        if file.size is not None and file.size > self._max_bytes:
            return f"it is larger than {format_size(self._max_bytes)}"
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._fetch_with_retries(channel, file, target)
            return None
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            problem = "its channel broke off"
        except TimeoutError:
            problem = f"it did not come within {self._timeout_s:g} s"
        except Exception as error:  # a channel may raise what it should not; the message is delivered anyway
            problem = _error_text(error)
        _log.warning("attachment_fetch_failed", message=target.parent.name, reason=problem)
        _log.debug("attachment_fetch_failed", message=target.parent.name, file=target.name)
        await asyncio.to_thread(target.unlink, missing_ok=True)
        return problem

    async def _fetch_with_retries(self, channel: FetchesFiles, file: Attachment, target: Path) -> None:
        """Raises ChannelError, OSError, and any error that a channel should not raise."""
        for pause_s in (*RETRY_DELAYS_S, None):
            await asyncio.to_thread(_create_file, target)
            try:
                await channel.fetch(file, target, most_bytes=self._max_bytes)
                break
            except NotSent as error:
                if pause_s is None:
                    raise
                await self._clock.sleep(max(pause_s, error.retry_after_s if isinstance(error, RateLimited) else 0.0))
        if await asyncio.to_thread(_finish_file, target) > self._max_bytes:
            raise Refused(f"it is larger than {format_size(self._max_bytes)}")


def _error_text(error: Exception) -> str:
    """Returns the reason on one line for the agent, without paths of the host and without line breaks."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    text = str(error) if isinstance(error, ChannelError) else type(error).__name__
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())[:MAX_REASON_CHARS]


def unique_file_names(files: Sequence[Attachment]) -> list[str]:
    """Returns a bare, unique name for each file: the platform's name, else one made from its media type.

    Files that already have such names keep them, whatever other files there are. Pure.
    """
    names: list[str] = []
    for file in files:
        wish = _sanitize_file_name(file.name) or f"file{mimetypes.guess_extension(file.media_type) or ''}"
        name, number = wish, 2
        while name.lower() in {taken.lower() for taken in names}:
            short = shorten_file_name(wish, MAX_NAME_CHARS - len(f"-{number}"))
            stem, dot, end = short.rpartition(".")
            name = f"{stem}-{number}.{end}" if dot and stem else f"{short}-{number}"
            number += 1
        names.append(name)
    return names


def format_size(size: int) -> str:
    """Returns the size as people write it, such as "3.2 MB"."""
    for unit, bytes_ in (("MB", 1_000_000), ("kB", 1_000)):
        if size >= bytes_:
            return f"{size / bytes_:.3g} {unit}"
    return f"{size} bytes"


def _sanitize_file_name(name: str) -> str:
    """Returns the last part of a name, without characters that a shell, a file system or a reader may misread."""
    last = re.split(r"[/\\]", name)[-1]
    kept = re.sub(r"[^\w.+@ -]", "_", last).strip(" .-")
    return shorten_file_name(kept, MAX_NAME_CHARS)


def _recreate_folder(layout: SessionLayout, folder: Path) -> None:
    """Creates the folder empty; removes files that a crash left, which no row mentions."""
    prepare_session_dir(layout)
    folder.parent.mkdir(exist_ok=True)
    remove_tree(folder)
    folder.mkdir()
    for each in (folder.parent, folder):
        each.chmod(0o755)


def _create_file(path: Path) -> None:
    """Creates an empty file that the container can read, in place of an existing one."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644))
    path.chmod(0o644)


def _finish_file(path: Path) -> int:
    """Makes the file readable for the container, whatever mode the channel gave it, and returns its size."""
    path.chmod(0o644)
    return path.lstat().st_size


def _file_line(visible_path: Path, host_path: Path, problem: str | None) -> str:
    if problem is not None:
        return f"[file: {host_path.name} could not be fetched: {problem}]"
    return f"[file: {host_path.name}, {format_size(host_path.lstat().st_size)}, at {visible_path}]"


def _append_lines(message: NewMessageIn, lines: Sequence[str]) -> NewMessageIn:
    content = decode_in(message.kind, message.content)
    assert isinstance(content, ChatIn), "files come with what people write"
    text = "\n".join([*([content.text] if content.text else []), *lines])
    return replace(message, content=encode(replace(content, text=text)))

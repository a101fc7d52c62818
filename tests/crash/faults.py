"""Faults of the environment of a host: its disk, its engine."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from docker.utils import kwargs_from_env

from nanohost.testing.time_limits import scaled_timeout

REMOUNT_TIMEOUT_S, REMOUNT_PAUSE_S = 5.0, 0.1
ENGINE = "unix:///var/run/docker.sock"


class FaultUnavailable(Exception):
    """This user or this machine cannot cause the fault."""


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A separate disk for a folder. Raises FaultUnavailable where this user may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        raise FaultUnavailable("only root may mount a small disk")
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "nanohost-small-disk", str(folder)]
    mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        raise FaultUnavailable(mounted.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    """`how`: ro or rw. Blocking: a process killed a moment ago may still have files open. Raises FaultUnavailable."""
    ends = time.monotonic() + scaled_timeout(REMOUNT_TIMEOUT_S)
    while time.monotonic() < ends:
        done = subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], capture_output=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(REMOUNT_PAUSE_S)
    raise FaultUnavailable(f"{folder} cannot be mounted {how}")


@contextmanager
def fill_disk(folder: Path) -> Iterator[None]:
    """No byte of its disk is free while entered."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(b"\1" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def block_writes(pids: Iterable[int]) -> Iterator[None]:
    """These processes, and those they start meanwhile, can write to no file while entered."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            if Path(f"/proc/{pid}").exists():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


class EngineProxy:
    """A socket in front of the engine's that can be shut: open connections are closed, new ones refused."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self._is_open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"unix://{self._path}"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[EngineProxy]:
        await self.open()
        try:
            yield self
        finally:
            await self.close()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._handle_client, str(self._path))

    async def close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._path.unlink(missing_ok=True)
        for writer in self._is_open:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)

    def _handle_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = kwargs_from_env().get("base_url") or ENGINE
        theirs, ours = await asyncio.open_unix_connection(url.removeprefix("unix://").removeprefix("http+unix://"))
        self._is_open |= {writer, ours}
        try:
            await asyncio.gather(_pump(reader, ours), _pump(theirs, writer))
        finally:
            self._is_open -= {writer, ours}
            writer.close()
            ours.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()
    except OSError:
        sink.transport.abort()

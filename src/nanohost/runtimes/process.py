# /// script
# dependencies = []
# [tool.nanohost]
# kind = "runtime"
# api = 1
# auto = 30
# ///
"""Runs containers as plain processes of this user: no isolation at all, for machines that offer nothing better.

The runner uses the session's own files through a short link, because a Unix socket's path has at most 107 bytes and a
session's path may be longer. The runner and its child processes form one process group, which is killed when the runner
ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nanohost.errors import RuntimeUnavailable, SpawnError
from nanohost.runtimes.launch import spawn
from nanohost.runtimes.process_base import ProcessContainer, ProcessRuntimeBase
from nanohost.runtimes.procfs import ProcessId, ProcessInfo, find_processes, read_start_ticks, send_signal
from nanohost.runtimes.runner_command import (
    RUNNER_ARGUMENTS,
    RUNNER_PACKAGES,
    SYSTEM_PATH,
    ContainerIdentity,
    identity_arguments,
    package_folder,
    parse_identity,
    runner_environment,
)
from nanohost.runtimes.runtime_api import ContainerSpec, Isolation, RuntimeContext
from nanohost.runtimes.session_folders import open_log, prepare_folders
from nanohost_protocol.layout import EXTENSIONS, SessionLayout

UNSANDBOXED_WARNING = (
    "The agent runs as a plain process: it can read and change everything you can. "
    "Install Docker or bubblewrap to keep it in its own workspace."
)
"""The warning to show before the first agent runs this way."""


GROUP_CHECKS, GROUP_CHECK_INTERVAL_S = 20, 0.005
"""At most a tenth of a second: if init reaps no orphans, dead processes stay in the group."""


async def create(context: RuntimeContext) -> ProcessRuntime:
    """Returns a runtime that works on this machine. Raises RuntimeUnavailable."""
    runtime = ProcessRuntime(install=context.install)
    await asyncio.to_thread(runtime.check)
    return runtime


def reopen(install: str) -> ProcessRuntime:
    """Returns a runtime that finds and stops containers, and starts none."""
    return ProcessRuntime(install=install)


class ProcessRuntime(ProcessRuntimeBase):
    """Starts runners as processes. `command` replaces `python -m agent_runner` in tests."""

    name = "process"
    isolation = Isolation.NONE

    def __init__(self, *, install: str, command: Sequence[str] | None = None) -> None:
        super().__init__(install=install)
        self._command = command

    def check(self) -> None:
        """Check the runner's packages and the folder of links. Raises RuntimeUnavailable if the runner is not installed
        or the folder is not ours."""
        self._python_path()
        _links_dir()

    def _launch(self, spec: ContainerSpec) -> ProcessContainer:
        identity = ContainerIdentity.from_spec(spec)
        layout = prepare_folders(spec, None)
        _link_agent_dir(layout, spec.agent_dir)
        workspace = short_link(spec.session_dir)
        path = f"{Path(sys.executable).parent}:{SYSTEM_PATH}"
        environment = {
            **runner_environment(spec, workspace=workspace, extensions=_extensions_dir(spec.extensions), path=path),
            "NANOHOST_WORKSPACE": str(workspace),
            "PYTHONPATH": self._python_path(),
        }
        command = self._command or (sys.executable, *RUNNER_ARGUMENTS)
        log = open_log(spec.session_dir)
        try:
            pid = spawn(
                (*command, *identity_arguments(self.install, identity)),
                environment=environment,
                log=log,
                cwd=spec.agent_dir,
            )
        finally:
            os.close(log)
        return ProcessContainer(
            identity=identity, processes=(ProcessId(pid=pid, start_ticks=read_start_ticks(pid) or 0),)
        )

    def _python_path(self) -> str:
        if self._command is not None:
            return ""
        return os.pathsep.join(dict.fromkeys(str(package_folder(name).parent) for name in RUNNER_PACKAGES))

    def _find_running(self) -> list[ProcessContainer]:
        return [
            ProcessContainer(identity=identity, processes=(process.id,))
            for process in find_processes(self.install)
            if (identity := parse_identity(process.arguments, self.install)) and _is_runner(process)
        ]

    def _signal(self, child: ProcessContainer, number: signal.Signals) -> None:
        send_signal(child.leader, number)

    def _before_reaping(self, child: ProcessContainer) -> None:
        # While a process of the group lives, the kernel does not reuse the number: only our own processes are killed.
        if read_start_ticks(child.leader.pid) in (None, child.leader.start_ticks):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.leader.pid, signal.SIGKILL)

    def _clean_up(self, child: ProcessContainer | None) -> None:
        if child is not None:
            _wait_for_group(child.leader.pid)
            return
        for link in _links_dir().iterdir():
            if link.is_symlink() and not link.exists():
                link.unlink(missing_ok=True)


def _wait_for_group(number: int) -> None:
    """Wait until the killed processes of a group are gone, which takes a millisecond or two."""
    with suppress(ProcessLookupError, PermissionError):
        for _ in range(GROUP_CHECKS):
            os.killpg(number, 0)
            time.sleep(GROUP_CHECK_INTERVAL_S)


def _is_runner(process: ProcessInfo) -> bool:
    """Whether a process is a plain runner: not in a sandbox, no sandbox's monitor, and the leader of its session, so no
    fork of a runner."""
    if len(process.pids) != 1 or Path(process.arguments[0]).name == "bwrap":
        return False
    try:
        return os.getsid(process.id.pid) == process.id.pid
    except ProcessLookupError:
        return False


def _extensions_dir(extensions: Sequence[Path]) -> Path:
    """Returns the parent folder of the extensions."""
    return extensions[0].parent if extensions else EXTENSIONS


def _links_dir() -> Path:
    """Returns the folder of short links; creates it if missing. Raises RuntimeUnavailable if another user can
    use it."""
    folder = Path(tempfile.gettempdir(), f"nanohost-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise RuntimeUnavailable(
            f"{folder} is not a private folder of this user.", hint=f"rm -r {folder}, as whoever owns it"
        )
    return folder


def short_link(session_dir: Path) -> Path:
    """Returns a link to the session's folder with a path of some 30 bytes; creates it if missing. Raises
    RuntimeUnavailable, SpawnError."""
    name = hashlib.sha256(os.fsencode(session_dir)).hexdigest()
    # Eight digits are nearly always unique; two folders with the same eight must not share a link.
    for digits in (8, 16, 64):
        link = _links_dir() / name[:digits]
        with suppress(FileExistsError):
            link.symlink_to(session_dir)
        if link.readlink() == session_dir:
            return link
    raise SpawnError(f"No free link to {session_dir} in {_links_dir()}.", hint=f"rm -r {_links_dir()}")


def _link_agent_dir(layout: SessionLayout, agent_dir: Path) -> None:
    """Link the agent group's folder into the session, where a container has it mounted. Raises SpawnError."""
    link = layout.agent_dir
    if link.is_symlink() and link.readlink() == agent_dir:
        return
    if link.is_symlink():
        link.unlink()
    try:
        link.symlink_to(agent_dir)
    except FileExistsError:
        raise SpawnError(f"{link} is in the way of a link to {agent_dir}.", hint=f"move {link} away") from None

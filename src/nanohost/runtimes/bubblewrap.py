# /// script
# dependencies = []
# [tool.nanohost]
# kind = "runtime"
# api = 1
# auto = 20
# ///
"""Runs containers in bubblewrap sandboxes: own file system, no network, no capabilities. Works for root and for users.

A sandbox looks like a container from inside: /workspace with in/ read-only, the rest of the system read-only, uid 1000
if the host is root. Outside, the runner has the host's own uid. If that is root, it has no capability, but the kernel
still lets it write root's files in /proc/sys: so all of /proc is mounted read-only.

Three processes make one container: the monitor outside (bwrap), the first process of the sandbox's own process-id
namespace (bwrap again; the sandbox dies with it, and only with it), and the runner. The monitor ends with the runner;
a sandbox without a monitor is a leftover of a dead container. bwrap's --die-with-parent is not used, because a
restarted host adopts its containers. The environment is inherited and not set by --setenv, because every user of the
machine can read a program's arguments.

A control group limits memory, processes and CPU if we are root; otherwise prlimit limits data per process and processes
in the sandbox's user namespace, and CPU is not limited.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path

from nanohost.errors import NanohostError, RuntimeUnavailable, SpawnError
from nanohost.runtimes.cgroup import ControlGroups
from nanohost.runtimes.launch import spawn
from nanohost.runtimes.process_base import ProcessContainer, ProcessRuntimeBase
from nanohost.runtimes.procfs import ProcessId, ProcessInfo, find_processes, read_start_ticks, send_signal
from nanohost.runtimes.runner_command import (
    RUNNER_ARGUMENTS,
    RUNNER_PACKAGES,
    SYSTEM_PATH,
    ContainerIdentity,
    container_name,
    container_name_prefix,
    identity_arguments,
    package_folder,
    parse_identity,
    runner_environment,
)
from nanohost.runtimes.runtime_api import ContainerSpec, Isolation, Limits, RuntimeContext
from nanohost.runtimes.sandbox import (
    SANDBOX_PACKAGES_DIR,
    SandboxUser,
    file_arguments,
    interpreter_prefixes,
    isolation_arguments,
    session_arguments,
    system_arguments,
)
from nanohost.runtimes.seccomp import bpf_filter, filter_digest
from nanohost.runtimes.session_folders import log_tail, open_log, prepare_folders
from nanohost.text.translation import lazy_gettext
from nanohost_protocol.layout import WORKSPACE, SessionLayout

SETUP_TIMEOUT_S = 10.0
"""How long bubblewrap may take to set a sandbox up; it takes about 10 ms."""

PROBE_HINT = "bwrap --unshare-all --ro-bind / / true shows what this machine allows"
PROBE_TIMEOUT_S = 5.0

JS_ENGINE_RESERVED_BYTES = 1024**3
"""Address space that a JavaScript engine reserves and never uses; prlimit counts it as data (measured: over 512 MiB).
"""

# Joins each control group before "--", then executes the program after it.
_JOIN_CGROUP_SCRIPT = 'while [ "$1" != -- ]; do echo 0 > "$1" || exit 125; shift; done; shift; exec "$@"'

# Reports that the sandbox is set up, then executes the runner with its output in the log.
_READY_SCRIPT = 'echo up; exec "$@" >&2'


async def create(context: RuntimeContext) -> BubblewrapRuntime:
    """Returns a runtime that works on this machine. Raises RuntimeUnavailable."""
    runtime = BubblewrapRuntime(install=context.install)
    await asyncio.to_thread(runtime.check)
    return runtime


def reopen(install: str) -> BubblewrapRuntime:
    """Returns a runtime that finds and stops containers, and starts none."""
    return BubblewrapRuntime(install=install)


class BubblewrapRuntime(ProcessRuntimeBase):
    """Starts runners in bubblewrap sandboxes. `command` replaces `python -m agent_runner` in tests."""

    name = "bubblewrap"
    isolation = Isolation.SANDBOX

    def __init__(self, *, install: str, command: Sequence[str] | None = None) -> None:
        super().__init__(install=install)
        self._command = command
        self.system_calls = filter_digest()
        self._control_groups = ControlGroups()

    def check(self) -> None:
        """Run an empty Python program in a sandbox. Raises RuntimeUnavailable with bubblewrap's error message."""
        program = _find_bwrap()
        self._package_arguments()
        system = system_arguments(interpreter_prefixes())
        nothing = (sys.executable, "-I", "-S", "-c", "")
        with ExitStack() as stack:
            files, keep = _file_descriptors(stack, SandboxUser.current())
            try:
                probe = subprocess.run(  # noqa: S603 - our own arguments
                    [program, *isolation_arguments(SandboxUser.current()), *system, *files, "--", *nothing],
                    capture_output=True,
                    stdin=subprocess.DEVNULL,
                    env={},
                    pass_fds=keep,
                    timeout=PROBE_TIMEOUT_S,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise _unavailable_error(str(error)) from error
        if probe.returncode != 0:
            raise _unavailable_error(probe.stderr.decode(errors="replace").strip())

    def _launch(self, spec: ContainerSpec) -> ProcessContainer:
        # Root in a sandbox has no capability to write the files of other users.
        prepare_folders(spec, 0 if os.geteuid() == 0 else None)
        group = container_name(self.install, ContainerIdentity.from_spec(spec))
        try:
            with ExitStack() as stack:
                return self._start_sandbox(spec, self._control_groups.make(group, spec.limits), stack)
        except NanohostError:
            self._control_groups.remove(group)
            raise

    def _start_sandbox(self, spec: ContainerSpec, groups: Sequence[Path], stack: ExitStack) -> ProcessContainer:
        reading, writing = os.pipe()
        status_pipe = stack.enter_context(FileIO(reading))
        files, keep = _file_descriptors(stack, SandboxUser.current())
        with ExitStack() as closed_after_start:
            closed_after_start.callback(os.close, writing)
            # A second descriptor of the pipe, because bubblewrap closes the one that it reports to.
            ready_fd = os.dup(writing)
            closed_after_start.callback(os.close, ready_fd)
            log = open_log(spec.session_dir)
            closed_after_start.callback(os.close, log)
            monitor = spawn(
                [
                    *_join_cgroup_command(groups),
                    *(_find_bwrap(), "--info-fd", str(writing)),
                    *isolation_arguments(SandboxUser.current()),
                    *system_arguments(interpreter_prefixes()),
                    *self._package_arguments(),
                    *session_arguments(SessionLayout(spec.session_dir), spec.agent_dir, spec.extensions),
                    *files,
                    *("--", "/bin/sh", "-c", _READY_SCRIPT, "sh"),
                    *_prlimit_command(spec.limits, has_cgroup=bool(groups)),
                    *(self._command or (sys.executable, *RUNNER_ARGUMENTS)),
                    *identity_arguments(self.install, ContainerIdentity.from_spec(spec)),
                ],
                environment=self._environment(spec),
                log=log,
                stdout=ready_fd,
                inherited_fds=(writing, *keep),
            )
        return _wait_until_ready(status_pipe, monitor, spec)

    def _environment(self, spec: ContainerSpec) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{SYSTEM_PATH}"
        return {
            **runner_environment(spec, workspace=WORKSPACE, path=path),
            "PYTHONPATH": str(SANDBOX_PACKAGES_DIR),
        }

    def _package_arguments(self) -> list[str]:
        if self._command is not None:
            return []
        return [
            word
            for name in RUNNER_PACKAGES
            for word in ("--ro-bind", str(package_folder(name)), f"{SANDBOX_PACKAGES_DIR}/{name}")
        ]

    def _find_running(self) -> list[ProcessContainer]:
        return [
            ProcessContainer(identity=identity, processes=(first.id, monitor.id))
            for first, monitor in self._sandboxes()
            # A process inside cannot change the monitor, so its arguments can be trusted.
            if monitor and (identity := parse_identity(monitor.arguments, self.install))
        ]

    def _sandboxes(self) -> list[tuple[ProcessInfo, ProcessInfo | None]]:
        """Returns the first process of each sandbox, and its monitor. None as monitor: the runner has ended, and other
        processes are left."""
        bwraps = {each.id.pid: each for each in self._own_processes() if Path(each.arguments[0]).name == "bwrap"}
        firsts = [each for each in bwraps.values() if len(each.pids) == 2 and each.pids[-1] == 1]
        return [(first, bwraps.get(first.parent_pid)) for first in firsts]

    def _own_processes(self) -> list[ProcessInfo]:
        return list(find_processes(self.install))

    def _signal(self, child: ProcessContainer, number: signal.Signals) -> None:
        if number == signal.SIGKILL:
            send_signal(child.leader, number)
            return
        # The first process of a namespace ignores signals without a handler; the runner is its child, with pid 2.
        for process in self._own_processes():
            if process.parent_pid == child.leader.pid and process.pids[-1] == 2:
                send_signal(process.id, number)

    def _before_reaping(self, child: ProcessContainer) -> None:
        # The monitor ends with the runner, the sandbox only with the last process in it.
        send_signal(child.leader, signal.SIGKILL)

    def _clean_up(self, child: ProcessContainer | None) -> None:
        if child is not None:
            self._control_groups.remove(container_name(self.install, child.identity))
            return
        for first, monitor in self._sandboxes():
            if monitor is None and parse_identity(first.arguments, self.install):
                send_signal(first.id, signal.SIGKILL)
        self._control_groups.remove_empty(container_name_prefix(self.install))


def _find_bwrap() -> str:
    program = shutil.which("bwrap")
    if program is None:
        raise RuntimeUnavailable(lazy_gettext("bubblewrap is not installed."), hint="apt-get install bubblewrap")
    return program


def _unavailable_error(detail: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        lazy_gettext("bubblewrap cannot make a sandbox here: {cause}", cause=detail),
        hint=lazy_gettext(
            "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1), or use Docker"
        ),
    )


def _join_cgroup_command(groups: Sequence[Path]) -> list[str]:
    return ["/bin/sh", "-c", _JOIN_CGROUP_SCRIPT, "sh", *map(str, groups), "--"] if groups else []


def _prlimit_command(limits: Limits, *, has_cgroup: bool) -> list[str]:
    """Returns the prlimit command for the runner. It runs inside the sandbox, so that processes are counted in the
    sandbox's user namespace."""
    arguments = ["prlimit", "--core=0"]
    if not has_cgroup:
        arguments += [f"--nproc={limits.pids}", f"--data={limits.memory_bytes + JS_ENGINE_RESERVED_BYTES}"]
    return [*arguments, "--"]


def _file_descriptors(stack: ExitStack, user: SandboxUser) -> tuple[list[str], tuple[int, ...]]:
    """Returns the arguments for files that are passed as descriptors, and the descriptors, closed with the stack."""
    passwd, group = _memory_file(stack, user.passwd.encode()), _memory_file(stack, user.group.encode())
    program = bpf_filter()
    if program is None:
        return file_arguments(passwd, group, None), (passwd, group)
    seccomp = _memory_file(stack, program)
    return file_arguments(passwd, group, seccomp), (passwd, group, seccomp)


def _memory_file(stack: ExitStack, content: bytes) -> int:
    descriptor = os.memfd_create("nanohost")
    stack.callback(os.close, descriptor)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _wait_until_ready(status_pipe: FileIO, monitor: int, spec: ContainerSpec) -> ProcessContainer:
    """Wait until the sandbox is set up. Raises SpawnError with bubblewrap's message; then nothing is left of it."""
    report = b""
    while not report.endswith(b"up\n"):
        ready, _, _ = select.select([status_pipe], [], [], SETUP_TIMEOUT_S)
        piece = status_pipe.read(4096) if ready else b""
        if not piece:
            _kill_sandbox(monitor, report)
            message = " ".join(log_tail(spec.session_dir))
            raise SpawnError(
                lazy_gettext("No sandbox for session {session}: {cause}", session=spec.session_id, cause=message),
                hint="bwrap --unshare-all --ro-bind / / true shows what this machine allows",
            )
        report += piece
    return ProcessContainer(
        identity=ContainerIdentity.from_spec(spec), processes=(_process_id(_child_pid(report)), _process_id(monitor))
    )


def _process_id(pid: int) -> ProcessId:
    # 0 ticks matches no process: this one ended before its start time was read.
    return ProcessId(pid=pid, start_ticks=read_start_ticks(pid) or 0)


def _child_pid(report_bytes: bytes) -> int:
    report = json.loads(report_bytes.removesuffix(b"up\n"))
    return int(report["child-pid"])


def _kill_sandbox(monitor: int, report_bytes: bytes) -> None:
    with suppress(ValueError, KeyError, ProcessLookupError):
        os.kill(_child_pid(report_bytes), signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(monitor, signal.SIGKILL)
    os.waitpid(monitor, 0)

"""Containers made of namespaces by bubblewrap: own file system, no network, no capabilities, for root and for users.

Inside it looks like a container: /workspace with in/ read-only, the rest of the system read-only, uid 1000 when the
host is root. Outside the runner still has the host's own uid. When that is root it is root without any capability,
which the kernel nevertheless lets write to root's files in /proc/sys: so all of /proc is mounted read-only.

Three processes make one container: the monitor outside (bwrap), the first process of the sandbox's own process-id
namespace (bwrap again; the sandbox dies with it, and only with it), and the runner. bwrap's --die-with-parent is not
used: a restarted host adopts its containers.

Memory and processes are limited by a control group where we are root; otherwise by what prlimit offers, which is a
limit on data per process and on the processes in the sandbox's user namespace, and no limit on CPU.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from nanohost.errors import RuntimeUnavailable, SpawnError
from nanohost.runtimes.cgroup import ControlGroups
from nanohost.runtimes.children import Child, ChildRuntime
from nanohost.runtimes.folders import CONTAINER_UID, last_words, open_log, prepare_folders
from nanohost.runtimes.launch import spawn
from nanohost.runtimes.port import ContainerSpec, Isolation, Limits
from nanohost.runtimes.procfs import ProcessId, Sighting, open_process, processes_with
from nanohost.runtimes.runner_command import (
    PACKAGES,
    RUNNER,
    SYSTEM_PATH,
    Identity,
    identity_arguments,
    identity_in,
    package_folder,
    runner_environment,
)
from nanohost.runtimes.sandbox_files import container_name
from nanohost.runtimes.seccomp import sandbox_filter
from nanohost_protocol.layout import WORKSPACE, SessionLayout

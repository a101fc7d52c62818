"""One container as Docker is asked to create it: mounts, limits and every right it does not get.

Pure: a spec in, the arguments of one API call out. What is denied here costs nothing at start.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docker.types import HostConfig, LogConfig, Mount

from nanohost.model import LeaseId, SessionId
from nanohost.runtimes.folders import CONTAINER_UID
from nanohost.runtimes.port import Container, ContainerSpec, Limits
from nanohost.runtimes.runner_command import ContainerIdentity, container_name, identity_arguments, runner_environment
from nanohost_protocol.layout import EXTENSIONS, WORKSPACE, SessionLayout

LABEL_INSTALL = "nanohost.install"
LABEL_SESSION = "nanohost.session"
LABEL_LEASE = "nanohost.lease"
LABEL_FOLDER = "nanohost.folder"

ENTRYPOINT = ("/opt/agent/bin/python", "-P", "-m", "agent_runner")

_PATH = "/opt/agent/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_TMP_BYTES = 1024**3
"""Ceiling of /tmp. What lies there also counts as the container's memory."""


def container_user() -> tuple[int, int]:
    """uid and gid of every container: the host's own, or 1000 when that is root."""
    if os.geteuid() == 0:
        return CONTAINER_UID, CONTAINER_UID
    return os.getuid(), os.getgid()


def labels(install: str, spec: ContainerSpec) -> dict[str, str]:
    """What a container says about itself to a host that never saw it."""
    return {
        LABEL_INSTALL: install,
        LABEL_SESSION: spec.session_id,
        LABEL_LEASE: spec.lease,
        LABEL_FOLDER: str(spec.session_dir),
    }


def container_from_labels(engine_id: str, found_labels: Mapping[str, str]) -> Container:
    """The container with these labels."""
    return Container(
        session_id=SessionId(found_labels.get(LABEL_SESSION, "")),
        lease=LeaseId(found_labels.get(LABEL_LEASE, "")),
        state={"id": engine_id, "folder": found_labels.get(LABEL_FOLDER, "")},
    )


def create_arguments(
    spec: ContainerSpec, *, install: str, image: str, command: Sequence[str] | None, seccomp: str | None
) -> dict[str, Any]:
    """Keyword arguments for APIClient.create_container. `command` replaces the image's entry point.

    `seccomp`: the system call filter's profile, its content (Docker) or its path (Podman); None: the engine's own.
    """
    identity = ContainerIdentity.from_spec(spec)
    uid, gid = container_user()
    entrypoint, *arguments = command or ENTRYPOINT
    return {
        "image": image,
        "name": container_name(install, identity),
        "entrypoint": [entrypoint],
        "command": [*arguments, *identity_arguments(install, identity)],
        "user": f"{uid}:{gid}",
        "working_dir": str(SessionLayout(WORKSPACE).agent_dir),
        "environment": runner_environment(spec, workspace=WORKSPACE, path=_PATH),
        "labels": labels(install, spec),
        "hostname": "nanohost",
        "host_config": _host_config(spec.limits, _mounts(spec), seccomp),
    }


def _host_config(limits: Limits, mounts: list[Mount], seccomp: str | None) -> HostConfig:
    # The version only gates features older than any engine in use; docker-py wants to be told one.
    return HostConfig(
        version="1.41",
        mounts=mounts,
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges", *(() if seccomp is None else (f"seccomp={seccomp}",))],
        read_only=True,
        tmpfs={"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={_TMP_BYTES}"},  # noqa: S108 - inside the container
        mem_limit=limits.memory_bytes,
        memswap_limit=limits.memory_bytes,
        nano_cpus=int(limits.cpus * 1e9),
        pids_limit=limits.pids,
        init=True,
        log_config=LogConfig(type="json-file", config={"max-size": "1m", "max-file": "2"}),
    )


def _mounts(spec: ContainerSpec) -> list[Mount]:
    """Folders, never a database alone; outbound.db once more over itself, so that no link can take its place."""
    host, inside = SessionLayout(spec.session_dir), SessionLayout(WORKSPACE)
    return [
        _bind(host.in_dir, inside.in_dir, read_only=True),
        _bind(host.out_dir, inside.out_dir),
        _bind(host.outbound_db, inside.outbound_db),
        _bind(host.state_dir, inside.state_dir),
        _bind(host.run_dir, inside.run_dir, read_only=True),
        _bind(spec.agent_dir, inside.agent_dir),
        *(_bind(one, EXTENSIONS / one.name, read_only=True) for one in spec.extensions),
    ]


def _bind(source: Path, target: Path, *, read_only: bool = False) -> Mount:
    # As a mount and not as a volume string: a missing source is then an error instead of a new folder of root's.
    return Mount(target=str(target), source=str(source), type="bind", read_only=read_only)

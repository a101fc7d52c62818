"""Calls a Docker engine to start, list, signal and remove containers. The calls block and run in threads; no state is
kept.

A look-up is one list request by label (some 7 ms for 30 containers); only dead containers are inspected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import APIError, NotFound
from docker.types import HostConfig, LogConfig, Mount

from nanohost.errors import RuntimeUnavailable, SpawnError
from nanohost.model import LeaseId, SessionId
from nanohost.runtimes.docker_engine import engine_errors
from nanohost.runtimes.runner_command import ContainerIdentity, container_name, identity_arguments, runner_environment
from nanohost.runtimes.runtime_api import Container, ContainerSpec, Exited, Limits
from nanohost.runtimes.seccomp import seccomp_profile
from nanohost.runtimes.session_folders import CONTAINER_UID, open_log, prepare_folders
from nanohost.text.translation import gettext_noop
from nanohost_protocol.layout import EXTENSIONS, WORKSPACE, SessionLayout

LABEL_INSTALL = "nanohost.install"
LABEL_SESSION = "nanohost.session"
LABEL_LEASE = "nanohost.lease"
LABEL_FOLDER = "nanohost.folder"

ENTRYPOINT = ("/opt/agent/bin/python", "-P", "-m", "agent_runner")

_PATH = "/opt/agent/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_TMP_BYTES = 1024**3
"""The size limit of /tmp. Its files also count as the container's memory."""


def container_user() -> tuple[int, int]:
    """Returns the uid and gid of every container: the host's own, or 1000 if that is root."""
    if os.geteuid() == 0:
        return CONTAINER_UID, CONTAINER_UID
    return os.getuid(), os.getgid()


def labels(install: str, spec: ContainerSpec) -> dict[str, str]:
    """Returns the labels by which a later host identifies the container."""
    return {
        LABEL_INSTALL: install,
        LABEL_SESSION: spec.session_id,
        LABEL_LEASE: spec.lease,
        LABEL_FOLDER: str(spec.session_dir),
    }


def container_from_labels(engine_id: str, found_labels: Mapping[str, str]) -> Container:
    """Returns the container with these labels."""
    return Container(
        session_id=SessionId(found_labels.get(LABEL_SESSION, "")),
        lease=LeaseId(found_labels.get(LABEL_LEASE, "")),
        state={"id": engine_id, "folder": found_labels.get(LABEL_FOLDER, "")},
    )


def create_arguments(
    spec: ContainerSpec, *, install: str, image: str, command: Sequence[str] | None, seccomp: str | None
) -> dict[str, Any]:
    """Returns the keyword arguments for APIClient.create_container. `command` replaces the image's entry point.

    `seccomp`: the profile of the system call filter, as content (Docker) or path (Podman); None: the engine's default.
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
    # docker-py requires a version, and uses it only for features older than any engine in use.
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
    """Returns the mounts. Folders are mounted, never a database alone; outbound.db is also mounted over itself, so that
    no link can replace it."""
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
    # Not a volume string: with a mount, a missing source is an error and not a new folder owned by root.
    return Mount(target=str(target), source=str(source), type="bind", read_only=read_only)


_ALIVE_STATES = ("running", "paused", "restarting")

_MAX_SAVED_LINES = 1000
"""How many lines of a dead container's output are saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedContainer:
    """A container as the engine lists it. `state`: created, running, paused, restarting, removing, exited or dead."""

    container: Container
    state: str

    @property
    def id(self) -> str:
        return self.container.state["id"]

    @property
    def identity(self) -> ContainerIdentity:
        return ContainerIdentity(session_id=self.container.session_id, lease=self.container.lease)

    @property
    def is_alive(self) -> bool:
        return self.state in _ALIVE_STATES


class DockerContainers:
    """The containers of one install. `profile_by_path`: the engine reads the system call filter's profile from a file
    (Podman), and not from the request (Docker)."""

    def __init__(
        self,
        client: APIClient,
        *,
        install: str,
        image: str,
        command: Sequence[str] | None,
        profile_by_path: bool = False,
    ) -> None:
        self._client = client
        self._install = install
        self._image = image
        self._command = command
        self._profile_by_path = profile_by_path

    def start(self, spec: ContainerSpec) -> Container:
        """Create and start a container, or start an existing one of this name and lease. Raises SpawnError; then no
        container is left."""
        prepare_folders(spec, container_user()[0] if os.geteuid() == 0 else None)
        with engine_errors(f"No container for session {spec.session_id}", SpawnError):
            engine_id = self._create_or_reuse(spec)
            try:
                self._client.start(engine_id)
            except Exception:
                self.remove(engine_id)
                raise
        return container_from_labels(engine_id, labels(self._install, spec))

    def _create_or_reuse(self, spec: ContainerSpec) -> str:
        try:
            return self._create(spec)
        except APIError:
            # A name in use is error 409 in Docker and 500 in Podman; list the containers to be certain.
            existing = self.list_containers(ContainerIdentity.from_spec(spec))
            if not existing:
                raise
        for each in existing:
            if each.is_alive or each.state == "created":
                return each.id
            self.reap(each.container)
        return self._create(spec)

    def _create(self, spec: ContainerSpec) -> str:
        with self._seccomp(spec) as profile:
            arguments = create_arguments(
                spec, install=self._install, image=self._image, command=self._command, seccomp=profile
            )
            return str(self._client.create_container(**arguments)["Id"])

    @contextmanager
    def _seccomp(self, spec: ContainerSpec) -> Iterator[str | None]:
        """Provide the system call filter's profile in the form that the engine takes. A file of it is written where no
        container can write."""
        profile = seccomp_profile()
        if profile is None or not self._profile_by_path:
            yield profile
            return
        path = SessionLayout(spec.session_dir).log_dir / f"seccomp-{spec.lease}.json"
        path.write_text(profile)
        try:
            yield str(path)
        finally:
            path.unlink(missing_ok=True)

    def list_containers(self, identity: ContainerIdentity | None = None) -> list[ListedContainer]:
        """Returns all containers of this install, including dead ones, or those of one lease."""
        filters = [f"{LABEL_INSTALL}={self._install}"]
        if identity is not None:
            filters += [f"{LABEL_SESSION}={identity.session_id}", f"{LABEL_LEASE}={identity.lease}"]
        with engine_errors(gettext_noop("The Docker engine does not list containers")):
            found = self._client.containers(all=True, filters={"label": filters})
        return [
            ListedContainer(container=container_from_labels(each["Id"], each["Labels"]), state=each["State"])
            for each in found
        ]

    def signal(self, engine_id: str, name: str) -> None:
        """Send a signal to the runner. Does nothing if the container has ended."""
        with engine_errors(gettext_noop("The Docker engine does not stop a container")):
            try:
                self._client.kill(engine_id, name)
            except APIError as error:
                if not _is_already_stopped(error) and self._is_running(engine_id):
                    raise

    def _is_running(self, engine_id: str) -> bool:
        try:
            return bool(self._client.inspect_container(engine_id)["State"]["Running"])
        except NotFound:
            return False

    def exit_status(self, engine_id: str) -> Exited:
        """Returns how a dead container ended."""
        with engine_errors(gettext_noop("The Docker engine does not describe a container")):
            try:
                state = self._client.inspect_container(engine_id)["State"]
            except NotFound:
                return Exited(detail="no such container")
        detail = "out of memory" if state.get("OOMKilled") else state.get("Error", "")
        return Exited(code=state.get("ExitCode"), detail=detail)

    def reap(self, container: Container) -> Exited:
        """Save a dead container's output in its session and remove it. Returns how it ended. Ignores errors of
        the log."""
        engine_id = container.state["id"]
        exited = self.exit_status(engine_id)
        with suppress(APIError, OSError):
            self._save_log(engine_id, Path(container.state["folder"]))
        self.remove(engine_id)
        return exited

    def _save_log(self, engine_id: str, session_dir: Path) -> None:
        output = self._client.logs(engine_id, tail=_MAX_SAVED_LINES)
        with os.fdopen(open_log(session_dir), "ab") as file:
            file.write(output)

    def remove(self, engine_id: str) -> None:
        """Remove a container, alive or dead. Ignores that it or the engine is gone: `adopt` removes it later."""
        with (
            suppress(APIError, RuntimeUnavailable),
            engine_errors(gettext_noop("The Docker engine does not remove a container")),
        ):
            self._client.remove_container(engine_id, force=True, v=True)


def _is_already_stopped(error: APIError) -> bool:
    """Whether the container has ended. 404: it was removed; 409 and, in older engines, 500: it does not run. Podman 4.3
    answers 500 with the state."""
    message = str(error.explanation)
    return error.status_code in (404, 409) or any(stopped in message for stopped in _STOPPED_MESSAGES)


_STOPPED_MESSAGES = ("not running", "state improper: stopped", "state improper: exited")

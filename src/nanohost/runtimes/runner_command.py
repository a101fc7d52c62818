"""How a runner is started, and how a running one is known again: its arguments and its environment.

A container says whose it is on its command line, `--install I --session S --lease L`, and nowhere else. The
environment is what the host decided plus the few names below; nothing of the host's own environment gets in.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanohost.errors import RuntimeUnavailable
from nanohost.model import LeaseId, SessionId
from nanohost.runtimes.port import ContainerSpec
from nanohost.text.translation import lazy_gettext
from nanohost_protocol.layout import EXTENSIONS

RUNNER_ARGUMENTS = ("-P", "-m", "agent_runner")
"""Interpreter arguments. `-P`: the working directory is the agent's to write, so no module is looked for there."""

RUNNER_PACKAGES = ("nanohost_protocol", "agent_runner")
"""The packages a runner consists of; the host's own code is never visible to it."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerIdentity:
    """Which session a container works for, and by which lease."""

    session_id: SessionId
    lease: LeaseId

    @classmethod
    def from_spec(cls, spec: ContainerSpec) -> ContainerIdentity:
        return cls(session_id=spec.session_id, lease=spec.lease)


def identity_arguments(install: str, identity: ContainerIdentity) -> tuple[str, ...]:
    """The last six arguments of every runner."""
    return ("--install", install, "--session", identity.session_id, "--lease", identity.lease)


def container_name(install: str, identity: ContainerIdentity) -> str:
    """What an engine calls the container; people see it in `docker ps`."""
    return f"{container_name_prefix(install)}{identity.session_id}-{identity.lease[:8]}"


def container_name_prefix(install: str) -> str:
    """How the names of all containers of this install begin."""
    return f"nanohost-{install[:8]}-"


def parse_identity(arguments: Sequence[str], install: str) -> ContainerIdentity | None:
    """Whose container a command line belongs to; None unless it ends with exactly the six, for this install."""
    match tuple(arguments[-6:]):
        case ("--install", found, "--session", session, "--lease", lease) if found == install:
            return ContainerIdentity(session_id=SessionId(session), lease=LeaseId(lease))
        case _:
            return None


def runner_environment(
    spec: ContainerSpec, *, workspace: Path, extensions: Path = EXTENSIONS, path: str = SYSTEM_PATH
) -> dict[str, str]:
    """The spec's environment and what every runner needs besides. `workspace` is as the runner sees it, and so is
    `extensions`, the folder that holds those of the spec."""
    return {
        **spec.environment,
        **({"NANOHOST_EXTENSIONS": str(extensions)} if spec.extensions else {}),
        "HOME": str(workspace / "state"),
        "PATH": path,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def package_folder(name: str) -> Path:
    """The folder of an importable package, found without importing it.

    Raises RuntimeUnavailable when it is not installed.
    """
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise RuntimeUnavailable(
            lazy_gettext("The Python package {name} is not installed beside nanohost.", name=name),
            hint="make setup",
        )
    return Path(next(iter(found.submodule_search_locations))).resolve()

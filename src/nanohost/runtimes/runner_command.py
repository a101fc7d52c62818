"""Builds the arguments and the environment of a runner, and identifies a running one by its arguments.

A container is identified by its command line, `--install I --session S --lease L`, and by nothing else. The
environment is the spec's plus a few names below; nothing of the host's own environment is passed on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanohost.errors import RuntimeUnavailable
from nanohost.model import LeaseId, SessionId
from nanohost.runtimes.runtime_api import ContainerSpec
from nanohost.text.translation import lazy_gettext
from nanohost_protocol.layout import EXTENSIONS

RUNNER_ARGUMENTS = ("-P", "-m", "agent_runner")
"""Interpreter arguments. `-P`: do not import from the working directory, because the agent can write there."""

RUNNER_PACKAGES = ("nanohost_protocol", "agent_runner")
"""The packages of a runner. It never sees the host's own code."""

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerIdentity:
    """The session and the lease of a container."""

    session_id: SessionId
    lease: LeaseId

    @classmethod
    def from_spec(cls, spec: ContainerSpec) -> ContainerIdentity:
        return cls(session_id=spec.session_id, lease=spec.lease)


def identity_arguments(install: str, identity: ContainerIdentity) -> tuple[str, ...]:
    """Returns the last six arguments of every runner."""
    return ("--install", install, "--session", identity.session_id, "--lease", identity.lease)


def container_name(install: str, identity: ContainerIdentity) -> str:
    """Returns the container's name in an engine, as `docker ps` shows it."""
    return f"{container_name_prefix(install)}{identity.session_id}-{identity.lease[:8]}"


def container_name_prefix(install: str) -> str:
    """Returns the common prefix of the container names of this install."""
    return f"nanohost-{install[:8]}-"


def parse_identity(arguments: Sequence[str], install: str) -> ContainerIdentity | None:
    """Returns the identity in a command line; None unless it ends with exactly the six arguments, for this install."""
    match tuple(arguments[-6:]):
        case ("--install", found, "--session", session, "--lease", lease) if found == install:
            return ContainerIdentity(session_id=SessionId(session), lease=LeaseId(lease))
        case _:
            return None


def runner_environment(
    spec: ContainerSpec, *, workspace: Path, extensions: Path = EXTENSIONS, path: str = SYSTEM_PATH
) -> dict[str, str]:
    """Returns the spec's environment and what every runner needs besides. `workspace` and `extensions` (the parent
    folder of the spec's) are paths as the runner sees them."""
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
    """Returns the folder of a package without importing it. Raises RuntimeUnavailable if it is not installed."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise RuntimeUnavailable(
            lazy_gettext("The Python package {name} is not installed beside nanohost.", name=name),
            hint="make setup",
        )
    return Path(next(iter(found.submodule_search_locations))).resolve()

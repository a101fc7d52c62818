"""Finds our containers after a start: which live and are on record, which are gone, which live without a record.

Only reads; the container manager acts. A digest of each container's settings is stored beside what the runtime needs to
find the container again, so that a container with outdated settings is recognized. The digest covers no secret.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from nanohost.db import sessions
from nanohost.db.database import Queries
from nanohost.model import Session
from nanohost.runtimes.runtime_api import Container, ContainerSpec, Runtime
from nanohost_protocol import crash_points

SPEC_DIGEST_KEY = "started_with"
"""The digest's key in the session's runtime_state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptionScan:
    """`adoptable`: containers that live and are on record. `lost`: sessions whose container does not live here.
    `orphans`: containers that live and are not on record."""

    adoptable: Sequence[tuple[Session, Container]]
    lost: Sequence[Session]
    orphans: Sequence[Container]


async def scan_containers(db: Queries, runtime: Runtime) -> AdoptionScan:
    """Compare the living containers with the recorded leases. A lease of another runtime counts as lost: its container
    cannot be reached from here. It exits by itself without a host, and until then its lock on outbound.db keeps the
    next container from writing."""
    living = {(one.session_id, one.lease): one for one in await runtime.adopt()}
    ours: list[tuple[Session, Container]] = []
    lost: list[Session] = []
    for session in await sessions.list_leased(db):
        assert session.lease is not None
        container = living.pop((session.id, session.lease), None)
        if container is not None and session.runtime == runtime.name:
            ours.append((session, container))
        else:
            lost.append(session)
    return AdoptionScan(adoptable=ours, lost=lost, orphans=list(living.values()))


def persisted_state(container: Container, spec: ContainerSpec, runtime: Runtime) -> Mapping[str, str]:
    """Returns what is stored about a started container."""
    return {**container.state, SPEC_DIGEST_KEY: _spec_digest(spec, runtime)}


def is_outdated(session: Session, spec: ContainerSpec, runtime: Runtime) -> bool:
    """Whether the session's container was started with other settings than the current ones. False if its digest is not
    known because the host was killed before it stored it."""
    known = session.runtime_state.get(SPEC_DIGEST_KEY)
    return known is not None and known != _spec_digest(spec, runtime)


def _spec_digest(spec: ContainerSpec, runtime: Runtime) -> str:
    environment = {key: value for key, value in spec.environment.items() if key != crash_points.ENV_VARIABLE}
    started_with = {
        "environment": environment,
        "limits": asdict(spec.limits),
        "mounts": [str(spec.session_dir), str(spec.agent_dir), *map(str, spec.extensions)],
        "image": str(getattr(runtime, "image", "")),  # only Docker and Podman have one
        "system_calls": str(getattr(runtime, "system_calls", "")),  # only runtimes that filter them
    }
    return hashlib.sha256(json.dumps(started_with, sort_keys=True).encode()).hexdigest()[:32]

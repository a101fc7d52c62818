"""Finds our children after a start: which containers live and are on record, which are gone, which are nobody's.

Only looks; the container manager acts. What a container was started with is kept as a digest beside what the runtime
needs to find it again, so that one that was started with other settings is told apart. No secret is in what is
digested.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from nanohost.db import sessions
from nanohost.db.database import Queries
from nanohost.model import Session
from nanohost.runtimes.port import Container, ContainerSpec, Runtime
from nanohost_protocol import crash_points

SPEC_DIGEST_KEY = "started_with"
"""The digest's key in the session's runtime_state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptionScan:
    """`adoptable` live and are on record, `lost` are on record and do not live here, `orphans` live and are on no
    record."""

    adoptable: Sequence[tuple[Session, Container]]
    lost: Sequence[Session]
    orphans: Sequence[Container]


async def scan_containers(db: Queries, runtime: Runtime) -> AdoptionScan:
    """What there is. A lease of another runtime counts as lost: its container cannot be reached from here, and its
    writer's lock keeps the next one out until it ends itself for want of a host."""
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
    """What is kept of a container that was started."""
    return {**container.state, SPEC_DIGEST_KEY: _spec_digest(spec, runtime)}


def is_outdated(session: Session, spec: ContainerSpec, runtime: Runtime) -> bool:
    """Whether the session's container was started with something else than it would be now. One of which that is not
    known (the host was killed before it could write it down) is as good as new."""
    known = session.runtime_state.get(SPEC_DIGEST_KEY)
    return known is not None and known != _spec_digest(spec, runtime)


def _spec_digest(spec: ContainerSpec, runtime: Runtime) -> str:
    environment = {key: value for key, value in spec.environment.items() if key != crash_points.ENV_VARIABLE}
    started_with = {
        "environment": environment,
        "limits": asdict(spec.limits),
        "mounts": [str(spec.session_dir), str(spec.agent_dir), *map(str, spec.extensions)],
        "image": str(getattr(runtime, "image", "")),  # of those that start from one
        "system_calls": str(getattr(runtime, "system_calls", "")),  # of those that filter them
    }
    return hashlib.sha256(json.dumps(started_with, sort_keys=True).encode()).hexdigest()[:32]

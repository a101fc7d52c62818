"""What one Docker container has said, from the engine. Blocking; reads only."""

from __future__ import annotations

from contextlib import closing
from enum import Enum, auto

from docker.errors import NotFound

from nanohost.runtimes.docker_engine import connect_engine, engine_errors

ALIVE_STATES = ("created", "running", "paused", "restarting")


class ContainerPhase(Enum):
    """A container that is `EXITED` is dead and not buried: its output may be in the session's log already."""

    ALIVE = auto()
    EXITED = auto()
    REMOVED = auto()


def container_output(engine_id: str, lines: int) -> tuple[ContainerPhase, bytes]:
    """Whether it lives, and its last `lines` lines, stdout and stderr as they came. Raises RuntimeUnavailable."""
    with closing(connect_engine()) as client, engine_errors("The Docker engine does not give a container's output"):
        try:
            state = client.inspect_container(engine_id)["State"]["Status"]
            said: bytes = client.logs(engine_id, tail=lines)
        except NotFound:
            return ContainerPhase.REMOVED, b""
    return ContainerPhase.ALIVE if state in ALIVE_STATES else ContainerPhase.EXITED, said

"""What one Docker container has said, from the engine. Blocking; reads only."""

from __future__ import annotations

from contextlib import closing
from enum import Enum, auto

from docker.errors import NotFound

from nanohost.runtimes.docker_engine import engine_errors, reach_engine

ALIVE = ("created", "running", "paused", "restarting")


class Life(Enum):
    """A container that is `ENDING` is dead and not buried: its output may be in the session's log already."""

    LIVING = auto()
    ENDING = auto()
    GONE = auto()


def container_output(engine_id: str, lines: int) -> tuple[Life, bytes]:
    """Whether it lives, and its last `lines` lines, stdout and stderr as they came. Raises RuntimeUnavailable."""
    with closing(reach_engine()) as client, engine_errors("The Docker engine does not give a container's output"):
        try:
            state = client.inspect_container(engine_id)["State"]["Status"]
            said: bytes = client.logs(engine_id, tail=lines)
        except NotFound:
            return Life.GONE, b""
    return Life.LIVING if state in ALIVE else Life.ENDING, said

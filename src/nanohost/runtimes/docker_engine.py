"""The Docker engine: how it is reached, and its errors in our words.

docker-py blocks, so everything here is called from a thread, never on the event loop. Podman's socket answers too, with
a few differences: check_engine tells which of the two it is.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import Enum, auto

from docker import APIClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.utils import kwargs_from_env
from requests.exceptions import RequestException

from nanohost.errors import NanohostError, RuntimeUnavailable, SpawnError
from nanohost.text.translation import gettext_noop, lazy, lazy_gettext

ALIVE_STATES = ("created", "running", "paused", "restarting")


class ContainerPhase(Enum):
    """A container that is `EXITED` is dead and not buried: its output may be in the session's log already."""

    ALIVE = auto()
    EXITED = auto()
    REMOVED = auto()


def container_output(engine_id: str, lines: int) -> tuple[ContainerPhase, bytes]:
    """Whether it lives, and its last `lines` lines, stdout and stderr as they came. Raises RuntimeUnavailable."""
    with (
        closing(connect_engine()) as client,
        engine_errors(gettext_noop("The Docker engine does not give a container's output")),
    ):
        try:
            state = client.inspect_container(engine_id)["State"]["Status"]
            said: bytes = client.logs(engine_id, tail=lines)
        except NotFound:
            return ContainerPhase.REMOVED, b""
    return ContainerPhase.ALIVE if state in ALIVE_STATES else ContainerPhase.EXITED, said


CONNECT_TIMEOUT_S = 10
"""How long an engine may take to answer its first question. Docker needs a few milliseconds; Podman starts three
programs to tell its version, which on a busy machine took over 3 s."""

CALL_TIMEOUT_S = 30
"""How long any later call may take. Creating and starting need some 200 ms on a busy machine of two cores."""

START_HINT = lazy_gettext('start Docker (systemctl start docker), or set [host] runtime = "bubblewrap"')

PERMISSION_HINT = lazy_gettext(
    'join the docker group (sudo usermod -aG docker $USER, then log in again), or use "bubblewrap"'
)


def connect_engine() -> APIClient:
    """A client of the engine DOCKER_HOST names, or of the machine's own. Raises RuntimeUnavailable within seconds."""
    environment = kwargs_from_env()
    url = environment.get("base_url") or "unix:///var/run/docker.sock"
    with engine_errors(gettext_noop("The Docker engine does not answer")):
        _check_socket(url)
        client = APIClient(base_url=url, tls=environment.get("tls", False), timeout=CONNECT_TIMEOUT_S)
    client.timeout = CALL_TIMEOUT_S
    return client


def _check_socket(url: str) -> None:
    """Raises OSError when nobody listens on a local socket: docker-py leaves one open when it cannot connect."""
    scheme, _, path = url.partition("://")
    if scheme.endswith("unix"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(CONNECT_TIMEOUT_S)
            door.connect(path)


class EngineKind(Enum):
    """Who answers. Podman's differences are minded where this is asked for."""

    DOCKER = auto()
    PODMAN = auto()


def check_engine(client: APIClient) -> EngineKind:
    """Which engine this is. Raises RuntimeUnavailable for one without root: its users are not ours, so files would be
    nobody's."""
    with engine_errors(gettext_noop("The Docker engine does not answer")):
        info = client.info()
    if any("rootless" in option for option in info.get("SecurityOptions") or ()):
        raise RuntimeUnavailable(
            lazy_gettext("The Docker engine runs rootless, where a container's files cannot be shared with the host."),
            hint=lazy_gettext('set [host] runtime = "bubblewrap", which needs no root either'),
        )
    # Only Podman builds with Buildah, and says so.
    return EngineKind.PODMAN if "BuildahVersion" in info else EngineKind.DOCKER


@contextmanager
def engine_errors(context: str, error: type[NanohostError] = RuntimeUnavailable) -> Iterator[None]:
    """Turn what docker-py raises into one sentence of ours that starts with `context`."""
    try:
        yield
    except ImageNotFound as cause:
        missing = lazy_gettext("{problem}: the agent image is missing.", problem=lazy(context))
        raise SpawnError(missing, hint="nanohost image build") from cause
    except APIError as cause:
        hint = lazy_gettext("docker info, and the engine's own log")
        raise error(_describe(context, cause.explanation or cause), hint=hint) from cause
    except PermissionError as cause:
        raise RuntimeUnavailable(_describe(context, cause.strerror), hint=PERMISSION_HINT) from cause
    except (DockerException, RequestException, OSError) as cause:
        raise RuntimeUnavailable(_describe(context, _root_cause(cause)), hint=START_HINT) from cause


def _describe(context: str, cause: object) -> str:
    return lazy_gettext("{problem}: {cause}", problem=lazy(context), cause=cause)


def _root_cause(cause: BaseException) -> str:
    """The innermost reason: docker-py wraps a refused socket five times."""
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return str(cause)

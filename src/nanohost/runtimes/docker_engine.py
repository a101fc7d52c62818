"""Connects to the Docker engine and translates its errors.

docker-py blocks, so everything here is called from a thread, never on the event loop. Podman's socket works too, with
a few differences: `check_engine` returns which of the two it is.
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
    """The phase of a container. `EXITED`: dead and not removed yet; its output may be in the session's log already."""

    ALIVE = auto()
    EXITED = auto()
    REMOVED = auto()


def container_output(engine_id: str, lines: int) -> tuple[ContainerPhase, bytes]:
    """Returns the container's phase and its last `lines` lines of stdout and stderr. Raises RuntimeUnavailable."""
    with (
        closing(connect_engine()) as client,
        engine_errors(gettext_noop("The Docker engine does not give a container's output")),
    ):
        try:
            state = client.inspect_container(engine_id)["State"]["Status"]
            output: bytes = client.logs(engine_id, tail=lines)
        except NotFound:
            return ContainerPhase.REMOVED, b""
    return ContainerPhase.ALIVE if state in ALIVE_STATES else ContainerPhase.EXITED, output


CONNECT_TIMEOUT_S = 10
"""How long an engine may take for its first answer. Docker needs a few milliseconds; Podman starts three programs to
report its version, which took over 3 s on a busy machine."""

CALL_TIMEOUT_S = 30
"""How long any later call may take. To create and start a container takes some 200 ms on a busy machine of two cores.
"""

START_HINT = lazy_gettext('start Docker (systemctl start docker), or set [host] runtime = "bubblewrap"')

PERMISSION_HINT = lazy_gettext(
    'join the docker group (sudo usermod -aG docker $USER, then log in again), or use "bubblewrap"'
)


def connect_engine() -> APIClient:
    """Connect to the engine of DOCKER_HOST, or to the machine's own. Raises RuntimeUnavailable within seconds."""
    environment = kwargs_from_env()
    url = environment.get("base_url") or "unix:///var/run/docker.sock"
    with engine_errors(gettext_noop("The Docker engine does not answer")):
        _check_socket(url)
        client = APIClient(base_url=url, tls=environment.get("tls", False), timeout=CONNECT_TIMEOUT_S)
    client.timeout = CALL_TIMEOUT_S
    return client


def _check_socket(url: str) -> None:
    """Check that a local socket accepts connections: docker-py leaks a socket if it cannot connect. Raises OSError."""
    scheme, _, path = url.partition("://")
    if scheme.endswith("unix"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(CONNECT_TIMEOUT_S)
            connection.connect(path)


class EngineKind(Enum):
    """Which engine answers. Code that depends on Podman's differences checks this."""

    DOCKER = auto()
    PODMAN = auto()


def check_engine(client: APIClient) -> EngineKind:
    """Returns which engine this is. Raises RuntimeUnavailable for a rootless engine: it maps users, so files would
    belong to none of ours."""
    with engine_errors(gettext_noop("The Docker engine does not answer")):
        info = client.info()
    if any("rootless" in option for option in info.get("SecurityOptions") or ()):
        raise RuntimeUnavailable(
            lazy_gettext("The Docker engine runs rootless, where a container's files cannot be shared with the host."),
            hint=lazy_gettext('set [host] runtime = "bubblewrap", which needs no root either'),
        )
    # Only Podman reports a version of Buildah.
    return EngineKind.PODMAN if "BuildahVersion" in info else EngineKind.DOCKER


@contextmanager
def engine_errors(context: str, error: type[NanohostError] = RuntimeUnavailable) -> Iterator[None]:
    """Translate the errors of docker-py into `error`, with a sentence that starts with `context`."""
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
    """Returns the innermost cause: docker-py wraps a refused connection five times."""
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return str(cause)

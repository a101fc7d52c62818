"""Listens for the deaths of containers: one thread reads the engine's event stream and misses no event.

The stream breaks when the engine restarts. After each new connection `on_connect` is called, so that the caller can
compare its containers with those of the engine, and the last seconds' events are requested again. So a death may be
reported twice; the caller counts it once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from docker import APIClient
from docker.errors import DockerException
from docker.types import CancellableStream
from requests.exceptions import RequestException

from nanohost.errors import NanohostError
from nanohost.runtimes.docker_containers import LABEL_INSTALL
from nanohost.runtimes.docker_engine import connect_engine, engine_errors
from nanohost.text.translation import gettext_noop

log = structlog.get_logger(__name__)

INITIAL_BACKOFF_S, MAX_BACKOFF_S = 0.2, 5.0

OVERLAP_S = 2
"""How many seconds back a new connection requests events; the engine keeps its last 256."""

_DIE_EVENTS = ["die", "died"]
"""Docker's name and Podman's. Podman 4.3 calls the event `exit_container`, and returns it only for the filter `died`.
"""


class EngineEventListener:
    """Calls `on_death(container id)` for each death in the install, from its own thread, from `start` until `close`."""

    def __init__(self, install: str, *, on_death: Callable[[str], None], on_connect: Callable[[], None]) -> None:
        self._filters = {"type": "container", "event": _DIE_EVENTS, "label": f"{LABEL_INSTALL}={install}"}
        self._on_death = on_death
        self._on_connect = on_connect
        self._closing = threading.Event()
        self._stream: CancellableStream[dict[str, Any]] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="docker-deaths", daemon=True)

    def start(self) -> None:
        """Begin to listen. Returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening. Blocks for some milliseconds."""
        self._closing.set()
        with self._lock:
            self._disconnect()
        self._thread.join(timeout=MAX_BACKOFF_S)

    def _run(self) -> None:
        pause = INITIAL_BACKOFF_S
        while not self._closing.is_set():
            try:
                client = connect_engine()
                try:
                    self._listen(client)
                finally:
                    client.close()
                pause = INITIAL_BACKOFF_S
            except NanohostError as error:
                log.warning("engine_events_disconnected", runtime="docker", why=str(error))
            self._closing.wait(pause)
            pause = min(pause * 2, MAX_BACKOFF_S)

    def _listen(self, client: APIClient) -> None:
        """Read until the stream ends."""
        with engine_errors(gettext_noop("The Docker engine's events broke off")):
            stream = client.events(since=int(time.time()) - OVERLAP_S, filters=self._filters, decode=True)
            with self._lock:
                self._stream = stream
                if self._closing.is_set():
                    self._disconnect()
            self._on_connect()
            for event in stream:
                self._on_death(str(event["id"]))

    def _disconnect(self) -> None:
        if self._stream is not None:
            with suppress(OSError, AttributeError, DockerException, RequestException):
                self._stream.close()
            self._stream = None

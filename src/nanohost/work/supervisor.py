"""Runs long tasks as named services: restarts them, shows them in `nanohost status`, stops them in reverse order.

A service that returns or fails is restarted after a pause that grows from 1 to 60 seconds, and is reset after a minute
without failure. A critical service ends the process instead: see `wait_for_failure`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import TracebackType

import structlog

from nanohost.clock import Clock
from nanohost.errors import ChannelError, NanohostError

INITIAL_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0
BACKOFF_RESET_S = 60.0
STOP_TIMEOUT_S = 10.0
JITTER = 0.25
"""Pauses are varied by up to this share, so that services that fail together do not restart together."""

_log = structlog.get_logger()


class ServiceState(StrEnum):
    RUNNING = "running"
    RESTARTING = "restarting"
    """It ended; it waits for the next run."""
    FAILED = "failed"
    """It is critical and ended: the process is about to end."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The state of a service. `error`: the sentence of its last failure. `since`: when `state` began."""

    name: str
    state: ServiceState
    since: datetime
    restarts: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFailure:
    """A critical service ended. `error` is None if it returned."""

    name: str
    message: str
    error: Exception | None


class Supervisor:
    """Runs services while entered. `jitter`: returns numbers from 0 to 1."""

    def __init__(
        self, clock: Clock, *, stop_timeout_s: float = STOP_TIMEOUT_S, jitter: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._stop_timeout_s = stop_timeout_s
        self._jitter = jitter
        self._services: dict[str, Service] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failure: asyncio.Future[ServiceFailure] | None = None

    async def __aenter__(self) -> Supervisor:
        self._failure = asyncio.get_running_loop().create_future()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        late = [name for name, task in reversed(self._tasks.items()) if not await self._stop(name, task)]
        if late:
            _log.warning("service_stop_timed_out", services=late, after_s=self._stop_timeout_s)

    def start(self, name: str, factory: Callable[[], Awaitable[None]], *, critical: bool = False) -> None:
        """Run `factory()` as the service `name`, and restart it when it ends, unless it is critical."""
        assert self._failure is not None, "services are started inside `async with supervisor`"
        assert name not in self._tasks, f"there is a service {name} already"
        self._services[name] = Service(name=name, state=ServiceState.RUNNING, since=self._clock.now())
        run = self._run_once(name, factory) if critical else self._run_restarting(name, factory)
        self._tasks[name] = asyncio.create_task(run, name=name)

    def services(self) -> tuple[Service, ...]:
        """Returns all services, in the order in which they were started."""
        return tuple(self._services.values())

    async def wait_for_failure(self) -> ServiceFailure:
        """Wait until a critical service ends."""
        assert self._failure is not None, "wait for a failure inside `async with supervisor`"
        return await asyncio.shield(self._failure)

    async def _run_once(self, name: str, factory: Callable[[], Awaitable[None]]) -> None:
        error = await self._run_factory(factory)
        sentence = _error_message(error)
        self._set_state(name, ServiceState.FAILED, error=sentence)
        _log_service_event("service_failed", name, error, level="error")
        assert self._failure is not None
        if not self._failure.done():
            self._failure.set_result(ServiceFailure(name=name, message=sentence, error=error))

    async def _run_restarting(self, name: str, factory: Callable[[], Awaitable[None]]) -> None:
        pause_s = INITIAL_BACKOFF_S
        while True:
            started_at = self._clock.monotonic()
            error = await self._run_factory(factory)
            if self._clock.monotonic() - started_at >= BACKOFF_RESET_S:
                pause_s = INITIAL_BACKOFF_S
            wait_s = pause_s * (1 + JITTER * (2 * self._jitter() - 1))
            self._set_state(name, ServiceState.RESTARTING, error=_error_message(error))
            _log_service_event("service_restarting", name, error, in_s=round(wait_s, 1))
            await self._clock.sleep(wait_s)
            pause_s = min(pause_s * 2, MAX_BACKOFF_S)
            self._set_state(name, ServiceState.RUNNING, restarts=self._services[name].restarts + 1)

    async def _run_factory(self, factory: Callable[[], Awaitable[None]]) -> Exception | None:
        try:
            await factory()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return RuntimeError("a library cancelled it; nobody asked it to end")
        except Exception as error:
            return error
        return None

    def _set_state(
        self, name: str, state: ServiceState, *, error: str | None = None, restarts: int | None = None
    ) -> None:
        service = self._services[name]
        self._services[name] = replace(
            service,
            state=state,
            since=self._clock.now(),
            error=service.error if error is None else error,
            restarts=service.restarts if restarts is None else restarts,
        )

    async def _stop(self, name: str, task: asyncio.Task[None]) -> bool:
        """Cancel a service. Returns False if it does not end in time; it is then abandoned."""
        task.cancel()
        _, late = await asyncio.wait([task], timeout=self._stop_timeout_s)
        if self._services[name].state is not ServiceState.FAILED:
            self._set_state(name, ServiceState.STOPPED)
        return not late


def _error_message(error: Exception | None) -> str:
    if error is None:
        return "it ended by itself"
    return str(error) or type(error).__name__


def _log_service_event(
    event: str, name: str, error: Exception | None, *, level: str = "warning", **fields: object
) -> None:
    """Log one line for an expected error, and a traceback for a bug of ours."""
    is_expected = error is None or isinstance(error, (NanohostError, ChannelError))
    hint = error.hint if isinstance(error, NanohostError) else ""
    if hint:
        fields["hint"] = hint
    getattr(_log, level)(
        event, service=name, error=_error_message(error), exc_info=None if is_expected else error, **fields
    )

"""Tracks whether the model can be reached, by the host's own checks and by every answer that passes.

Promises: at most one problem at a time, with a command to type; it ends with the first answer that shows it is over.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog

from nanohost.clock import Clock
from nanohost.gateway.model_service import Upstream
from nanohost.net.proxies import proxy_name
from nanohost.text.translation import lazy_gettext

SET_KEY_COMMAND = "nanohost model set"
SET_BASE_URL_COMMAND = "nanohost model set --base-url URL"
MODEL_CONTENT_TYPES = frozenset({"application/json", "text/event-stream"})
"""The content types of the Messages API's answers. The login page of a captive portal has another one."""

log = structlog.get_logger(__name__)


class ModelProblemKind(StrEnum):
    """The kind of a problem."""

    NO_KEY = "no_key"
    KEY_REJECTED = "key"
    """The service rejects the key."""
    WRONG_ADDRESS = "address"
    """A server answers there, but it is no model service."""
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProblem:
    """A problem with the model. `message`: a sentence without a full stop; `hint`: the command to type."""

    kind: ModelProblemKind
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InconclusiveCheck:
    """The service answered with an HTTP status that says nothing about the key: a rate limit or a server error."""

    status: int


def missing_key_problem(upstream: Upstream) -> ModelProblem:
    return ModelProblem(
        kind=ModelProblemKind.NO_KEY,
        message=lazy_gettext("there is no key for the model at {host}", host=upstream.host),
        hint=SET_KEY_COMMAND,
    )


def rejected_key_problem(upstream: Upstream, status: int, detail: str = "") -> ModelProblem:
    reason = f"{status}: {detail}" if detail else str(status)
    return ModelProblem(
        kind=ModelProblemKind.KEY_REJECTED,
        message=lazy_gettext("{host} refuses the key for the model ({answer})", host=upstream.host, answer=reason),
        hint=SET_KEY_COMMAND,
    )


def malformed_key_problem(upstream: Upstream) -> ModelProblem:
    problem = lazy_gettext(
        "the key for the model at {host} holds blanks or characters that no key has", host=upstream.host
    )
    return ModelProblem(kind=ModelProblemKind.KEY_REJECTED, message=problem, hint=SET_KEY_COMMAND)


def wrong_address_problem(upstream: Upstream, reason: str) -> ModelProblem:
    """Returns the problem of a wrong address. Clients append /v1 themselves; many addresses in manuals include it."""
    shown = upstream.display_url
    do = SET_BASE_URL_COMMAND
    if shown.endswith("/v1"):
        do = f"nanohost model set --base-url {shown.removesuffix('/v1')}"
    return ModelProblem(
        kind=ModelProblemKind.WRONG_ADDRESS,
        message=lazy_gettext("{address} is not the address of a model: {reason}", address=shown, reason=reason),
        hint=do,
    )


def unreachable_problem(upstream: Upstream, reason: str) -> ModelProblem:
    values = {"host": upstream.host, "reason": reason}
    message = lazy_gettext("{host} cannot be reached: {reason}", **values)
    if proxy := proxy_name(upstream.base_url):
        message = lazy_gettext("{host} cannot be reached through the proxy {proxy}: {reason}", proxy=proxy, **values)
    return ModelProblem(
        kind=ModelProblemKind.UNREACHABLE,
        message=message,
        hint=lazy_gettext(
            "nanohost model check, when the network is up; if the address is wrong: {command}",
            command=SET_BASE_URL_COMMAND,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """The problem and since when it exists, or when the model last worked. Neither: nothing is known."""

    problem: ModelProblem | None = None
    since: datetime | None = None
    last_success_at: datetime | None = None


class ModelHealth:
    """The state of the model. One per gateway."""

    def __init__(self, upstream: Upstream, clock: Clock) -> None:
        self._upstream = upstream
        self._clock = clock
        self.status = ModelStatus()
        self._problem_event = asyncio.Event()

    def record_response(self, http_status: int, content_type: str) -> None:
        """Records the HTTP status of an answer to a client. `content_type`: in lower case, without parameters."""
        if 200 <= http_status < 300 and content_type in MODEL_CONTENT_TYPES:
            self.mark_healthy()
        elif http_status == 401:
            self.report_problem(rejected_key_problem(self._upstream, http_status))
        else:
            self.mark_reachable()

    def report_problem(self, problem: ModelProblem) -> None:
        """Records a problem. An unreachable service does not replace another problem."""
        before = self.status.problem
        if before is not None and problem.kind in (before.kind, ModelProblemKind.UNREACHABLE):
            return
        log.warning("model_check_failed", problem=problem.message, hint=problem.hint)
        self.status = ModelStatus(problem=problem, since=self._clock.now(), last_success_at=self.status.last_success_at)
        self._problem_event.set()

    def mark_healthy(self) -> None:
        if self.status.problem is not None:
            log.info("model_recovered", host=self._upstream.host)
        self.status = ModelStatus(last_success_at=self._clock.now())
        self._problem_event.clear()

    def mark_reachable(self) -> None:
        """Records that the service answers, which ends only the problem that it is unreachable."""
        complaint = self.status.problem
        if complaint is not None and complaint.kind is ModelProblemKind.UNREACHABLE:
            log.info("model_reachable", host=self._upstream.host)
            self.status = ModelStatus(last_success_at=self.status.last_success_at)
            self._problem_event.clear()

    async def wait_for_problem(self) -> ModelProblem:
        """Waits until there is a problem, and returns it."""
        while (complaint := self.status.problem) is None:
            await self._problem_event.wait()
        return complaint

"""Takes one request to the model service and its answer back, byte by byte as it comes.

Promises: the key is added here and nowhere else; no chunk waits for the next; a slow reader holds up only its own
answer; a client that leaves ends the request upstream. Never follows a redirect, never tries again: clients do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import structlog
from aiohttp import web
from yarl import URL

from nanohost.clock import Clock
from nanohost.gateway import api_error
from nanohost.gateway.call_in_progress import CallInProgress
from nanohost.gateway.headers import request_headers, response_headers
from nanohost.gateway.health import Health, unreachable
from nanohost.gateway.limiter import Limiter
from nanohost.gateway.model_call import NO_KEY, TOO_LARGE, CallOutcome
from nanohost.gateway.policy import Verdict, judge
from nanohost.gateway.recordings import Recordings
from nanohost.gateway.upstream import Upstream
from nanohost.model import SessionId

TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=300.0)
"""An answer may take as long as it likes, with no more than five minutes of silence (the service pings in between)."""

_UPSTREAM_FAILED = (aiohttp.ClientError, TimeoutError, OSError)
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)

log = structlog.get_logger(__name__)


class Forwarder:
    """Serves the requests of all sessions by one client, within the budget of each."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        http: aiohttp.ClientSession,
        recordings: Recordings,
        health: Health,
        limiter: Limiter,
        clock: Clock,
    ) -> None:
        self._upstream = upstream
        self._http = http
        self._recordings = recordings
        self._health = health
        self._limiter = limiter
        self._clock = clock

    async def handle(self, session_id: SessionId, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of a session."""
        budget = self._limiter.budget(session_id)
        if not await self._limiter.admit(session_id):
            return api_error.too_many(budget.over, budget.retry_after_s())
        verdict = judge(request.method, request.raw_path)
        if verdict is Verdict.PROBE:
            return web.Response()
        if verdict is Verdict.REFUSE:
            budget.fail()
            log.info("gateway.refused", session=session_id, method=request.method, path=request.raw_path[:200])
            return api_error.not_allowed(request.method, request.raw_path)
        if verdict is Verdict.CALL and not self._recordings.has_room:
            return api_error.overloaded()
        call = CallInProgress(session_id, started_at=self._clock.now(), started_s=self._clock.monotonic())
        try:
            refusal = self._refusal(request, call)
            return refusal if refusal is not None else await self._forward(request, call)
        finally:
            if self._came_to_nothing(call, verdict):
                budget.fail()

    def _came_to_nothing(self, call: CallInProgress, verdict: Verdict) -> bool:
        """Put a call on record. Returns whether it is to be paid for as a failure: it left more than an answer."""
        if verdict is not Verdict.CALL:
            return call.failed
        row = call.row(ended_s=self._clock.monotonic())
        self._recordings.put(row)
        return row.outcome is not CallOutcome.COMPLETED

    def _refusal(self, request: web.BaseRequest, call: CallInProgress) -> web.Response | None:
        """What is answered without asking the service. A body of unknown length could not be refused in time."""
        if not self._upstream.usable:
            call.fails(CallOutcome.NOT_SENT, NO_KEY)
            return api_error.no_key()
        if request.content_length is None and request.can_read_body:
            call.fails(CallOutcome.NOT_SENT, "the request does not say how long it is")
            return api_error.no_length()
        if (request.content_length or 0) > api_error.MAX_BODY_BYTES:
            call.fails(CallOutcome.NOT_SENT, TOO_LARGE)
            return api_error.too_large()
        return None

    async def _forward(self, request: web.BaseRequest, call: CallInProgress) -> web.StreamResponse:
        try:
            answer = await self._ask(request, call)
        except _UPSTREAM_FAILED as error:
            cause = type(error).__name__
            log.warning("gateway.unreachable", session=call.session_id, host=self._upstream.host, cause=cause)
            call.fails(CallOutcome.UNREACHABLE, cause)
            if isinstance(error, _NOT_CONNECTED):  # before a client had a part in it
                self._health.complain(unreachable(self._upstream, cause))
            return api_error.unreachable(self._upstream, cause)
        async with answer:
            call.is_answered(answer.status, answer.content_type)
            self._health.answered(answer.status, answer.content_type)
            if 300 <= answer.status < 400:
                log.warning("gateway.redirected", session=call.session_id, host=self._upstream.host)
                call.fails(CallOutcome.REFUSED, "the service answered with a redirect")
                return api_error.redirected(self._upstream)
            return await self._pass_on(request, answer, call)

    async def _ask(self, request: web.BaseRequest, call: CallInProgress) -> aiohttp.ClientResponse:
        """Send the request as its body comes in; returns when the answer's status and headers are there."""
        return await self._http.request(
            request.method,
            URL(self._upstream.url(request.raw_path), encoded=True),
            headers=request_headers(request.headers, self._upstream.api_key),
            skip_auto_headers=("User-Agent", "Content-Type"),
            data=_body(request, call) if request.can_read_body else None,
            allow_redirects=False,
            auto_decompress=False,
            timeout=TIMEOUT,
        )

    async def _pass_on(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, call: CallInProgress
    ) -> web.StreamResponse:
        headers = response_headers(answer.headers, answer.status)
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
        try:
            await response.prepare(request)
            async for chunk in _chunks(answer):
                call.receives(chunk)
                await response.write(chunk)
            call.answer_ends()
            await response.write_eof()
        except _BrokenOff as broken:
            log.warning("gateway.cut", session=call.session_id, host=self._upstream.host, cause=str(broken))
            call.fails(CallOutcome.CUT, str(broken))
            # Closed without the last chunk, so that the client too sees that it is not whole.
            if request.transport is not None:
                request.transport.close()
        except ConnectionError:
            log.debug("gateway.client_left", session=call.session_id)
        return response


class _BrokenOff(Exception):
    """The service broke off its answer. A type of its own: the client's leaving raises the library's same errors."""


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """What has come in, as soon as anything has."""
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except _UPSTREAM_FAILED as error:
        raise _BrokenOff(type(error).__name__) from error


async def _body(request: web.BaseRequest, call: CallInProgress) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_any():
        call.sends(chunk)
        yield chunk

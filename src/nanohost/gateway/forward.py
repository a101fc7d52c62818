"""Forwards requests to the model service, and streams the answers back.

Promises: the key is added here and nowhere else; no chunk waits for the next; a slow reader delays only its own answer;
a client that disconnects ends the request upstream. Never: follows a redirect or retries; clients retry.
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
from nanohost.gateway.call_recorder import CallRecorder
from nanohost.gateway.model_call import NO_KEY_ERROR, TOO_LARGE_ERROR, CallOutcome
from nanohost.gateway.model_health import ModelHealth, unreachable_problem
from nanohost.gateway.model_service import Upstream
from nanohost.gateway.rate_limit import CallLimiter
from nanohost.gateway.request_policy import GatewayDecision, decide, request_headers, response_headers
from nanohost.model import SessionId

UPSTREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=300.0)
"""An answer has no total limit, but at most five minutes without data (the service sends pings in between)."""

_UPSTREAM_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)
_CONNECT_ERRORS = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)

log = structlog.get_logger(__name__)


class Forwarder:
    """Handles the requests of all sessions with one HTTP client, within the budget of each session."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        http: aiohttp.ClientSession,
        recorder: CallRecorder,
        health: ModelHealth,
        limiter: CallLimiter,
        clock: Clock,
    ) -> None:
        self._upstream = upstream
        self._http = http
        self._recorder = recorder
        self._health = health
        self._limiter = limiter
        self._clock = clock

    async def handle(self, session_id: SessionId, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request of a session."""
        budget = self._limiter.budget(session_id)
        if not await self._limiter.admit_request(session_id):
            return api_error.too_many_requests(budget.reason, budget.retry_after_s())
        verdict = decide(request.method, request.raw_path)
        if verdict is GatewayDecision.PROBE:
            return web.Response()
        if verdict is GatewayDecision.REJECT:
            budget.consume_failure()
            log.info("gateway_request_rejected", session=session_id, method=request.method, path=request.raw_path[:200])
            return api_error.not_allowed(request.method, request.raw_path)
        if verdict is GatewayDecision.CALL and not self._recorder.has_room:
            return api_error.overloaded()
        call = CallInProgress(session_id, started_at=self._clock.now(), started_s=self._clock.monotonic())
        try:
            refusal = self._rejection(request, call)
            return refusal if refusal is not None else await self._forward(request, call)
        finally:
            if self._record_call(call, verdict):
                budget.consume_failure()

    def _record_call(self, call: CallInProgress, decision: GatewayDecision) -> bool:
        """Records a call. Returns whether it counts as a failure in the budget: it left a record without an answer."""
        if decision is not GatewayDecision.CALL:
            return call.has_failed
        row = call.to_model_call(ended_s=self._clock.monotonic())
        self._recorder.enqueue(row)
        return row.outcome is not CallOutcome.COMPLETED

    def _rejection(self, request: web.BaseRequest, call: CallInProgress) -> web.Response | None:
        """Returns the response to a request that is not forwarded; None for others.

        A body of unknown length is rejected, because it could not be limited in time.
        """
        if not self._upstream.is_usable:
            call.on_failure(CallOutcome.NOT_SENT, NO_KEY_ERROR)
            return api_error.no_key()
        if request.content_length is None and request.can_read_body:
            call.on_failure(CallOutcome.NOT_SENT, "the request does not say how long it is")
            return api_error.length_required()
        if (request.content_length or 0) > api_error.MAX_BODY_BYTES:
            call.on_failure(CallOutcome.NOT_SENT, TOO_LARGE_ERROR)
            return api_error.too_large()
        return None

    async def _forward(self, request: web.BaseRequest, call: CallInProgress) -> web.StreamResponse:
        try:
            answer = await self._send_upstream(request, call)
        except _UPSTREAM_ERRORS as error:
            cause = type(error).__name__
            log.warning("gateway_upstream_unreachable", session=call.session_id, host=self._upstream.host, cause=cause)
            call.on_failure(CallOutcome.UNREACHABLE, cause)
            if isinstance(error, _CONNECT_ERRORS):  # the client cannot be the cause
                self._health.report_problem(unreachable_problem(self._upstream, cause))
            return api_error.unreachable(self._upstream, cause)
        async with answer:
            call.on_response_start(answer.status, answer.content_type)
            self._health.record_response(answer.status, answer.content_type)
            if 300 <= answer.status < 400:
                log.warning("gateway_upstream_redirected", session=call.session_id, host=self._upstream.host)
                call.on_failure(CallOutcome.REJECTED, "the service answered with a redirect")
                return api_error.redirected(self._upstream)
            return await self._stream_response(request, answer, call)

    async def _send_upstream(self, request: web.BaseRequest, call: CallInProgress) -> aiohttp.ClientResponse:
        """Sends the request while its body arrives; returns when the status and headers of the answer are received."""
        return await self._http.request(
            request.method,
            URL(self._upstream.url_for(request.raw_path), encoded=True),
            headers=request_headers(request.headers, self._upstream.api_key),
            skip_auto_headers=("User-Agent", "Content-Type"),
            data=_request_chunks(request, call) if request.can_read_body else None,
            allow_redirects=False,
            auto_decompress=False,
            timeout=UPSTREAM_TIMEOUT,
        )

    async def _stream_response(
        self, request: web.BaseRequest, upstream_response: aiohttp.ClientResponse, call: CallInProgress
    ) -> web.StreamResponse:
        headers = response_headers(upstream_response.headers, upstream_response.status)
        response = web.StreamResponse(status=upstream_response.status, reason=upstream_response.reason, headers=headers)
        try:
            await response.prepare(request)
            async for chunk in _response_chunks(upstream_response):
                call.on_response_chunk(chunk)
                await response.write(chunk)
            call.on_response_end()
            await response.write_eof()
        except _ResponseTruncated as broken:
            log.warning(
                "gateway_response_truncated", session=call.session_id, host=self._upstream.host, cause=str(broken)
            )
            call.on_failure(CallOutcome.TRUNCATED, str(broken))
            # Closed without the last chunk, so that the client notices that the answer is incomplete.
            if request.transport is not None:
                request.transport.close()
        except ConnectionError:
            log.debug("gateway_client_disconnected", session=call.session_id)
        return response


class _ResponseTruncated(Exception):
    """The service ended its answer too early. A separate type, because the library raises the same errors when a client
    disconnects."""


async def _response_chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yields the bytes of the answer as soon as they arrive."""
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except _UPSTREAM_ERRORS as error:
        raise _ResponseTruncated(type(error).__name__) from error


async def _request_chunks(request: web.BaseRequest, call: CallInProgress) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_any():
        call.on_request_chunk(chunk)
        yield chunk

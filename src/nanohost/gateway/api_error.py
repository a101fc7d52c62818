"""Builds the gateway's own errors in the format of the Messages API, so that any client can report or retry them.

The sentences go into the container: none contains the key, a path of this machine or more of an address than its host.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

from nanohost.gateway.model_service import Upstream
from nanohost.gateway.request_policy import NO_RETRY_HEADERS

MAX_BODY_BYTES = 32 * 1024 * 1024
"""The Messages API's own limit for one request."""


def not_allowed(method: str, target: str) -> web.Response:
    path = target.partition("?")[0][:200]
    sentence = f"The gateway does not pass {method} {path}: only messages, token counts and models go through."
    return _error_response(403, "permission_error", sentence)


def no_key() -> web.Response:
    sentence = "The host has no key for the model: set ANTHROPIC_API_KEY for it, then try again."
    return _error_response(401, "authentication_error", sentence, NO_RETRY_HEADERS)


def too_large() -> web.Response:
    return _error_response(
        413, "request_too_large", f"The request is larger than {MAX_BODY_BYTES // 1024**2} MiB: send less at once."
    )


def length_required() -> web.Response:
    return _error_response(411, "invalid_request_error", "The request has no Content-Length: say how long its body is.")


def unreachable(upstream: Upstream, cause: str) -> web.Response:
    return _error_response(502, "api_error", f"The gateway got no answer from {upstream.host} ({cause}). Try again.")


def redirected(upstream: Upstream) -> web.Response:
    sentence = f"{upstream.host} answered with a redirect, which the gateway never follows: check the base URL."
    return _error_response(502, "api_error", sentence)


def too_many_requests(exceeded: str, retry_after_s: int) -> web.Response:
    sentence = f"This session asks for {exceeded}: try again in {retry_after_s} s."
    return _error_response(429, "rate_limit_error", sentence, {"Retry-After": str(retry_after_s)})


def overloaded() -> web.Response:
    sentence = "The host has too many model calls to write down, and makes no more until they are: try again."
    return _error_response(529, "overloaded_error", sentence, {"Retry-After": "5"})


def _error_response(status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}})
    return web.Response(status=status, text=body, content_type="application/json", headers=headers)

"""Checks whether the model can be called with this key at this address, by requests that cost nothing.

Requesting the list of models is free. A self-hosted service without such a list gets an empty message, which it must
refuse. `evaluate_*` are pure; no request is retried and no redirect followed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from nanohost.gateway.model_health import (
    InconclusiveCheck,
    ModelProblem,
    malformed_key_problem,
    missing_key_problem,
    rejected_key_problem,
    unreachable_problem,
    wrong_address_problem,
)
from nanohost.gateway.model_service import Upstream
from nanohost.gateway.request_policy import request_headers

MODELS_TARGET, MESSAGES_TARGET = "/v1/models?limit=1", "/v1/messages"
API_VERSION = "2023-06-01"
"""The API version that the service requires; its clients send this one."""
PROBE_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
MAX_RESPONSE_BYTES = 64 * 1024
"""Bytes of an answer that are read."""
MAX_ERROR_CHARS = 200
"""Characters of the service's error message that are kept."""
NOT_FOUND_STATUSES, REJECTED_STATUSES = {404, 405, 501}, {401, 403}
"""HTTP statuses. A key may permit only messages: if it does not permit the list, it is also tried with a message."""
INVALID_REQUEST_STATUSES = {400, 422}
"""HTTP statuses of a service that accepted the key and rejected the empty message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResponse:
    """An answer: its status, whether it is a JSON object, and its error message."""

    status: int
    is_object: bool = False
    error_message: str = ""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


async def probe(http: aiohttp.ClientSession, upstream: Upstream) -> ModelProblem | InconclusiveCheck | None:
    """Sends the requests and returns the problem; None if the model can be used."""
    if not upstream.is_usable:
        return missing_key_problem(upstream)
    if upstream.api_key and not _is_valid_header_value(upstream.api_key):
        return malformed_key_problem(upstream)
    try:
        heard = await _send_probe(http, upstream, "GET", MODELS_TARGET)
        if heard.status not in NOT_FOUND_STATUSES | REJECTED_STATUSES:
            return evaluate_models_response(heard, upstream)
        return evaluate_message_response(heard, await _send_probe(http, upstream, "POST", MESSAGES_TARGET), upstream)
    except TimeoutError:
        return unreachable_problem(upstream, f"no answer within {PROBE_TIMEOUT.total:g} s")
    except aiohttp.ClientConnectorError as error:
        return unreachable_problem(upstream, str(error.os_error.strerror or error.os_error))
    except aiohttp.ClientHttpProxyError as error:
        return unreachable_problem(upstream, f"the proxy answers {error.status}")
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        return unreachable_problem(upstream, "it closes the connection")
    except ValueError:  # also the library's error for an invalid address
        return wrong_address_problem(upstream, "it cannot be read as one")
    except (aiohttp.ClientError, OSError) as error:
        return wrong_address_problem(upstream, f"what answers there speaks no HTTP ({type(error).__name__})")


def _is_valid_header_value(key: str) -> bool:
    return key.isascii() and key.isprintable() and " " not in key


def evaluate_models_response(response: ProbeResponse, upstream: Upstream) -> ModelProblem | InconclusiveCheck | None:
    """Evaluates the answer to the request for the list of models."""
    if response.is_success:
        return (
            None
            if response.is_object
            else wrong_address_problem(upstream, "a page answers there, and no list of models")
        )
    return _evaluate_error(response, upstream)


def evaluate_message_response(
    models_response: ProbeResponse, response: ProbeResponse, upstream: Upstream
) -> ModelProblem | InconclusiveCheck | None:
    """Evaluates the answer to an empty message, sent because there was no list of models."""
    if response.status in NOT_FOUND_STATUSES and models_response.status in REJECTED_STATUSES:
        return _evaluate_error(models_response, upstream)
    if response.status in NOT_FOUND_STATUSES:
        return wrong_address_problem(upstream, f"neither models nor messages are there ({response.status})")
    if response.is_success and not response.is_object:
        return wrong_address_problem(upstream, "a page answers there, and no model")
    if response.is_success or response.status in INVALID_REQUEST_STATUSES:
        return None
    return _evaluate_error(response, upstream)


def _evaluate_error(response: ProbeResponse, upstream: Upstream) -> ModelProblem | InconclusiveCheck:
    if response.status in REJECTED_STATUSES:
        return rejected_key_problem(upstream, response.status, response.error_message)
    if 300 <= response.status < 400:
        return wrong_address_problem(upstream, "it answers with a redirect, which is never followed")
    return InconclusiveCheck(status=response.status)


async def _send_probe(http: aiohttp.ClientSession, upstream: Upstream, method: str, target: str) -> ProbeResponse:
    body = b"{}" if method == "POST" else None
    given = CIMultiDict({"anthropic-version": API_VERSION, "content-type": "application/json"})
    async with http.request(
        method,
        URL(upstream.url_for(target), encoded=True),
        headers=request_headers(given, upstream.api_key),
        data=body,
        allow_redirects=False,
        timeout=PROBE_TIMEOUT,
    ) as answer:
        content = await answer.content.read(MAX_RESPONSE_BYTES)
    return _parse_response(answer.status, content, upstream.api_key or "")


def _parse_response(status: int, content: bytes, key: str) -> ProbeResponse:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        # A long list of models may be cut; a web page begins differently.
        return ProbeResponse(status=status, is_object=content.lstrip()[:1] == b"{")
    error = found.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    words = "".join(char for char in message if char.isprintable()) if isinstance(message, str) else ""
    return ProbeResponse(
        status=status,
        is_object=True,
        error_message=words.replace(key, "…")[:MAX_ERROR_CHARS] if key else words[:MAX_ERROR_CHARS],
    )

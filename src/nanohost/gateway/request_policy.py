"""Decides which requests and headers of a container may pass. Everything else is rejected.

Pure: takes a method and a request target, returns a decision.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from multidict import CIMultiDict, MultiMapping


class GatewayDecision(Enum):
    """What the gateway does with a request."""

    CALL = auto()
    """Forward, and record it as a model call."""
    FORWARD = auto()
    """Forward without a record: it costs almost nothing."""
    PROBE = auto()
    """Answer with an empty 200 without forwarding: clients check by this whether the server is reachable."""
    REJECT = auto()


_ALLOWED_REQUESTS = {
    ("POST", "/v1/messages"): GatewayDecision.CALL,
    ("POST", "/v1/messages/count_tokens"): GatewayDecision.FORWARD,
    ("GET", "/v1/models"): GatewayDecision.FORWARD,
    ("HEAD", "/"): GatewayDecision.PROBE,
    ("GET", "/"): GatewayDecision.PROBE,
    ("GET", "/api/hello"): GatewayDecision.PROBE,
}

_SINGLE_MODEL_PATH = re.compile(r"/v1/models/[A-Za-z0-9][A-Za-z0-9._:@-]*")


def decide(method: str, target: str) -> GatewayDecision:
    """Decides on a request line. `target` is compared as it was sent: nothing is decoded, joined or normalised, so that
    no path can look allowed here and be another one upstream."""
    path = target.partition("?")[0]
    if method == "GET" and _SINGLE_MODEL_PATH.fullmatch(path):
        return GatewayDecision.FORWARD
    return _ALLOWED_REQUESTS.get((method, path), GatewayDecision.REJECT)


Headers = CIMultiDict[str]

_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_EXCLUDED_REQUEST_HEADERS = _HOP_BY_HOP | {"authorization", "x-api-key", "cookie", "host", "accept-encoding", "expect"}
_EXCLUDED_RESPONSE_HEADERS = _HOP_BY_HOP | {"content-length", "set-cookie", "server", "alt-svc"}

_BETA_HEADER = "anthropic-beta"
_OAUTH_PREFIX = "sk-ant-oat"
_OAUTH_BETA = "oauth-2025-04-20"
"""The service accepts a subscription's token only with this header value."""

NO_RETRY_HEADERS = {"x-should-retry": "false"}
"""Sent with every 401. Clients retry a 401 for minutes, in case their key is being renewed; here the key is the host's,
so a retry only makes people wait."""


def request_headers(received: MultiMapping[str], api_key: str | None) -> Headers:
    """Returns the headers for the service: the client's without credentials and transport headers, plus the key.

    They request an uncompressed answer: usage is read from the bytes as they pass.
    """
    headers = _filter_headers(received, _EXCLUDED_REQUEST_HEADERS)
    headers["Accept-Encoding"] = "identity"
    if api_key and api_key.startswith(_OAUTH_PREFIX):
        betas = [beta for value in headers.popall(_BETA_HEADER, []) for beta in value.split(",")]
        headers[_BETA_HEADER] = ",".join(dict.fromkeys([*betas, _OAUTH_BETA]))
        headers["Authorization"] = f"Bearer {api_key}"
    elif api_key:
        headers["x-api-key"] = api_key
    return headers


def response_headers(received: MultiMapping[str], status: int) -> Headers:
    """Returns the headers for the client, without length and framing, which the gateway sets."""
    headers = _filter_headers(received, _EXCLUDED_RESPONSE_HEADERS)
    if status == 401:
        headers.update(NO_RETRY_HEADERS)
    return headers


def _filter_headers(received: MultiMapping[str], excluded: set[str]) -> Headers:
    """Removes the excluded headers, those that `Connection` names, and those that cannot be sent unchanged."""
    named = {name.strip().lower() for value in received.getall("connection", []) for name in value.split(",")}
    return CIMultiDict(
        (name, value)
        for name, value in received.items()
        if name.lower() not in excluded | named and value.isascii() and value.isprintable()
    )

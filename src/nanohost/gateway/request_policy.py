"""Says which requests and headers of a container may pass. Everything else is rejected.

Pure: a method and a request target in, a verdict out.
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
    """Forward; costs nothing worth a row."""
    PROBE = auto()
    """Answer here with an empty 200: clients ask this to see whether anybody is there."""
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
    """The verdict on a request line. `target` is taken as it was sent: nothing is decoded, joined or normalised,
    so nothing can look like an allowed path and be another one upstream."""
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
"""The service takes a subscription's token only from clients that send this."""

NO_RETRY_HEADERS = {"x-should-retry": "false"}
"""Goes with every 401. Clients try one again for minutes, in case their key is being renewed; here the key is not
theirs, so trying again only keeps a person waiting."""


def request_headers(received: MultiMapping[str], api_key: str | None) -> Headers:
    """What goes to the service: the client's headers less credentials and transport, plus the key.

    The answer is asked for uncompressed: usage is read from the bytes as they pass.
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
    """What goes to the client. Length and framing are the gateway's own business."""
    headers = _filter_headers(received, _EXCLUDED_RESPONSE_HEADERS)
    if status == 401:
        headers.update(NO_RETRY_HEADERS)
    return headers


def _filter_headers(received: MultiMapping[str], excluded: set[str]) -> Headers:
    """Without what is listed, what `Connection` names, and what could not be sent again as it came."""
    named = {name.strip().lower() for value in received.getall("connection", []) for name in value.split(",")}
    return CIMultiDict(
        (name, value)
        for name, value in received.items()
        if name.lower() not in excluded | named and value.isascii() and value.isprintable()
    )

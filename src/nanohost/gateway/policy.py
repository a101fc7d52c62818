"""What a container may ask of the model service, as one table. Everything that is not in it is refused.

Pure: a method and a request target in, a verdict out.
"""

from __future__ import annotations

import re
from enum import Enum, auto


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

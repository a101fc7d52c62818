"""What a container may ask of the model service, as one table. Everything that is not in it is refused.

Pure: a method and a request target in, a verdict out.
"""

from __future__ import annotations

import re
from enum import Enum, auto


class Verdict(Enum):
    """What the gateway does with a request."""

    CALL = auto()
    """Forward, and record it as a model call."""
    FORWARD = auto()
    """Forward; costs nothing worth a row."""
    PROBE = auto()
    """Answer here with an empty 200: clients ask this to see whether anybody is there."""
    REFUSE = auto()


_ALLOWED = {
    ("POST", "/v1/messages"): Verdict.CALL,
    ("POST", "/v1/messages/count_tokens"): Verdict.FORWARD,
    ("GET", "/v1/models"): Verdict.FORWARD,
    ("HEAD", "/"): Verdict.PROBE,
    ("GET", "/"): Verdict.PROBE,
    ("GET", "/api/hello"): Verdict.PROBE,
}

_ONE_MODEL = re.compile(r"/v1/models/[A-Za-z0-9][A-Za-z0-9._:@-]*")


def judge(method: str, target: str) -> Verdict:
    """The verdict on a request line. `target` is taken as it was sent: nothing is decoded, joined or normalised,
    so nothing can look like an allowed path and be another one upstream."""
    path = target.partition("?")[0]
    if method == "GET" and _ONE_MODEL.fullmatch(path):
        return Verdict.FORWARD
    return _ALLOWED.get((method, path), Verdict.REFUSE)

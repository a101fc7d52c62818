"""What is known of the providers: whether one runs tools of its own, beside ours. Host and runner agree on it here.

Our own tools write rows for the host to judge. A provider's own ones run programs and change files where the runner
runs, so the host asks before it starts a runner with nothing around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class OwnTools(StrEnum):
    """A provider's own tools."""

    NONE = "none"
    """It has none."""
    ON_REQUEST = "on_request"
    """It has none when `[agent] tools` is none."""
    ALWAYS = "always"
    """It may run them whatever is asked of it. So may one that is not known."""


KNOWN: Mapping[str, OwnTools] = {
    "claude": OwnTools.ON_REQUEST,
    "demo": OwnTools.NONE,
    "scripted": OwnTools.NONE,
}
"""By name. A provider that is missing here is never started without a sandbox, unless the operator allows it."""


def may_run_tools(provider: str, tools: str) -> bool:
    """Whether this provider, with this `[agent] tools` (all or none), may run tools of its own."""
    own = KNOWN.get(provider, OwnTools.ALWAYS)
    return own is OwnTools.ALWAYS or (own is OwnTools.ON_REQUEST and tools != "none")

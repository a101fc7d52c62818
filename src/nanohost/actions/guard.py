"""Whether a request may be carried out: the one place that is asked before every effect. Pure.

Nobody's request needs a person's word yet: a session's agent can only reach what is its session's own.
"""

from __future__ import annotations

from collections.abc import Callable

from nanohost.actions.registry import Action, Request

Guard = Callable[[Request, Action], str | None]
"""Why the request may not be carried out, in a sentence for the agent, or None."""


def everything(request: Request, action: Action) -> str | None:
    """Every action is allowed: each limits itself to the asking session."""
    del request, action
    return None

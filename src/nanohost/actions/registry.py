"""What an agent can ask of the host: one registry. An action is its name, a model of its arguments and an effect.

Files in this package hold one subject's actions each, in a tuple ACTIONS; a new file is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nanohost.errors import UsageError
from nanohost.model import SessionId
from nanohost.store.database import Transaction
from nanohost_protocol.rows import Origin

HELPERS = {"actions", "guard", "notice", "registry"}
"""Modules of this package that hold no actions."""


class Arguments(BaseModel):
    """What an action takes. Strict: a container wrote it, and nothing is guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who asks, when, and where answers go: the host's own knowledge. `id` is the outbound row's; `timezone` the zone
    that times without one are in."""

    session: SessionId
    id: str
    origin: Origin | None
    asked_at: datetime
    now: datetime
    timezone: str


Effect = Callable[[Transaction, Request, Any], Awaitable[str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """`effect` changes the central database inside the transaction it is given, and nothing else: it is committed
    together with the mark that it was done. It returns what the agent is to be told, or None if it need not know, and
    raises UsageError, whose sentence the agent reads, for what cannot be done as asked."""

    name: str
    arguments: type[Arguments]
    effect: Effect

    async def carry_out(self, tx: Transaction, request: Request, arguments: str) -> str | None:
        """Check the arguments, JSON text, and do it. Raises UsageError."""
        return await self.effect(tx, request, self._checked(arguments))

    def _checked(self, arguments: str) -> Arguments:
        try:
            return self.arguments.model_validate_json(arguments)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])[:80]
            raise UsageError(f"its arguments are wrong: {f'{place}: ' if place else ''}{first['msg'][:200]}") from None


@cache
def registered() -> dict[str, Action]:
    """All actions by name."""
    import nanohost.actions as package

    found: dict[str, Action] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in HELPERS:
            loaded = importlib.import_module(f"{package.__name__}.{module.name}")
            found.update({action.name: action for action in loaded.ACTIONS})
    return dict(sorted(found.items()))


def find(name: str) -> Action:
    """Raises UsageError for a name that is none."""
    if name not in registered():
        raise UsageError(f"there is no action {name[:80]!r}")
    return registered()[name]

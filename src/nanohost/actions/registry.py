"""The registry of actions. An action is a name, a model of its arguments, whether it needs an approval, and an effect.

Each file in this package holds the actions of one subject in a tuple ACTIONS, and is found by itself. The actions of an
install's own files are registered while its host runs.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nanohost.db.database import Queries, Transaction
from nanohost.errors import ExtensionError, UsageError
from nanohost.extensions.host_loader import load_extensions
from nanohost.guard.guard import Permission
from nanohost.model import AgentGroup, SessionId
from nanohost.text.translation import _
from nanohost_protocol.rows import Origin

HELPER_MODULES = {"agent_notice", "approval_requests", "executor", "policy", "registry"}
"""Modules of this package that hold no actions."""
ANY_SCOPE = "any"
"""The scope of an action whose rules do not depend on its arguments."""


class Arguments(BaseModel):
    """The arguments of an action. Strict, because a container wrote them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """Who made the request, when, and where answers go, by the host's own data. `request_id`: of the outbound row;
    `timezone`: for times without one. `approved_by`: the person who approved it, or the agent itself, as in the audit
    log."""

    session_id: SessionId
    agent_group: AgentGroup
    request_id: str
    origin: Origin | None
    asked_at: datetime
    now: datetime
    timezone: str
    approved_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSummary:
    """What a request would do, by the host's present data, for the approver.

    `title`: what it does, in Markdown, with quoted text by `quoting.name`. `scope`: the scope of a rule for next time.
    `scope_words`: the scope in plain text for people; "" if the effect is permanent, so that a temporary permission
    makes no sense. `affects_other_groups`: it concerns more than the requesting agent group, whose admins alone may not
    decide it.
    """

    title: str
    scope: str
    scope_words: str = ""
    affects_other_groups: bool = False


Effect = Callable[[Transaction, ActionRequest, Any], Awaitable[str | None]]
Summarize = Callable[[Queries, ActionRequest, Any], Awaitable[RequestSummary]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An action that agents can request.

    `effect` changes only the central database, inside the given transaction: it is committed together with the mark
    that it was done, and may be rolled back and repeated. It returns the text for the agent, or None if it need not
    know, and raises UsageError, whose sentence the agent reads, if it is not possible.

    `title`: what it does, for people. `default_permission`: whether it needs an approval, unless the operator sets
    something else. `summarize`: describes a single request, if the title is not enough; raises UsageError like the
    effect. `changes_addresses`: it changes where agents may send.
    """

    name: str
    title: str
    arguments: type[Arguments]
    effect: Effect
    default_permission: Permission = Permission.ALLOW
    summarize: Summarize | None = None
    changes_addresses: bool = False

    async def build_summary(self, db: Queries, request: ActionRequest, arguments: Arguments) -> RequestSummary:
        """Returns the summary of this request. Raises UsageError."""
        if self.summarize is not None:
            return await self.summarize(db, request, arguments)
        words = _(
            "{action}, whatever its arguments, in all conversations of {agent}",
            action=self.name,
            agent=request.agent_group.folder,
        )
        return RequestSummary(title=self.title, scope=ANY_SCOPE, scope_words=words)

    def parse_arguments(self, arguments_json: str) -> Arguments:
        """Parses the arguments, JSON text of a container. Raises UsageError."""
        try:
            return self.arguments.model_validate_json(arguments_json)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])[:80]
            raise UsageError(f"its arguments are wrong: {f'{place}: ' if place else ''}{first['msg'][:200]}") from None


@cache
def registered_actions() -> dict[str, Action]:
    """Returns all actions by name."""
    import nanohost.actions as package

    found: dict[str, Action] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in HELPER_MODULES:
            loaded = importlib.import_module(f"{package.__name__}.{module.name}")
            found.update({action.name: action for action in loaded.ACTIONS})
    return dict(sorted(found.items()))


def get_action(name: str) -> Action:
    """Returns the action of this name. Raises UsageError if there is none."""
    if name not in registered_actions():
        raise UsageError(f"there is no action {name[:80]!r}")
    return registered_actions()[name]


@asynccontextmanager
async def extensions_loaded(folder: Path) -> AsyncIterator[None]:
    """Registers the actions of an install's own files while entered."""
    own = await asyncio.to_thread(_load_extensions, folder)
    registered_actions().update(own)
    try:
        yield
    finally:
        for name in own:
            registered_actions().pop(name, None)


def extension_names(folder: Path) -> Collection[str]:
    """Returns the names of the actions of an install's own files, which it imports. Logs a file that is unusable."""
    return _load_extensions(folder).keys()


def _load_extensions(folder: Path) -> dict[str, Action]:
    own: dict[str, Action] = {}

    def take(held: object) -> None:
        """Adds all actions of a file, or none of them."""
        actions = held if isinstance(held, tuple) else ()
        found = {action.name: action for action in actions if isinstance(action, Action)}
        if not found or len(found) != len(actions):
            raise ExtensionError("ACTIONS is no tuple of actions with a name each", hint="ACTIONS = (Action(...),)")
        if taken := sorted(found.keys() & (registered_actions().keys() | own.keys())):
            raise ExtensionError(f"there is an action {', '.join(taken)} already", hint="give it another name")
        own.update(found)

    load_extensions("action", folder, "ACTIONS", take)
    return own

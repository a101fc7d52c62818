"""The registry of actions. An action is a name, a model of its arguments, whether it needs an approval, and an effect.

Files in this package hold one subject's actions each, in a tuple ACTIONS; a new file is found by itself. Those of an
install's own are there while its host is.
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
from nanohost.extensions.host_files import load_extensions
from nanohost.guard.guard import Permission
from nanohost.model import AgentGroup, SessionId
from nanohost.text.translation import _
from nanohost_protocol.rows import Origin

HELPER_MODULES = {"agent_notice", "approval_requests", "executor", "policy", "registry"}
"""Modules of this package that hold no actions."""
ANY_SCOPE = "any"
"""The scope of what is not told apart by its arguments."""


class Arguments(BaseModel):
    """What an action takes. Strict: a container wrote it, and nothing is guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRequest:
    """Who asks, when, and where answers go: the host's own knowledge. `request_id` is the outbound row's; `timezone`
    the zone that times without one are in. `approved_by`: the person who approved it, or the agent itself, as the
    record names them."""

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
    """What a request comes to, by the host's knowledge of now, for the person who is asked. `title` says what it is, in
    Markdown, with others' words by `quoting.name`; `scope` is what a rule for next time would be about, `scope_words`
    the same for a person, in plain text; "" for what lasts by itself, where a permission that ends would be none.
    `affects_other_groups`: it is about more than the asking agent group, whose admins alone do not decide it."""

    title: str
    scope: str
    scope_words: str = ""
    affects_other_groups: bool = False


Effect = Callable[[Transaction, ActionRequest, Any], Awaitable[str | None]]
Summarize = Callable[[Queries, ActionRequest, Any], Awaitable[RequestSummary]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """`effect` changes the central database inside the transaction it is given, and nothing else: it is committed
    together with the mark that it was done, and may be undone and done again. It returns what the agent is to be
    told, or None if it need not know, and raises UsageError, whose sentence the agent reads, for what cannot be done.

    `title`: what it does, for people. `default_permission`: whether a person has to approve it where the operator set
    nothing. `summarize`: what this very request comes to, where the title does not say it; raises UsageError like the
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
        """What this request comes to. Raises UsageError."""
        if self.summarize is not None:
            return await self.summarize(db, request, arguments)
        words = _(
            "{action}, whatever its arguments, in all conversations of {agent}",
            action=self.name,
            agent=request.agent_group.folder,
        )
        return RequestSummary(title=self.title, scope=ANY_SCOPE, scope_words=words)

    def parse_arguments(self, arguments_json: str) -> Arguments:
        """The arguments, JSON text of a container. Raises UsageError."""
        try:
            return self.arguments.model_validate_json(arguments_json)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])[:80]
            raise UsageError(f"its arguments are wrong: {f'{place}: ' if place else ''}{first['msg'][:200]}") from None


@cache
def registered_actions() -> dict[str, Action]:
    """All actions by name."""
    import nanohost.actions as package

    found: dict[str, Action] = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in HELPER_MODULES:
            loaded = importlib.import_module(f"{package.__name__}.{module.name}")
            found.update({action.name: action for action in loaded.ACTIONS})
    return dict(sorted(found.items()))


def get_action(name: str) -> Action:
    """Raises UsageError for a name that is none."""
    if name not in registered_actions():
        raise UsageError(f"there is no action {name[:80]!r}")
    return registered_actions()[name]


@asynccontextmanager
async def extensions_loaded(folder: Path) -> AsyncIterator[None]:
    """Have the actions of an install's own files found, too, while entered."""
    own = await asyncio.to_thread(_load_extensions, folder)
    registered_actions().update(own)
    try:
        yield
    finally:
        for name in own:
            registered_actions().pop(name, None)


def extension_names(folder: Path) -> Collection[str]:
    """The actions of an install's own files, which are imported for that. A file that is unusable is logged."""
    return _load_extensions(folder).keys()


def _load_extensions(folder: Path) -> dict[str, Action]:
    own: dict[str, Action] = {}

    def take(held: object) -> None:
        """All of a file, or nothing of it."""
        actions = held if isinstance(held, tuple) else ()
        found = {action.name: action for action in actions if isinstance(action, Action)}
        if not found or len(found) != len(actions):
            raise ExtensionError("ACTIONS is no tuple of actions with a name each", hint="ACTIONS = (Action(...),)")
        if taken := sorted(found.keys() & (registered_actions().keys() | own.keys())):
            raise ExtensionError(f"there is an action {', '.join(taken)} already", hint="give it another name")
        own.update(found)

    load_extensions("action", folder, "ACTIONS", take)
    return own

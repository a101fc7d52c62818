"""Defines the type of host commands: typed in any chat, wired or not, and on the command line.

A host command changes only the central database, in the given transaction, so that it takes effect once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from pydantic import ValidationError

from nanohost.arguments import CommandArguments
from nanohost.chat_commands.command import RequiredRole
from nanohost.db import audit
from nanohost.db.database import ReportReader, Transaction
from nanohost.db.roles import RoleGrant
from nanohost.errors import UsageError
from nanohost.model import Role
from nanohost.text.translation import _, lazy_gettext
from nanohost_protocol.rows import Origin


def is_permitted(required: RequiredRole, roles: Collection[Role]) -> bool:
    """Returns whether any of these roles, for any agent, permits the command."""
    match required:
        case RequiredRole.ANYONE:
            return True
        case RequiredRole.ANY_ROLE:
            return bool(roles)
        case RequiredRole.ADMIN:
            return not {Role.OWNER, Role.ADMIN}.isdisjoint(roles)
        case RequiredRole.OWNER:
            return Role.OWNER in roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The person who gives a command. `id`: as in the audit log, a user, or `local:NAME` for a user of the machine,
    who may do everything. `chat`: where they typed it; `is_direct`: nobody else reads it there."""

    id: str
    name: str
    grants: Sequence[RoleGrant] = ()
    is_local: bool = False
    chat: Origin | None = None
    is_direct: bool = True

    @property
    def origin(self) -> str:
        """Where they typed it, as in the audit log."""
        return audit.LOCAL if self.chat is None else audit.chat_origin(self.chat)

    def command_text(self, name: str) -> str:
        """Returns a host command in the form for a chat or for a shell, as the actor types it."""
        return f"nanohost {name}" if self.is_local else f"/{name}"

    def has_role(self, required: RequiredRole) -> bool:
        """Returns whether the actor has the required role. Being admin of one agent group is enough for ADMIN."""
        return self.is_local or is_permitted(required, [grant.role for grant in self.grants])


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCommandInvocation:
    """The context of a command. `zone`: the time zone of times that people read. `channels`: the names of the
    configured channels. `channel_problem`: returns why a channel is not connected, empty if it is. `prefetched`: the
    result of the command's `prefetch`."""

    tx: Transaction
    actor: Actor
    now: datetime
    zone: tzinfo
    channels: Collection[str] = ()
    channel_problem: Callable[[str], str] = lambda _: ""
    prefetched: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCommand:
    """A host command.

    `execute` returns the reply. It raises UsageError, whose sentence the actor reads, before it changes anything.
    `prefetch` reads what may take long, before the transaction, so that no writer waits for it.

    In a chat arguments are typed in the order of the model's fields, one word each, and the rest for the last one.
    `is_direct_only`: in a chat it works only in direct messages. `is_in_shell`: it is also a command of `nanohost`.
    `is_in_help`: /help lists it. `json_data`: returns the reply as data for programs (--json), after `execute`.
    """

    name: str
    help: str
    example: str
    execute: Callable[[HostCommandInvocation, Any], Awaitable[str]]
    arguments: type[CommandArguments] = CommandArguments
    required_role: RequiredRole = RequiredRole.ANYONE
    is_direct_only: bool = False
    is_in_shell: bool = True
    is_in_help: bool = True
    prefetch: Callable[[ReportReader, datetime, tzinfo], Awaitable[Any]] | None = None
    json_data: Callable[[HostCommandInvocation], Awaitable[Mapping[str, object]]] | None = None

    async def run_prefetch(self, reports: ReportReader, now: datetime, zone: tzinfo) -> Any:
        """Returns what `execute` gets as `invocation.prefetched`. Raises StoreError."""
        return None if self.prefetch is None else await self.prefetch(reports, now, zone)

    def parse_arguments(self, arguments_text: str) -> CommandArguments:
        """Parses the text after the command's name in a chat. Raises UsageError."""
        fields = list(self.arguments.model_fields)
        if arguments_text and not fields:
            raise UsageError(lazy_gettext("/{name} takes no arguments", name=self.name))
        parts = arguments_text.split(maxsplit=len(fields) - 1) if arguments_text else []
        try:
            return self.arguments.model_validate(dict(zip(fields, parts, strict=False)))
        except ValidationError as error:
            missing = error.errors()[0]
            place = ".".join(str(part) for part in missing["loc"])
            description = self.arguments.model_fields[place].description if place in fields else None
            problem: str = missing["msg"]
            if missing["type"] == "missing":
                problem = lazy_gettext("/{name} needs {what}", name=self.name, what=lazy_gettext(description or place))
            raise UsageError(problem, hint=self.example) from None


def refusal_text(command: HostCommand) -> str:
    """Returns the reply to somebody who may not use the command."""
    match command.required_role:
        case RequiredRole.OWNER:
            return _("Only an owner may use /{name}.", name=command.name)
        case RequiredRole.ADMIN:
            return _("Only an admin may use /{name}.", name=command.name)
        case RequiredRole.ANYONE | RequiredRole.ANY_ROLE:
            return _("Only somebody with a role may use /{name}.", name=command.name)

"""The type of a command about the host: typed in any chat, wired or not, and on the command line.

What one does is done in the central database, in the transaction it is given, and nowhere else: it happens once.
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
    """Whether a command for these people is for somebody with these roles, wherever they have them."""
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
    """Who gives a command. `id` as the record names them: a user, or `local:NAME` for somebody at the machine itself,
    who may do everything. `chat`: where they typed it; `is_direct`: nobody else reads it there."""

    id: str
    name: str
    grants: Sequence[RoleGrant] = ()
    is_local: bool = False
    chat: Origin | None = None
    is_direct: bool = True

    @property
    def origin(self) -> str:
        """Where they typed it, as the record says it."""
        return audit.LOCAL if self.chat is None else audit.chat_origin(self.chat)

    def command_text(self, name: str) -> str:
        """A command of the host as it is typed where they are."""
        return f"nanohost {name}" if self.is_local else f"/{name}"

    def has_role(self, required: RequiredRole) -> bool:
        """Whether a command for these people is for this one. An admin of one agent group is one here."""
        return self.is_local or is_permitted(required, [grant.role for grant in self.grants])


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCommandInvocation:
    """What a command works with. `zone` is that of the times people read, `channels` are the names of those that are
    set up, `channel_problem` says of one why nobody is heard there now (empty: they are), `prefetched` is what the
    command's `look` found."""

    tx: Transaction
    actor: Actor
    now: datetime
    zone: tzinfo
    channels: Collection[str] = ()
    channel_problem: Callable[[str], str] = lambda _: ""
    prefetched: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCommand:
    """`execute` returns what is said to whoever gave the command. It raises UsageError, whose sentence they read,
    before it changes anything. `prefetch` reads what may take long, before the transaction: nobody who writes waits for
    it.

    In a chat arguments are typed in the order of the model's fields, a word each, all the rest for the last one.
    `is_direct_only`: in a chat it is for direct messages alone. `is_in_shell`: it is a command of `nanohost`, too.
    `is_in_help`: /help tells of it. `json_data`: what the answer says, for a program (--json); asked for when it is
    carried out.
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
        """What `carry_out` gets as `asked.seen`. Raises StoreError."""
        return None if self.prefetch is None else await self.prefetch(reports, now, zone)

    def parse_arguments(self, arguments_text: str) -> CommandArguments:
        """What stands behind the name in a chat. Raises UsageError."""
        fields = list(self.arguments.model_fields)
        if arguments_text and not fields:
            raise UsageError(lazy_gettext("/{name} takes no arguments", name=self.name))
        parts = arguments_text.split(maxsplit=len(fields) - 1) if arguments_text else []
        try:
            return self.arguments.model_validate(dict(zip(fields, parts, strict=False)))
        except ValidationError as error:
            missing = error.errors()[0]
            place = ".".join(str(part) for part in missing["loc"])
            told = self.arguments.model_fields[place].description if place in fields else None
            said: str = missing["msg"]
            if missing["type"] == "missing":
                said = lazy_gettext("/{name} needs {what}", name=self.name, what=lazy_gettext(told or place))
            raise UsageError(said, hint=self.example) from None


def refusal_text(command: HostCommand) -> str:
    """What somebody is told for whom the command is not."""
    match command.required_role:
        case RequiredRole.OWNER:
            return _("Only an owner may use /{name}.", name=command.name)
        case RequiredRole.ADMIN:
            return _("Only an admin may use /{name}.", name=command.name)
        case RequiredRole.ANYONE | RequiredRole.ANY_ROLE:
            return _("Only somebody with a role may use /{name}.", name=command.name)

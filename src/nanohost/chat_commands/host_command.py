"""Commands that are about the host and no conversation: typed in any chat, wired or not, and on the command line alike.

What one does is done in the central database, in the transaction it is given, and nowhere else: it happens once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from pydantic import ValidationError

from nanohost.arguments import Arguments
from nanohost.chat_commands.command import Who
from nanohost.errors import UsageError
from nanohost.model import Role
from nanohost.store import audit
from nanohost.store.database import Reports, Transaction
from nanohost.store.roles import Grant
from nanohost_protocol.rows import Origin


def is_for(who: Who, roles: Collection[Role]) -> bool:
    """Whether a command for these people is for somebody with these roles, wherever they have them."""
    match who:
        case Who.ANYONE:
            return True
        case Who.KNOWN:
            return bool(roles)
        case Who.ADMIN:
            return not {Role.OWNER, Role.ADMIN}.isdisjoint(roles)
        case Who.OWNER:
            return Role.OWNER in roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who gives a command. `who` as the record names them: a user, or `local:NAME` for somebody at the machine itself,
    who may do everything. `place`: where they typed it; `is_private`: nobody else reads it there."""

    who: str
    name: str
    grants: Sequence[Grant] = ()
    is_local: bool = False
    place: Origin | None = None
    is_private: bool = True

    @property
    def origin(self) -> str:
        """Where they typed it, as the record says it."""
        return audit.LOCAL if self.place is None else audit.chat(self.place)

    def types(self, name: str) -> str:
        """A command of the host as it is typed where they are."""
        return f"nanohost {name}" if self.is_local else f"/{name}"

    def may(self, who: Who) -> bool:
        """Whether a command for these people is for this one. An admin of one agent group is one here."""
        return self.is_local or is_for(who, [grant.role for grant in self.grants])


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAsked:
    """What a command works with. `zone` is that of the times people read, `channels` are the names of those that are
    set up, `trouble_of` says of one why nobody is heard there now (empty: they are), `seen` is what the command's
    `look` found."""

    tx: Transaction
    actor: Actor
    now: datetime
    zone: tzinfo
    channels: Collection[str] = ()
    trouble_of: Callable[[str], str] = lambda _: ""
    seen: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCommand:
    """`carry_out` returns what is said to whoever gave the command. It raises UsageError, whose sentence they read,
    before it changes anything. `look` reads what may take long, before the transaction: nobody who writes waits for it.

    In a chat arguments are typed in the order of the model's fields, a word each, all the rest for the last one.
    `private`: in a chat it is for direct messages alone. `in_shell`: it is a command of `nanohost`, too.
    `shown`: /help tells of it. `data`: what the answer says, for a program (--json); asked for when it is carried out.
    """

    name: str
    help: str
    example: str
    carry_out: Callable[[HostAsked, Any], Awaitable[str]]
    arguments: type[Arguments] = Arguments
    who: Who = Who.ANYONE
    private: bool = False
    in_shell: bool = True
    shown: bool = True
    look: Callable[[Reports, datetime, tzinfo], Awaitable[Any]] | None = None
    data: Callable[[HostAsked], Awaitable[Mapping[str, object]]] | None = None

    async def seen(self, reports: Reports, now: datetime, zone: tzinfo) -> Any:
        """What `carry_out` gets as `asked.seen`. Raises StoreError."""
        return None if self.look is None else await self.look(reports, now, zone)

    def typed(self, words: str) -> Arguments:
        """What stands behind the name in a chat. Raises UsageError."""
        fields = list(self.arguments.model_fields)
        if words and not fields:
            raise UsageError(f"/{self.name} stands alone")
        parts = words.split(maxsplit=len(fields) - 1) if words else []
        try:
            return self.arguments.model_validate(dict(zip(fields, parts, strict=False)))
        except ValidationError as error:
            missing = error.errors()[0]
            place = ".".join(str(part) for part in missing["loc"])
            told = self.arguments.model_fields[place].description if place in fields else None
            said = f"/{self.name} needs {told or place}" if missing["type"] == "missing" else missing["msg"]
            raise UsageError(said, hint=self.example) from None


def refusal(command: HostCommand) -> str:
    """What somebody is told for whom the command is not."""
    whom = {Who.OWNER: "an owner", Who.ADMIN: "an admin"}.get(command.who, "somebody with a role")
    return f"Only {whom} may use /{command.name}."

"""Roles: who may talk to which agent."""

from __future__ import annotations

import re

from pydantic import Field

from nanohost.commands.context import CommandContext
from nanohost.commands.registry import Arguments, Command
from nanohost.commands.setup import known_group
from nanohost.commands.show import Json
from nanohost.errors import UsageError
from nanohost.model import AgentGroupId, Role
from nanohost.store import agent_groups, roles

USER = re.compile(r"[a-z][a-z0-9_-]*:.+")


class List(Arguments):
    """Nothing to say."""


class Change(Arguments):
    user: str = Field(description="CHANNEL:HANDLE, as in telegram:123456")
    role: Role = Field(description="owner, admin or member")
    group: str | None = Field(None, description="only in this agent group (default: everywhere)")


async def _list(context: CommandContext, arguments: List) -> Json:
    folders = {group.id: group.folder for group in await agent_groups.every(context.store)}
    return [
        {
            "user": grant.user_id,
            "role": str(grant.role),
            "group": "everywhere" if grant.agent_group_id is None else folders[grant.agent_group_id],
            "since": grant.granted_at.isoformat(timespec="seconds"),
        }
        for grant in await roles.every(context.store)
    ]


async def _grant(context: CommandContext, arguments: Change) -> Json:
    group = await _scope(context, arguments)
    async with context.store.transaction() as tx:
        new = await roles.grant(
            tx, user_id=arguments.user, role=arguments.role, agent_group=group, now=context.clock.now()
        )
    return {"user": arguments.user, "role": str(arguments.role), "granted": "now" if new else "before"}


async def _revoke(context: CommandContext, arguments: Change) -> Json:
    group = await _scope(context, arguments)
    async with context.store.transaction() as tx:
        if not await roles.revoke(tx, user_id=arguments.user, role=arguments.role, agent_group=group):
            raise UsageError(f"{arguments.user} is no {arguments.role} there", hint="nanohost roles list")
    return {"user": arguments.user, "role": str(arguments.role), "revoked": "now"}


async def _scope(context: CommandContext, arguments: Change) -> AgentGroupId | None:
    if not USER.fullmatch(arguments.user):
        raise UsageError(f"{arguments.user!r} is not a user", hint="CHANNEL:HANDLE, as in telegram:123456")
    if arguments.group is None:
        return None
    if arguments.role is Role.OWNER:
        raise UsageError("an owner is one everywhere", hint="leave out --group, or use admin")
    return (await known_group(context.store, arguments.group)).id


COMMANDS = (
    Command(words="roles list", help="list who may do what", example="nanohost roles list", arguments=List, run=_list),
    Command(
        words="roles grant",
        begins=True,
        help="let somebody talk to agents, or administer them",
        example="nanohost roles grant telegram:123456 member --group main",
        arguments=Change,
        run=_grant,
        positional=("user", "role"),
    ),
    Command(
        words="roles revoke",
        help="take a role away",
        example="nanohost roles revoke telegram:123456 member --group main",
        arguments=Change,
        run=_revoke,
        positional=("user", "role"),
    ),
)

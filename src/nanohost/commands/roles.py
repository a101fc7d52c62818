"""Roles: who may talk to which agent, and who may administer it."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime

from pydantic import Field

from nanohost.access.owners import check_not_last_owner
from nanohost.arguments import CommandArguments
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import ChangeVerb, ListArguments, ListVerb, Resource, Row
from nanohost.commands.setup import resolve_group
from nanohost.config.settings import channel_instances
from nanohost.db import agent_groups, roles, users
from nanohost.db.database import Queries, ReportReader, Transaction
from nanohost.errors import UsageError
from nanohost.model import AgentGroupId, Role

USER_PATTERN = re.compile(r"[a-z][a-z0-9_-]*:.+")
EVERYWHERE = "everywhere"


class RoleRow(Row):
    AUDIT_KEY_FIELDS = ("user",)

    user: str = Field(description="who has it: CHANNEL:HANDLE")
    name: str = Field(description="what their platform calls them; empty: they were never seen")
    role: Role = Field(description="owner (everywhere), admin or member")
    group: str = Field(description="the folder of the agent group it is for, or everywhere")
    since: datetime = Field(description="when it was granted")


class GrantedRow(Row):
    AUDIT_KEY_FIELDS = ("user",)

    user: str = Field(description="who has it now")
    role: Role = Field(description="the role")
    group: str = Field(description="the folder of the agent group it is for, or everywhere")
    granted: str = Field(description="now, or before if they had it already")
    missing: str | None = Field(None, description="what is missing before anybody can use it: the channel")


class RevokedRow(Row):
    AUDIT_KEY_FIELDS = ("user",)

    user: str = Field(description="who had it")
    role: Role = Field(description="the role")
    group: str = Field(description="the folder of the agent group it was for, or everywhere")
    revoked: str = Field(description="now")


class ListArgs(ListArguments):
    user: str | None = Field(None, description="only of this user: CHANNEL:HANDLE")
    role: Role | None = Field(None, description="only owners, admins or members")
    group: str | None = Field(None, description="only those that hold in this agent group, so everywhere ones, too")


class RoleArgs(CommandArguments):
    user: str = Field(description="CHANNEL:HANDLE, as in telegram:123456")
    role: Role = Field(description="owner, admin or member")
    group: str | None = Field(None, description="only in this agent group (default: everywhere)")


async def list_roles(db: Queries, *, user: str | None, role: Role | None, folder: str | None) -> list[RoleRow]:
    """Returns roles, filtered by user, role and agent group. Raises UsageError for an unknown user or group."""
    group = None if folder is None else await resolve_group(db, folder)
    folders = await agent_groups.list_folders(db)
    names = await users.names_of_roles(db)
    return [
        RoleRow(
            user=grant.user_id,
            name=names.get(grant.user_id, ""),
            role=grant.role,
            group=EVERYWHERE if grant.agent_group_id is None else folders[grant.agent_group_id],
            since=grant.granted_at,
        )
        for grant in await roles.list_all(db)
        if user in (None, grant.user_id)
        and role in (None, grant.role)
        and (group is None or grant.agent_group_id in (None, group.id))
    ]


async def grant(context: CommandContext, tx: Transaction, arguments: RoleArgs) -> GrantedRow:
    group = await _resolve_scope(tx, arguments)
    new = await roles.grant(tx, user_id=arguments.user, role=arguments.role, agent_group=group, now=context.clock.now())
    where = arguments.group or EVERYWHERE
    return GrantedRow(
        user=arguments.user,
        role=arguments.role,
        group=where,
        granted="now" if new else "before",
        missing=_missing_channel(arguments.user, configured_channels(context)),
    )


def configured_channels(context: CommandContext) -> set[str]:
    """Returns the configured channels, always with the terminal."""
    return {one.name for one in channel_instances(context.settings)} | {"terminal"}


def _missing_channel(user: str, channels: Collection[str]) -> str | None:
    name = user.partition(":")[0]
    return None if name in channels else f"no channel {name} is set up, but these are: {', '.join(sorted(channels))}"


async def revoke(context: CommandContext, tx: Transaction, arguments: RoleArgs) -> RevokedRow:
    group = await _resolve_scope(tx, arguments)
    if arguments.role is Role.OWNER:
        await check_not_last_owner(tx, arguments.user, configured_channels(context))
    if not await roles.revoke(tx, user_id=arguments.user, role=arguments.role, agent_group=group):
        raise UsageError(f"{arguments.user} is no {arguments.role} there", hint="nanohost roles list")
    return RevokedRow(user=arguments.user, role=arguments.role, group=arguments.group or EVERYWHERE, revoked="now")


async def _list(context: CommandContext, db: ReportReader, arguments: ListArgs) -> list[RoleRow]:
    return await list_roles(db, user=arguments.user, role=arguments.role, folder=arguments.group)


async def _resolve_scope(db: Queries, arguments: RoleArgs) -> AgentGroupId | None:
    validate_user(arguments.user)
    if arguments.group is None:
        return None
    if arguments.role is Role.OWNER:
        raise UsageError("an owner is one everywhere", hint="leave out --group, or use admin")
    return (await resolve_group(db, arguments.group)).id


def validate_user(text: str) -> str:
    """Validates a typed user id. Raises UsageError."""
    if not USER_PATTERN.fullmatch(text):
        raise UsageError(f"{text[:80]!r} is not a user", hint="CHANNEL:HANDLE, as in telegram:123456")
    return text


RESOURCE = Resource(
    name="roles",
    singular="role",
    description=(
        "who may talk to agents, administer them, or owns the install; a role of one "
        "identity counts for all of the same human"
    ),
    row=RoleRow,
    verbs=(
        ListVerb(help="list who may do what", example="", arguments=ListArgs, run=_list),
        ChangeVerb(
            name="create",
            can_create_install=True,
            help="let somebody talk to agents, or administer them",
            example="telegram:123456 member --group main",
            arguments=RoleArgs,
            run=grant,
            result=GrantedRow,
            positional=("user", "role"),
        ),
        ChangeVerb(
            name="delete",
            help="take a role away; the last owner's stays",
            example="telegram:123456 member --group main",
            arguments=RoleArgs,
            run=revoke,
            result=RevokedRow,
            positional=("user", "role"),
        ),
    ),
)
COMMANDS = RESOURCE.commands()

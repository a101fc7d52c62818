"""Members: who may talk to which agent, and nothing more. They are the roles of that name."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands import roles
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import ChangeVerb, ListArguments, ListVerb, Resource, Row
from nanohost.commands.roles import GrantedRow, RevokedRow
from nanohost.db import users
from nanohost.db.database import ReportReader, Transaction
from nanohost.model import Role


class MemberRow(Row):
    AUDIT_KEY_FIELDS = ("user",)

    user: str = Field(description="who it is: CHANNEL:HANDLE")
    name: str = Field(description="what their platform calls them; empty: they were never seen")
    group: str = Field(description="the folder of the agent group they may talk to, or everywhere")
    since: datetime = Field(description="since when")


class ListArgs(ListArguments):
    group: str | None = Field(None, description="only those who may talk to this agent group")


class MemberArgs(CommandArguments):
    user: str = Field(description="CHANNEL:HANDLE, as in telegram:123456")
    group: str | None = Field(None, description="only in this agent group (default: everywhere)")


async def _list(context: CommandContext, db: ReportReader, arguments: ListArgs) -> list[MemberRow]:
    rows = []
    for one in await roles.list_roles(db, user=None, role=Role.MEMBER, folder=arguments.group):
        known = await users.find(db, one.user)
        rows.append(MemberRow(user=one.user, name=known.name if known else "", group=one.group, since=one.since))
    return rows


async def _create(context: CommandContext, tx: Transaction, arguments: MemberArgs) -> GrantedRow:
    return await roles.grant(context, tx, _role_args(arguments))


async def _delete(context: CommandContext, tx: Transaction, arguments: MemberArgs) -> RevokedRow:
    return await roles.revoke(context, tx, _role_args(arguments))


def _role_args(arguments: MemberArgs) -> roles.RoleArgs:
    return roles.RoleArgs(user=arguments.user, role=Role.MEMBER, group=arguments.group)


RESOURCE = Resource(
    name="members",
    singular="member",
    description="who may talk to an agent and nothing more: the roles of that name",
    row=MemberRow,
    verbs=(
        ListVerb(help="list who may talk to agents", example="--group main", arguments=ListArgs, run=_list),
        ChangeVerb(
            name="create",
            can_create_install=True,
            help="let somebody talk to agents",
            example="telegram:123456 --group main",
            arguments=MemberArgs,
            run=_create,
            result=GrantedRow,
            positional=("user",),
        ),
        ChangeVerb(
            name="delete",
            help="let somebody talk to agents no more",
            example="telegram:123456 --group main",
            arguments=MemberArgs,
            run=_delete,
            result=RevokedRow,
            positional=("user",),
        ),
    ),
)
COMMANDS = RESOURCE.commands()

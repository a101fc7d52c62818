"""Members: who may talk to which agent, and nothing more. They are the roles of that name."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.commands import roles
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import Change, ListArguments, Listing, Resource, Row
from nanohost.commands.roles import Granted, Revoked
from nanohost.model import Role
from nanohost.store import users
from nanohost.store.database import Reports, Transaction


class MemberRow(Row):
    ABOUT = ("user",)

    user: str = Field(description="who it is: CHANNEL:HANDLE")
    name: str = Field(description="what their platform calls them; empty: they were never seen")
    group: str = Field(description="the folder of the agent group they may talk to, or everywhere")
    since: datetime = Field(description="since when")


class List(ListArguments):
    group: str | None = Field(None, description="only those who may talk to this agent group")


class One(Arguments):
    user: str = Field(description="CHANNEL:HANDLE, as in telegram:123456")
    group: str | None = Field(None, description="only in this agent group (default: everywhere)")


async def _list(context: CommandContext, db: Reports, arguments: List) -> list[MemberRow]:
    rows = []
    for one in await roles.granted(db, user=None, role=Role.MEMBER, folder=arguments.group):
        known = await users.find(db, one.user)
        rows.append(MemberRow(user=one.user, name=known.name if known else "", group=one.group, since=one.since))
    return rows


async def _create(context: CommandContext, tx: Transaction, arguments: One) -> Granted:
    return await roles.grant(context, tx, _role(arguments))


async def _delete(context: CommandContext, tx: Transaction, arguments: One) -> Revoked:
    return await roles.revoke(context, tx, _role(arguments))


def _role(arguments: One) -> roles.One:
    return roles.One(user=arguments.user, role=Role.MEMBER, group=arguments.group)


RESOURCE = Resource(
    name="members",
    one="member",
    about="who may talk to an agent and nothing more: the roles of that name",
    row=MemberRow,
    verbs=(
        Listing(help="list who may talk to agents", example="--group main", arguments=List, run=_list),
        Change(
            word="create",
            begins=True,
            help="let somebody talk to agents",
            example="telegram:123456 --group main",
            arguments=One,
            run=_create,
            result=Granted,
            positional=("user",),
        ),
        Change(
            word="delete",
            help="let somebody talk to agents no more",
            example="telegram:123456 --group main",
            arguments=One,
            run=_delete,
            result=Revoked,
            positional=("user",),
        ),
    ),
)
COMMANDS = RESOURCE.commands()

"""Users: identities on the platforms, and which of them are one person."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from nanohost.access.owners import check_not_last_owner
from nanohost.arguments import CommandArguments
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import NO_LIMIT, ChangeVerb, GetVerb, ListArguments, ListVerb, Resource, Row
from nanohost.commands.roles import configured_channels
from nanohost.db import agent_groups, dropped, roles, users
from nanohost.db.database import Queries, ReportReader, Transaction
from nanohost.db.users import User
from nanohost.errors import UsageError


class UserRow(Row):
    AUDIT_KEY_FIELDS = ("user",)

    user: str = Field(description="who it is: CHANNEL:HANDLE")
    name: str = Field(description="what their platform calls them")
    person: int = Field(description="the human: the same number on all identities that are linked")
    first_seen: datetime = Field(description="when they first wrote")
    last_seen: datetime = Field(description="when they last wrote, to the day")


class UserDetails(UserRow):
    identities: list[str] = Field(description="who else they are: linked identities")
    roles: list[str] = Field(description="what they may do, by any identity")
    direct: list[str] = Field(description="the direct chats in which they can be written to")


class DeletedRow(Row):
    AUDIT_KEY_FIELDS = ("deleted",)

    deleted: str = Field(description="who was forgotten")
    roles: int = Field(description="how many roles went with them")
    counts: int = Field(description="how many counts of what they were refused; rules that deny them something stay")


class UserArgs(CommandArguments):
    user: str = Field(description="CHANNEL:HANDLE, as in telegram:123456")


class UpdateArgs(UserArgs):
    name: str = Field(description="what they are called; their platform's own comes back with a message")


class LinkArgs(UserArgs):
    other: str = Field(description="another user who is the same human")


async def _list(context: CommandContext, db: ReportReader, arguments: ListArguments) -> list[UserRow]:
    return [_make_row(user) for user in await users.list_all(db, limit=arguments.limit or NO_LIMIT)]


async def _get(context: CommandContext, db: Queries, arguments: UserArgs) -> UserDetails | None:
    return None if await users.find(db, arguments.user) is None else await _user_details(db, arguments.user)


async def _update(context: CommandContext, tx: Transaction, arguments: UpdateArgs) -> UserDetails | None:
    await users.rename(tx, arguments.user, arguments.name)
    return await _get(context, tx, arguments)


async def _link(context: CommandContext, tx: Transaction, arguments: LinkArgs) -> UserDetails:
    for user in (arguments.user, arguments.other):
        if await users.find(tx, user) is None:
            raise UsageError(f"{user[:80]} was never seen", hint="have them write to the bot once; nanohost users list")
    if not await users.link(tx, arguments.user, arguments.other):
        raise UsageError(
            f"{arguments.user} and {arguments.other} are one already", hint=f"nanohost users get {arguments.user}"
        )
    return await _user_details(tx, arguments.user)


async def _unlink(context: CommandContext, tx: Transaction, arguments: UserArgs) -> UserDetails | None:
    if await users.find(tx, arguments.user) is None:
        return None
    if not await users.unlink(tx, arguments.user):
        raise UsageError(f"{arguments.user} is linked with nobody", hint=f"nanohost users get {arguments.user}")
    return await _user_details(tx, arguments.user)


async def _delete(context: CommandContext, tx: Transaction, arguments: UserArgs) -> DeletedRow | None:
    await check_not_last_owner(tx, arguments.user, configured_channels(context))
    known = await users.delete(tx, arguments.user)
    taken = await roles.revoke_all(tx, arguments.user)
    counts = await dropped.delete(tx, user=arguments.user)
    return DeletedRow(deleted=arguments.user, roles=taken, counts=counts) if known or taken or counts else None


def _make_row(user: User) -> UserRow:
    return UserRow(
        user=user.user_id,
        name=user.name,
        person=user.person,
        first_seen=user.first_seen_at,
        last_seen=user.last_seen_at,
    )


async def _user_details(db: Queries, user_id: str) -> UserDetails:
    user = await users.find(db, user_id)
    assert user is not None, "it was just there"
    folders = await agent_groups.list_folders(db)
    granted = await roles.list_for_user(db, user.user_id)
    return UserDetails(
        **dict(_make_row(user)),
        identities=[
            one.user_id for one in await users.list_identities(db, user.user_id) if one.user_id != user.user_id
        ],
        roles=[
            f"{one.role} everywhere" if one.agent_group_id is None else f"{one.role} of {folders[one.agent_group_id]}"
            for one in granted
        ],
        direct=[f"{place.channel_type}:{place.platform_id}" for place in await users.list_dms(db, user.user_id)],
    )


RESOURCE = Resource(
    name="users",
    singular="user",
    description="people as the platforms know them; several of them can be one human",
    row=UserRow,
    verbs=(
        ListVerb(help="list who has written", example="--limit 20", run=_list),
        GetVerb(
            help="show one user: identities, roles, direct chats",
            example="telegram:123456",
            arguments=UserArgs,
            run=_get,
            result=UserDetails,
            positional=("user",),
        ),
        ChangeVerb(
            name="update",
            help="change what a user is called",
            example='telegram:123456 --name "Ann"',
            arguments=UpdateArgs,
            run=_update,
            result=UserDetails,
            positional=("user",),
        ),
        ChangeVerb(
            name="link",
            help="say that two users are one human: a role of one counts for both",
            example="telegram:123456 slack:U0123",
            arguments=LinkArgs,
            run=_link,
            result=UserDetails,
            positional=("user", "other"),
        ),
        ChangeVerb(
            name="unlink",
            help="say that a user is a human of their own",
            example="slack:U0123",
            arguments=UserArgs,
            run=_unlink,
            result=UserDetails,
            positional=("user",),
        ),
        ChangeVerb(
            name="delete",
            confirm="Delete the user {user}?",
            help="forget a user, their roles and what they were refused; rules that deny them something stay",
            example="telegram:123456",
            arguments=UserArgs,
            run=_delete,
            result=DeletedRow,
            positional=("user",),
        ),
    ),
)
COMMANDS = RESOURCE.commands()

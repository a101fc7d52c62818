"""Dropped: messages that no agent was told of, counted by sender, chat and reason."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import ChangeVerb, ListArguments, ListVerb, Number, Resource, Row
from nanohost.db import dropped
from nanohost.db.database import ReportReader, Transaction
from nanohost.db.dropped import DroppedMessages

DEFAULT_LIMIT = 100


class DroppedRow(Row):
    AUDIT_KEY_FIELDS = ("user",)

    channel: str = Field(description="the chat's channel: TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat")
    user: str = Field(description="who wrote: CHANNEL:HANDLE")
    reason: str = Field(description="why no agent was told")
    group: str = Field(description="the folder of the agent group that would have been told; empty: none")
    count: int = Field(description="how many messages")
    first: datetime = Field(description="the first of them")
    last: datetime = Field(description="the last of them")


class ClearedRow(Row):
    AUDIT_KEY_FIELDS = ("user",)

    user: str = Field(description="whose counts are forgotten, or everybody")
    cleared: int = Field(description="how many rows there were")


class ListArgs(ListArguments):
    limit: Number | None = Field(
        DEFAULT_LIMIT, ge=1, description=f"at most so many, the latest first (default: {DEFAULT_LIMIT})"
    )
    user: str | None = Field(None, description="only of this user: CHANNEL:HANDLE")
    channel: str | None = Field(None, description="only of this platform")


class Delete(CommandArguments):
    user: str | None = Field(None, description="only of this user (default: of everybody)")


async def _list(context: CommandContext, db: ReportReader, arguments: ListArgs) -> list[DroppedRow]:
    found = await dropped.latest(
        db, limit=arguments.limit or DEFAULT_LIMIT, user=arguments.user, channel_type=arguments.channel
    )
    return [_make_row(one) for one in found]


async def _delete(context: CommandContext, tx: Transaction, arguments: Delete) -> ClearedRow:
    count = await dropped.delete(tx, user=arguments.user)
    return ClearedRow(user=arguments.user or "everybody", cleared=count)


def _make_row(one: DroppedMessages) -> DroppedRow:
    return DroppedRow(
        channel=f"{one.chat.channel_type}:{one.chat.instance}",
        chat=one.chat.platform_id,
        user=one.user_id,
        reason=one.reason,
        group=one.agent_group,
        count=one.count,
        first=one.first_at,
        last=one.last_at,
    )


RESOURCE = Resource(
    name="dropped",
    singular="count",
    description="messages that no agent was told of, counted by sender, chat and reason",
    row=DroppedRow,
    verbs=(
        ListVerb(
            help="list what was refused or ignored", example="--user telegram:123456", arguments=ListArgs, run=_list
        ),
        ChangeVerb(
            name="delete",
            help="delete the counts, of one user or all",
            example="--user telegram:123456",
            arguments=Delete,
            run=_delete,
            result=ClearedRow,
        ),
    ),
)
COMMANDS = RESOURCE.commands()

"""Dropped: what people wrote that no agent was told of, counted by who, where and why."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import Change, ListArguments, Listing, Number, Resource, Row
from nanohost.store import dropped
from nanohost.store.database import Reports, Transaction
from nanohost.store.dropped import Dropped

MOST = 100


class DroppedRow(Row):
    ABOUT = ("user",)

    channel: str = Field(description="the chat's channel: TYPE:INSTANCE")
    chat: str = Field(description="the platform's id of the chat")
    user: str = Field(description="who wrote: CHANNEL:HANDLE")
    reason: str = Field(description="why no agent was told")
    group: str = Field(description="the folder of the agent group that would have been told; empty: none")
    count: int = Field(description="how many messages")
    first: datetime = Field(description="the first of them")
    last: datetime = Field(description="the last of them")


class Cleared(Row):
    ABOUT = ("user",)

    user: str = Field(description="whose counts are forgotten, or everybody")
    cleared: int = Field(description="how many rows there were")


class List(ListArguments):
    limit: Number | None = Field(MOST, ge=1, description=f"at most so many, the latest first (default: {MOST})")
    user: str | None = Field(None, description="only of this user: CHANNEL:HANDLE")
    channel: str | None = Field(None, description="only of this platform")


class Clear(Arguments):
    user: str | None = Field(None, description="only of this user (default: of everybody)")


async def _list(context: CommandContext, db: Reports, arguments: List) -> list[DroppedRow]:
    found = await dropped.latest(db, limit=arguments.limit or MOST, user=arguments.user, channel_type=arguments.channel)
    return [_row(one) for one in found]


async def _clear(context: CommandContext, tx: Transaction, arguments: Clear) -> Cleared:
    count = await dropped.clear(tx, user=arguments.user)
    return Cleared(user=arguments.user or "everybody", cleared=count)


def _row(one: Dropped) -> DroppedRow:
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
    one="count",
    about="what people wrote that no agent was told of, counted by who, where and why",
    row=DroppedRow,
    verbs=(
        Listing(help="list what was refused or ignored", example="--user telegram:123456", arguments=List, run=_list),
        Change(
            word="clear",
            help="forget the counts, and begin anew",
            example="--user telegram:123456",
            arguments=Clear,
            run=_clear,
            result=Cleared,
        ),
    ),
)
COMMANDS = RESOURCE.commands()

"""Events: those that could not be routed, and a retry."""

from __future__ import annotations

from pydantic import Field

from nanohost.arguments import CommandArguments
from nanohost.channels.event_summary import describe_event
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import Number
from nanohost.commands.tables import Json, to_json
from nanohost.db import events
from nanohost.db.events import StoredEvent
from nanohost.errors import UsageError
from nanohost.model import EventId

ABOUT = "what came in from platforms and could not be routed"
MAX_LISTED = 100


class ListArgs(CommandArguments):
    """Nothing to say."""


class RetryArgs(CommandArguments):
    id: Number = Field(description="the event's number, as nanohost events list shows it")


async def _list(context: CommandContext, arguments: ListArgs) -> Json:
    return [_make_row(stored) for stored in await events.list_quarantined(context.store.reports, limit=MAX_LISTED)]


async def _retry(context: CommandContext, arguments: RetryArgs) -> Json:
    async with context.store.transaction() as tx:
        stored = await events.requeue(tx, EventId(arguments.id))
    if stored is None:
        raise UsageError(f"no event {arguments.id} is quarantined", hint="nanohost events list")
    when = "it is being routed" if context.host is not None else "it is routed when the host runs: nanohost run"
    return {"event": stored.id, "chat": stored.chat.platform_id, "next": when}


def _make_row(stored: StoredEvent) -> dict[str, Json]:
    return {
        "id": stored.id,
        "channel": f"{stored.chat.channel_type}:{stored.chat.instance}",
        "chat": stored.chat.platform_id,
        "sender": stored.event.sender.name or stored.event.sender.handle,
        "sent": to_json(stored.event.sent_at),
        "reason": stored.reason,
        "text": describe_event(stored.event),
    }


COMMANDS = (
    Command(
        words="events list",
        help="list quarantined events: those whose routing always failed",
        example="nanohost events list",
        arguments=ListArgs,
        run=_list,
    ),
    Command(
        words="events retry",
        help="route a quarantined event again, with a fresh set of attempts",
        example="nanohost events retry 17",
        arguments=RetryArgs,
        run=_retry,
        positional=("id",),
    ),
)

"""Events: what came in and could not be routed, and another try for it."""

from __future__ import annotations

from pydantic import Field

from nanohost.arguments import Arguments
from nanohost.commands.command import Command
from nanohost.commands.context import CommandContext
from nanohost.commands.resource import Number
from nanohost.commands.show import Json, plain
from nanohost.errors import UsageError
from nanohost.event_words import in_words
from nanohost.model import EventId
from nanohost.store import events
from nanohost.store.events import StoredEvent

MOST = 100


class List(Arguments):
    """Nothing to say."""


class Retry(Arguments):
    id: Number = Field(description="the event's number, as nanohost events list shows it")


async def _list(context: CommandContext, arguments: List) -> Json:
    return [_row(stored) for stored in await events.that_are_set_aside(context.store.reports, limit=MOST)]


async def _retry(context: CommandContext, arguments: Retry) -> Json:
    async with context.store.transaction() as tx:
        stored = await events.bring_back(tx, EventId(arguments.id))
    if stored is None:
        raise UsageError(f"no event {arguments.id} is set aside", hint="nanohost events list")
    when = "it is being routed" if context.live is not None else "it is routed when the host runs: nanohost run"
    return {"event": stored.id, "chat": stored.chat.platform_id, "next": when}


def _row(stored: StoredEvent) -> dict[str, Json]:
    return {
        "id": stored.id,
        "channel": f"{stored.chat.channel_type}:{stored.chat.instance}",
        "chat": stored.chat.platform_id,
        "sender": stored.event.sender.name or stored.event.sender.handle,
        "sent": plain(stored.event.sent_at),
        "reason": stored.reason,
        "text": in_words(stored.event),
    }


COMMANDS = (
    Command(
        words="events list",
        help="list events that were set aside because routing them failed",
        example="nanohost events list",
        arguments=List,
        run=_list,
    ),
    Command(
        words="events retry",
        help="route an event that was set aside, with a fresh set of tries",
        example="nanohost events retry 17",
        arguments=Retry,
        run=_retry,
        positional=("id",),
    ),
)

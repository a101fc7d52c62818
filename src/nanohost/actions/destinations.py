"""Where an agent may send beside the chats it talks in: it can ask for one more, of those that the host knows."""

from __future__ import annotations

from pydantic import Field

from nanohost import quoting
from nanohost.actions.registry import About, Action, Arguments, Request
from nanohost.errors import UsageError
from nanohost.guard.ruling import Ruling
from nanohost.model import MessagingGroup
from nanohost.store import destinations, messaging_groups, wirings
from nanohost.store.database import Queries, Transaction
from nanohost.store.destinations import NAME
from nanohost_protocol.actions import ActionName


class NewDestination(Arguments):
    """`name`: what the agent will call it; `chat`: its id on its platform, or its name there."""

    name: str = Field(max_length=40)
    chat: str = Field(min_length=1, max_length=200)


async def _describe(db: Queries, request: Request, wanted: NewDestination) -> About:
    chat = await _known(db, request, wanted.chat)
    kind, place = "the group" if chat.is_group else "the direct chat", quoting.name(chat.platform_id)
    wired = [wiring.agent_group_id for wiring in await wirings.of_chat(db, chat.id)]
    where = chat.channel_type if chat.instance == "default" else f"{chat.channel_type}:{chat.instance}"
    return About(
        title=f"Send to {kind} {quoting.name(chat.name or chat.platform_id)} on {where}, chat {place}, from now on",
        scope=f"{chat.channel_type}:{chat.instance}:{chat.platform_id}",
        beyond=request.agent_group.id not in wired,
    )


async def _add(tx: Transaction, request: Request, wanted: NewDestination) -> str:
    if not NAME.fullmatch(wanted.name):
        raise UsageError(f"{wanted.name!r} is no name for a destination: small letters, digits and -")
    chat = await _known(tx, request, wanted.chat)
    group = request.agent_group
    if (there := await destinations.find(tx, group.id, wanted.name)) is None:
        await destinations.add(
            tx,
            agent_group=group.id,
            name=wanted.name,
            messaging_group=chat.id,
            created_by=request.allowed_by,
            now=request.now,
        )
    elif there.messaging_group_id != chat.id:
        raise UsageError(f"there is a destination {wanted.name} already, and it is another chat")
    return f"You can send to {wanted.name} now."


async def _known(db: Queries, request: Request, words: str) -> MessagingGroup:
    """The one chat that is meant, the asking conversation's platform first. Raises UsageError."""
    chats = [chat for chat in await messaging_groups.every(db) if words in (chat.platform_id, chat.name)]
    here = [chat for chat in chats if request.origin is not None and chat.channel_type == request.origin.channel_type]
    for found in (here, chats):
        if len(found) == 1:
            return found[0]
    if chats:
        raise UsageError(f"there are {len(chats)} chats {words[:80]!r}; say its id on its platform")
    raise UsageError(f"the host knows no chat {words[:80]!r}: somebody has to write to it there first")


ACTIONS = (
    Action(
        name=ActionName.DESTINATIONS_ADD,
        title="Send to another chat",
        arguments=NewDestination,
        effect=_add,
        usual=Ruling.HOLD,
        describe=_describe,
        moves_addresses=True,
    ),
)

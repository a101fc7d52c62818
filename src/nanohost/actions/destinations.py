"""Defines the action that adds a destination: another known chat to which an agent may send."""

from __future__ import annotations

from pydantic import Field

from nanohost.actions.registry import Action, ActionRequest, Arguments, RequestSummary
from nanohost.db import destinations, messaging_groups, wirings
from nanohost.db.database import Queries, Transaction
from nanohost.db.destinations import NAME_PATTERN
from nanohost.errors import UsageError
from nanohost.guard.guard import Permission
from nanohost.model import MessagingGroup
from nanohost.text import quoting
from nanohost.text.translation import _, gettext_noop
from nanohost_protocol.actions import ActionName


class NewDestination(Arguments):
    """`name`: the destination's name for the agent; `chat`: the chat's id or name on its platform."""

    name: str = Field(max_length=40)
    chat: str = Field(min_length=1, max_length=200)


async def _describe(db: Queries, request: ActionRequest, arguments: NewDestination) -> RequestSummary:
    chat = await _find_chat(db, request, arguments.chat)
    name, place = quoting.name(chat.name or chat.platform_id), quoting.name(chat.platform_id)
    wired = [wiring.agent_group_id for wiring in await wirings.list_for_chat(db, chat.id)]
    where = chat.channel_type if chat.instance == "default" else f"{chat.channel_type}:{chat.instance}"
    title = (
        _("Send to the group {name} on {channel}, chat {chat}, from now on", name=name, channel=where, chat=place)
        if chat.is_group
        else _(
            "Send to the direct chat {name} on {channel}, chat {chat}, from now on",
            name=name,
            channel=where,
            chat=place,
        )
    )
    return RequestSummary(
        title=title,
        scope=f"{chat.channel_type}:{chat.instance}:{chat.platform_id}",
        affects_other_groups=request.agent_group.id not in wired,
    )


async def _add_destination(tx: Transaction, request: ActionRequest, arguments: NewDestination) -> str:
    if not NAME_PATTERN.fullmatch(arguments.name):
        raise UsageError(f"{arguments.name!r} is no name for a destination: small letters, digits and -")
    chat = await _find_chat(tx, request, arguments.chat)
    group = request.agent_group
    if (there := await destinations.find(tx, group.id, arguments.name)) is None:
        await destinations.add(
            tx,
            agent_group=group.id,
            name=arguments.name,
            messaging_group=chat.id,
            created_by=request.approved_by,
            now=request.now,
        )
    elif there.messaging_group_id != chat.id:
        raise UsageError(f"there is a destination {arguments.name} already, and it is another chat")
    return f"You can send to {arguments.name} now."


async def _find_chat(db: Queries, request: ActionRequest, chat_reference: str) -> MessagingGroup:
    """Returns the chat that the reference names, first on the requesting session's platform. Raises UsageError."""
    chats = [chat for chat in await messaging_groups.list_all(db) if chat_reference in (chat.platform_id, chat.name)]
    here = [chat for chat in chats if request.origin is not None and chat.channel_type == request.origin.channel_type]
    for found in (here, chats):
        if len(found) == 1:
            return found[0]
    if chats:
        raise UsageError(f"there are {len(chats)} chats {chat_reference[:80]!r}; say its id on its platform")
    raise UsageError(f"the host knows no chat {chat_reference[:80]!r}: somebody has to write to it there first")


ACTIONS = (
    Action(
        name=ActionName.DESTINATIONS_ADD,
        title=gettext_noop("Send to another chat"),
        arguments=NewDestination,
        effect=_add_destination,
        default_permission=Permission.HOLD,
        summarize=_describe,
        changes_addresses=True,
    ),
)

"""What people do to messages that they sent, as kinds to be sent: the same on every platform that tells of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from nanohost.testing.content import Content
from nanohost.testing.simulator import ADA, Person

CHANGED, MENTIONED = "message that is changed", "message that mentions the bot later"
DELETED = "message that is deleted"
REACTED, TAKEN_BACK = "reaction", "reaction that is taken back"
CHANGES: Mapping[Content, Sequence[str]] = {
    Content.EDIT: (CHANGED,),
    Content.EDIT_WITH_MENTION: (MENTIONED,),
    Content.DELETION: (DELETED,),
    Content.REACTION: (REACTED,),
    Content.REACTION_REMOVED: (TAKEN_BACK,),
}
NAMES = tuple(name for names in CHANGES.values() for name in names)


class Changeable(Protocol):
    """A platform on which that can be done."""

    async def write(self, chat: str, text: str, *, person: Person = ADA, group: bool = False) -> str: ...

    async def edit(
        self, message_id: str, text: str, *, chat: str, person: Person = ADA, mention: bool = False
    ) -> None: ...

    async def delete(self, message_id: str, /, *, chat: str, person: Person = ADA) -> None: ...

    async def react(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None: ...

    async def unreact(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None: ...


async def send_and_change(platform: Changeable, kind: str, chat: str, *, person: Person, group: bool) -> str:
    """Somebody writes and then does one of NAMES; the platform's id of the message."""
    id = await platform.write(chat, "Lunch at noon?", person=person, group=group)
    if kind in (CHANGED, MENTIONED):
        await platform.edit(id, "Lunch at one?", chat=chat, person=person, mention=kind == MENTIONED)
    elif kind == DELETED:
        await platform.delete(id, chat=chat, person=person)
    else:
        await platform.react(id, "👍", chat=chat, person=person)
    if kind == TAKEN_BACK:
        await platform.unreact(id, "👍", chat=chat, person=person)
    return id

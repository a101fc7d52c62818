"""What people do to messages that they sent, as kinds to be sent: the same on every platform that tells of it."""

from __future__ import annotations

from typing import Protocol

from nanohost.testing.simulator import ADA, Person

CHANGED, DELETED, TAKEN_BACK = "message that is changed", "message that is deleted", "reaction that is taken back"
CHANGES = (CHANGED, DELETED, TAKEN_BACK)


class Changeable(Protocol):
    """A platform on which that can be done."""

    async def write(self, chat: str, text: str, *, person: Person = ADA, group: bool = False) -> str: ...

    async def edit(self, message_id: str, text: str, *, chat: str, person: Person = ADA) -> None: ...

    async def delete(self, message_id: str, /, *, chat: str, person: Person = ADA) -> None: ...

    async def react(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None: ...

    async def unreact(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None: ...


async def send_and_change(platform: Changeable, kind: str, chat: str, *, person: Person, group: bool) -> str:
    """Somebody writes and then does one of CHANGES; the platform's id of the message."""
    id = await platform.write(chat, "Lunch at noon?", person=person, group=group)
    if kind == CHANGED:
        await platform.edit(id, "Lunch at one?", chat=chat, person=person)
    elif kind == DELETED:
        await platform.delete(id, chat=chat, person=person)
    else:
        await platform.react(id, "👍", chat=chat, person=person)
        await platform.unreact(id, "👍", chat=chat, person=person)
    return id

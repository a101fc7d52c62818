"""A platform for trying a channel against: a loopback server that the platform's real client library accepts.

It stands for the platform and for the people on it. People write, press buttons, react and look at their screens;
whoever tests makes the platform fail. What a screen shows is what the platform made of what it was sent, by its own
rules: markup parsed, who was pinged, what was refused. Nothing here is random, and nothing leaves loopback.

A simulator is one file in `nanohost.testing.simulators` with a class that derives from Simulator, named by SIMULATOR.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum

from nanohost.testing.content import BY_OTHER_MEANS, Content
from nanohost.testing.limits import HANG_S, seconds


class Fault(StrEnum):
    """What goes wrong with one request that sends, edits or reacts."""

    RESET_BEFORE = "reset before"
    """The connection is cut and nothing happened."""
    RESET_AFTER = "reset after effect"
    """The message is on the screen, and the connection is cut before the answer."""
    SERVER_ERROR = "500"
    """Nothing happened, and the server says it is its own fault."""
    UNAVAILABLE = "503"
    """The same, in the words of whatever stands before the platform."""
    HANG = "hang"
    """Nothing happened, and no answer comes while the simulator lives."""
    UNAUTHORIZED = "401"
    """The credentials are not accepted."""
    NOT_JSON = "not JSON"
    """Nothing happened, and the answer is a page of HTML."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody on the platform. `id` is the platform's own for them."""

    id: str
    name: str
    is_bot: bool = False


ADA = Person(id="1001", name="Ada")
BOB = Person(id="1002", name="Bob")

_CHANGED, _MENTIONED = "message that is changed", "message that mentions the bot later"
_DELETED = "message that is deleted"
_REACTED, _TAKEN_BACK = "reaction", "reaction that is taken back"
CHANGES: Mapping[Content, Sequence[str]] = {
    Content.EDIT: (_CHANGED,),
    Content.EDIT_WITH_MENTION: (_MENTIONED,),
    Content.DELETION: (_DELETED,),
    Content.REACTION: (_REACTED,),
    Content.REACTION_REMOVED: (_TAKEN_BACK,),
}
"""What people do to messages that they sent, by name: the same on every platform that tells of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One message on a screen, as it is now. `text` is what a person reads, markup parsed away; `raw` is what came
    over the wire. `pinged`: whom it notified (everyone, here, a person's id). `buttons`: their labels, in order."""

    id: str
    chat: str
    text: str
    raw: str
    sender: str
    thread: str | None = None
    reply_to: str | None = None
    buttons: tuple[str, ...] = ()
    file_name: str | None = None
    file_bytes: bytes = b""
    reactions: tuple[str, ...] = ()
    pinged: frozenset[str] = frozenset()
    edits: int = 0


BOT = "bot"
"""The sender of what the channel sent."""


@dataclass
class Faults:
    """What is to go wrong next. A fault is used up by the request it befalls. `lasting` befalls all requests, for as
    long as it is set."""

    queue: deque[Fault] = field(default_factory=deque)
    lasting: Fault | None = None
    limits: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By chat, "" for all of them: how many requests are still refused as too many, and after how many seconds to
    come back."""

    def next(self, *fits: Fault) -> Fault | None:
        """The next fault, if there is one (of those that fit, when any are named)."""
        if self.queue and (not fits or self.queue[0] in fits):
            return self.queue.popleft()
        return self.lasting if not fits or self.lasting in fits else None

    def retry_after_s(self, chat: str) -> float | None:
        """How long whoever sends to this chat is asked to wait; None: not at all."""
        for key in (chat, ""):
            left, seconds = self.limits.get(key, (0, 0.0))
            if left > 0:
                self.limits[key] = (left - 1, seconds)
                return seconds
        return None


class Simulator(ABC):
    """Entered, it serves; left, it is gone, and may be entered again on the same port with the same screens."""

    name: str
    """The channel's name: `settings` is for its table."""
    dm: str = ADA.id
    """The platform's id of Ada's chat with the bot."""
    by_other_means: Mapping[Content, str] = BY_OTHER_MEANS
    """What else people can do here, and what is typed for it."""

    def __init__(self) -> None:
        self.faults = Faults()
        self._shown: list[Shown] = []
        self._changed = asyncio.Condition()
        self.shows_page = False
        """A page of whatever stands before the platform, in the place of people's files; where the simulator does."""
        self.typing: list[str] = []
        """The chats in which typing was shown, one entry each time."""
        self.numbers_from = 0
        """Added to the number in each id that it makes, set before anybody writes: a host takes an id that it had from
        another life of the platform for a repeat. 0: ids are the same in each life, as a test wants them."""

    # --- life ---

    @abstractmethod
    def running(self) -> AbstractAsyncContextManager[None]:
        """Serve on loopback while entered."""

    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """The table [channels.NAME] of a host that uses this platform."""

    @abstractmethod
    async def go_down(self) -> None:
        """An outage: connections are cut and refused."""

    @abstractmethod
    async def go_up(self) -> None:
        """The outage is over. What the real platform redelivers is redelivered."""

    # --- people ---

    @abstractmethod
    async def write(
        self,
        chat: str,
        text: str,
        *,
        person: Person = ADA,
        group: bool = False,
        mention: bool = False,
        thread: str | None = None,
        message_id: str | None = None,
        file: tuple[str, bytes] | None = None,
    ) -> str:
        """Somebody writes; the platform's id of the message. The same `message_id` again: the platform redelivers it.

        `group`: the chat is a group; `mention`: the bot is addressed; `file`: a name and its bytes ride along.
        """

    @abstractmethod
    async def press(self, message: Shown, label: str, *, person: Person = ADA) -> None:
        """Somebody presses a button of a message."""

    @abstractmethod
    async def react(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody reacts to a message."""

    @abstractmethod
    async def edit(self, message_id: str, text: str, *, chat: str, person: Person = ADA, mention: bool = False) -> None:
        """Somebody changes a message of theirs. `mention`: the bot is addressed now."""

    @abstractmethod
    async def unreact(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody takes a reaction back."""

    @abstractmethod
    async def delete(self, message_id: str, /, *, chat: str, person: Person = ADA) -> None:
        """Somebody deletes a message of theirs."""

    @abstractmethod
    def examples(self) -> Mapping[Content, Sequence[str]]:
        """By kind of content that people can send here, the names of the platform's own examples of it."""

    @abstractmethod
    async def send_example(self, name: str, chat: str, *, person: Person, group: bool) -> Sequence[str]:
        """Somebody sends one of `examples`; the platform's ids of the messages. Raises KeyError."""

    def contents(self) -> Mapping[Content, Sequence[str]]:
        """As `examples`, with what people do to messages that they sent: that is the same everywhere."""
        return {**self.examples(), **CHANGES}

    def kinds(self) -> Sequence[str]:
        """The names of all examples; `send_kind` knows these."""
        return tuple(dict.fromkeys(name for names in self.contents().values() for name in names))

    async def send_kind(self, kind: str, chat: str, *, person: Person = ADA, group: bool = False) -> Sequence[str]:
        """Somebody sends one of `kinds`, as an example; the platform's ids of the messages. Raises KeyError."""
        if any(kind in names for names in CHANGES.values()):
            return [await self._send_and_change(kind, chat, person=person, group=group)]
        return await self.send_example(kind, chat, person=person, group=group)

    async def _send_and_change(self, kind: str, chat: str, *, person: Person, group: bool) -> str:
        id = await self.write(chat, "Lunch at noon?", person=person, group=group)
        if kind in (_CHANGED, _MENTIONED):
            await self.edit(id, "Lunch at one?", chat=chat, person=person, mention=kind == _MENTIONED)
        elif kind == _DELETED:
            await self.delete(id, chat=chat, person=person)
        else:
            await self.react(id, "👍", chat=chat, person=person)
        if kind == _TAKEN_BACK:
            await self.unreact(id, "👍", chat=chat, person=person)
        return id

    @abstractmethod
    async def garbage(self) -> None:
        """Everything the platform never should send: what does not parse, wrong types, unknown events."""

    @abstractmethod
    def acknowledged(self) -> Sequence[str]:
        """The ids of people's messages that the platform may forget."""

    # --- screens ---

    def screen(self, chat: str | None = None, *, sender: str | None = BOT) -> list[Shown]:
        """What stands in a chat, or in all; of the bot only, or of everybody with `sender` None. Oldest first."""
        return [one for one in self._shown if chat in (None, one.chat) and (sender is None or one.sender == sender)]

    def texts(self, chat: str | None = None) -> list[str]:
        """The bot's messages in a chat as people read them."""
        return [one.text for one in self.screen(chat)]

    async def until(self, happened: Callable[[], bool], *, limit_s: float = HANG_S) -> None:
        """Wait until `happened()`, looked at whenever the platform changed. Raises TimeoutError."""
        async with asyncio.timeout(seconds(limit_s)), self._changed:
            await self._changed.wait_for(happened)

    async def until_shown(self, count: int, chat: str | None = None, *, limit_s: float = HANG_S) -> list[Shown]:
        """The bot's messages once there are at least so many."""
        await self.until(lambda: len(self.screen(chat)) >= count, limit_s=limit_s)
        return self.screen(chat)

    # --- for those who write a simulator ---

    async def show(self, message: Shown) -> None:
        """Put a message on the screen."""
        self._shown.append(message)
        await self.changed()

    async def show_again(self, message_id: str, change: Callable[[Shown], Shown], *, chat: str) -> Shown | None:
        """Change a message that is on the screen; None if there is none."""
        for at, one in enumerate(self._shown):
            if (one.id, one.chat) == (message_id, chat):
                self._shown[at] = change(one)
                await self.changed()
                return self._shown[at]
        return None

    async def changed(self) -> None:
        """Something happened that somebody may wait for."""
        async with self._changed:
            self._changed.notify_all()


def edited(text: str, raw: str) -> Callable[[Shown], Shown]:
    """The change that an edit is."""
    return lambda one: replace(one, text=text, raw=raw, edits=one.edits + 1)


def reacted(emoji: str) -> Callable[[Shown], Shown]:
    """The change that somebody's reaction is."""
    return lambda one: replace(one, reactions=(*one.reactions, emoji))


def unreacted(emoji: str) -> Callable[[Shown], Shown]:
    """The change when somebody takes theirs back: others' stay."""

    def change(one: Shown) -> Shown:
        at = one.reactions.index(emoji) if emoji in one.reactions else len(one.reactions)
        return replace(one, reactions=one.reactions[:at] + one.reactions[at + 1 :])

    return change


@asynccontextmanager
async def outage(*platforms: Simulator) -> AsyncIterator[None]:
    """All of these are down while entered."""
    for platform in platforms:
        await platform.go_down()
    try:
        yield
    finally:
        for platform in platforms:
            await platform.go_up()

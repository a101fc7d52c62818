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

from nanohost.testing.content import OTHER_INPUTS, ContentKind
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout


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

_EDIT_EXAMPLE, _MENTION_EDIT_EXAMPLE = "message that is changed", "message that mentions the bot later"
_DELETION_EXAMPLE = "message that is deleted"
_REACTION_EXAMPLE, _REACTION_REMOVED_EXAMPLE = "reaction", "reaction that is taken back"
CHANGE_EXAMPLES: Mapping[ContentKind, Sequence[str]] = {
    ContentKind.EDIT: (_EDIT_EXAMPLE,),
    ContentKind.EDIT_WITH_MENTION: (_MENTION_EDIT_EXAMPLE,),
    ContentKind.DELETION: (_DELETION_EXAMPLE,),
    ContentKind.REACTION: (_REACTION_EXAMPLE,),
    ContentKind.REACTION_REMOVED: (_REACTION_REMOVED_EXAMPLE,),
}
"""What people do to messages that they sent, by name: the same on every platform that tells of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenMessage:
    """One message on a screen, as it is now. `text` is what a person reads, markup parsed away; `raw` is what came
    over the wire. `notified`: whom it notified (everyone, here, a person's id). `buttons`: their labels, in order."""

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
    notified: frozenset[str] = frozenset()
    edit_count: int = 0


BOT = "bot"
"""The sender of what the channel sent."""


@dataclass
class Faults:
    """What is to go wrong next. A fault is used up by the request it befalls. `persistent` befalls all requests, for as
    long as it is set."""

    queue: deque[Fault] = field(default_factory=deque)
    persistent: Fault | None = None
    limits: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By chat, "" for all of them: how many requests are still refused as too many, and after how many seconds to
    come back."""

    def take(self, *fits: Fault) -> Fault | None:
        """The next fault, if there is one (of those that fit, when any are named)."""
        if self.queue and (not fits or self.queue[0] in fits):
            return self.queue.popleft()
        return self.persistent if not fits or self.persistent in fits else None

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
    other_inputs: Mapping[ContentKind, str] = OTHER_INPUTS
    """What else people can do here, and what is typed for it."""

    def __init__(self) -> None:
        self.faults = Faults()
        self._screen_messages: list[ScreenMessage] = []
        self._changed = asyncio.Condition()
        self.should_serve_error_page = False
        """A page of whatever stands before the platform, in the place of people's files; where the simulator does."""
        self.typing: list[str] = []
        """The chats in which typing was shown, one entry each time."""
        self.id_offset = 0
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
    async def start_outage(self) -> None:
        """An outage: connections are cut and refused."""

    @abstractmethod
    async def end_outage(self) -> None:
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
    async def press(self, message: ScreenMessage, label: str, *, person: Person = ADA) -> None:
        """Somebody presses a button of a message."""

    @abstractmethod
    async def react(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody reacts to a message."""

    @abstractmethod
    async def edit(self, message_id: str, text: str, *, chat: str, person: Person = ADA, mention: bool = False) -> None:
        """Somebody changes a message of theirs. `mention`: the bot is addressed now."""

    @abstractmethod
    async def remove_reaction(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody takes a reaction back."""

    @abstractmethod
    async def delete(self, message_id: str, /, *, chat: str, person: Person = ADA) -> None:
        """Somebody deletes a message of theirs."""

    @abstractmethod
    def examples(self) -> Mapping[ContentKind, Sequence[str]]:
        """By kind of content that people can send here, the names of the platform's own examples of it."""

    @abstractmethod
    async def send_example(self, name: str, chat: str, *, person: Person, group: bool) -> Sequence[str]:
        """Somebody sends one of `examples`; the platform's ids of the messages. Raises KeyError."""

    def content_examples(self) -> Mapping[ContentKind, Sequence[str]]:
        """As `examples`, with what people do to messages that they sent: that is the same everywhere."""
        return {**self.examples(), **CHANGE_EXAMPLES}

    def example_names(self) -> Sequence[str]:
        """The names of all examples; `send_named_example` knows these."""
        return tuple(dict.fromkeys(name for names in self.content_examples().values() for name in names))

    async def send_named_example(
        self, kind: str, chat: str, *, person: Person = ADA, group: bool = False
    ) -> Sequence[str]:
        """Somebody sends one of `kinds`, as an example; the platform's ids of the messages. Raises KeyError."""
        if any(kind in names for names in CHANGE_EXAMPLES.values()):
            return [await self._send_and_change(kind, chat, person=person, group=group)]
        return await self.send_example(kind, chat, person=person, group=group)

    async def _send_and_change(self, kind: str, chat: str, *, person: Person, group: bool) -> str:
        id = await self.write(chat, "Lunch at noon?", person=person, group=group)
        if kind in (_EDIT_EXAMPLE, _MENTION_EDIT_EXAMPLE):
            await self.edit(id, "Lunch at one?", chat=chat, person=person, mention=kind == _MENTION_EDIT_EXAMPLE)
        elif kind == _DELETION_EXAMPLE:
            await self.delete(id, chat=chat, person=person)
        else:
            await self.react(id, "👍", chat=chat, person=person)
        if kind == _REACTION_REMOVED_EXAMPLE:
            await self.remove_reaction(id, "👍", chat=chat, person=person)
        return id

    @abstractmethod
    async def send_garbage(self) -> None:
        """Everything the platform never should send: what does not parse, wrong types, unknown events."""

    @abstractmethod
    def acknowledged(self) -> Sequence[str]:
        """The ids of people's messages that the platform may forget."""

    # --- screens ---

    def screen(self, chat: str | None = None, *, sender: str | None = BOT) -> list[ScreenMessage]:
        """What stands in a chat, or in all; of the bot only, or of everybody with `sender` None. Oldest first."""
        return [
            one
            for one in self._screen_messages
            if chat in (None, one.chat) and (sender is None or one.sender == sender)
        ]

    def texts(self, chat: str | None = None) -> list[str]:
        """The bot's messages in a chat as people read them."""
        return [one.text for one in self.screen(chat)]

    async def wait_until(self, happened: Callable[[], bool], *, timeout_s: float = HANG_TIMEOUT_S) -> None:
        """Wait until `happened()`, looked at whenever the platform changed. Raises TimeoutError."""
        async with asyncio.timeout(scaled_timeout(timeout_s)), self._changed:
            await self._changed.wait_for(happened)

    async def wait_for_messages(
        self, count: int, chat: str | None = None, *, timeout_s: float = HANG_TIMEOUT_S
    ) -> list[ScreenMessage]:
        """The bot's messages once there are at least so many."""
        await self.wait_until(lambda: len(self.screen(chat)) >= count, timeout_s=timeout_s)
        return self.screen(chat)

    # --- for those who write a simulator ---

    async def add_message(self, message: ScreenMessage) -> None:
        """Put a message on the screen."""
        self._screen_messages.append(message)
        await self.notify_changed()

    async def update_message(
        self, message_id: str, change: Callable[[ScreenMessage], ScreenMessage], *, chat: str
    ) -> ScreenMessage | None:
        """Change a message that is on the screen; None if there is none."""
        for at, one in enumerate(self._screen_messages):
            if (one.id, one.chat) == (message_id, chat):
                self._screen_messages[at] = change(one)
                await self.notify_changed()
                return self._screen_messages[at]
        return None

    async def notify_changed(self) -> None:
        """Something happened that somebody may wait for."""
        async with self._changed:
            self._changed.notify_all()


def make_edit(text: str, raw: str) -> Callable[[ScreenMessage], ScreenMessage]:
    """The change that an edit is."""
    return lambda one: replace(one, text=text, raw=raw, edit_count=one.edit_count + 1)


def make_reaction(emoji: str) -> Callable[[ScreenMessage], ScreenMessage]:
    """The change that somebody's reaction is."""
    return lambda one: replace(one, reactions=(*one.reactions, emoji))


def make_reaction_removal(emoji: str) -> Callable[[ScreenMessage], ScreenMessage]:
    """The change when somebody takes theirs back: others' stay."""

    def change(one: ScreenMessage) -> ScreenMessage:
        at = one.reactions.index(emoji) if emoji in one.reactions else len(one.reactions)
        return replace(one, reactions=one.reactions[:at] + one.reactions[at + 1 :])

    return change


@asynccontextmanager
async def simulate_outage(*platforms: Simulator) -> AsyncIterator[None]:
    """All of these are down while entered."""
    for platform in platforms:
        await platform.start_outage()
    try:
        yield
    finally:
        for platform in platforms:
            await platform.end_outage()

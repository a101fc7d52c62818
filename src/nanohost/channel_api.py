"""The only module that a channel file imports: what a channel is given, what it must do, and which errors it may raise.

A channel is one file with a header that is read without importing it:

    # /// script
    # dependencies = ["httpx>=0.28"]
    # [tool.nanohost]
    # kind = "channel"
    # name = "example"
    # api = 1
    # ///

and a function `create(context: ChannelContext) -> Channel`. It holds no durable state: the host keeps what must
survive, and where the channel was in its platform's stream, if it says so (`Inbox.save_checkpoint`). Abilities beyond
plain text are separate small protocols that a channel may also satisfy. A channel that opens a Unix socket wraps its
path in `short_socket_path`: a home may lie deeper than the kernel lets a socket's path be. One that calls a platform
asks `proxy_for` once, when it is created, and hands what it says to its HTTP client: the proxy's address, or None.

    ChannelError                    raised by `send` and nothing else is
    ├── NotSent                     surely not sent; the host tries again, a bounded number of times
    │   ├── ChannelDown             the platform, or the person's end of it, is not there: the message waits
    │   ├── ChatMoved               the chat is called otherwise now: the host moves it, and sends there
    │   ├── ThreadGone              the thread takes no messages any more: the host sends to the chat itself
    │   └── RateLimited             the same, not before `retry_after_s`; the whole chat waits
    ├── Ambiguous                   may have been sent; the host uses the idempotency key or the chat's policy
    ├── Refused                     the platform will never take this message as it is
    └── AuthFailed                  the platform does not know us any more; the channel is paused
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from nanohost.errors import ChannelError as ChannelError
from nanohost.net import proxies
from nanohost.net.proxies import aiohttp_options as aiohttp_options
from nanohost.net.proxies import is_this_machine as is_this_machine
from nanohost.net.socket_path import short_socket_path as short_socket_path
from nanohost.rendering import Form as Form
from nanohost.rendering import Unit as Unit

API_VERSION = 1
"""What `api` in a channel's header must say. Raised when a channel written for the old number would break."""


SLOWEST_UPLOAD = 64_000
"""Bytes a second, half a megabit: a file that goes out more slowly is taken for one that does not go out."""


_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
"""Bytes of an upload that a system may have taken and not sent yet (Linux: the most of net.ipv4.tcp_wmem)."""


def upload_answer_s(size: int) -> float:
    """How much longer than for a text the answer to an upload of so many bytes is to be waited for, once the last of
    them is handed over: what is under way yet goes at the line's pace."""
    return min(size, _SOCKET_BUFFER_BYTES) / SLOWEST_UPLOAD


class EventKind(StrEnum):
    """What happened on the platform."""

    MESSAGE = "message"
    EDIT = "edit"
    DELETION = "deletion"
    """The message named in `refers_to` is gone: its author deleted it, or somebody who may. No text, no parts."""
    REACTION = "reaction"
    REACTION_REMOVED = "reaction_removed"
    """Somebody took back the reaction `text` to the message named in `refers_to`."""
    NOTICE = "notice"
    """The platform itself says something of the chat (a number changed, a chat was opened): nobody's words. It wakes
    nobody; an agent reads of it with the next message."""
    CLICK = "click"
    """A button of ours was pressed: `text` is its label, `value` what the host gave it, `refers_to` its message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who wrote. `handle` is the platform's unchangeable id, `name` is what people read."""

    handle: str
    name: str
    is_bot: bool = False
    is_self: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file that came with a message. `ref` is what the channel finds it by, also after a restart, for as long as its
    platform keeps it; `size` in bytes, where the platform says so; `name` may be anything, or nothing."""

    ref: str
    name: str = ""
    media_type: str = ""
    size: int | None = None


class PartKind(StrEnum):
    """What a part of a message is to the person who sent it."""

    QUOTED = "quoted"
    """What the message replies to."""
    FORWARDED = "forwarded"
    """Somebody else's message, passed on."""
    LINK = "link"
    """An address that stands behind words."""
    SHARED = "shared"
    """Anything else beside text: a poll, a place, a contact, a preview, what the channel does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a message holds beside its sender's own words, which are the event's `text`. The agent is shown each as an
    element of its own, so that nobody else's words look like the sender's.

    `text`: the words of it; of a LINK the words that it stands behind. `title`: what it is in a word or two ("poll"),
    SHARED only. `author`, `sent_at` and `chat`: whose words they were, when and where they were said, as far as the
    platform tells. `marked`: the passage of a QUOTED message that the sender chose. `url`: the address of a LINK.
    """

    kind: PartKind
    text: str = ""
    title: str = ""
    author: str = ""
    chat: str = ""
    sent_at: datetime | None = None
    marked: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundEvent:
    """One thing that happened on the platform. Ids are opaque strings; the host never parses them.

    (channel type, instance, `platform_id`, `platform_message_id`, `kind`) names the event for ever: the same event
    delivered twice must carry the same five. Edits and reactions that can repeat for one message put what tells
    them apart (an edit time, an emoji) into `platform_message_id` and name the message in `refers_to`; a message names
    the one that it replies to there. So does a deletion.

    `text` is what the sender wrote, without anybody else's words. What comes with it is in `parts`, in the order in
    which people see it; a message without text, file and part is put on record and wakes nobody. `album` is what the
    platform calls several files that were sent as one message and are told of one by one: the host joins them.
    """

    platform_id: str
    platform_message_id: str
    sender: Sender
    text: str
    sent_at: datetime
    kind: EventKind = EventKind.MESSAGE
    thread_id: str | None = None
    is_group: bool = False
    mentions_bot: bool = False
    refers_to: str | None = None
    chat_name: str = ""
    value: str | None = None
    attachments: tuple[Attachment, ...] = ()
    parts: tuple[Part, ...] = ()
    album: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The event is committed. `new` is False when it had been accepted before."""

    new: bool


class Inbox(Protocol):
    """Where a channel hands in what it received."""

    async def accept(self, event: InboundEvent) -> Accepted:
        """Commit the event. Only after this returned may the channel acknowledge its platform.

        An event that can never be used (no ids, wrong types) is recorded as dropped and counts as accepted, so that
        the platform does not send it for ever. If the event could not be committed this raises, and the channel
        must not acknowledge.
        """
        ...

    def reached(self) -> None:
        """Somebody can be reached by this channel who perhaps could not be before: what waits for it is tried now, and
        not only when it is looked at again. Returns at once, and may be called too often."""
        ...

    async def moved(self, old: str, new: str) -> None:
        """The chat whose `platform_id` was `old` goes on as `new`, with all that belongs to it: agents, conversations,
        what is still to be sent. Returns after that is on disk; again, from either end, it does no harm. To be called
        before an event of the new chat is handed in. Raises if it could not be committed."""
        ...

    async def latest(self) -> Mapping[str, str]:
        """The newest committed message of each chat of this instance: its `platform_message_id` by `platform_id`, of
        the 200 chats that were written in last. For a channel whose platform redelivers nothing: it reads on from
        there. An event that is handed in again does no harm."""
        ...

    async def recent(self, platform_id: str, since: datetime) -> Mapping[str, str | None]:
        """The messages of a chat that people wrote since that moment and whose deletion is not on record: their
        `thread_id` by `platform_message_id`, the newest 500. For a channel whose platform does not tell later what was
        deleted: it can look which of them are still there. What reached no agent stays in it: that such a message
        is gone is not kept, and may be handed in again."""
        ...

    async def save_checkpoint(self, text: str) -> None:
        """Keep where this instance is in its platform's stream, for its next life: at most 4,000 characters, in place
        of what was saved before. It says nothing of what is not committed yet. Raises ValueError for a longer one, and
        as `accept` when it could not be kept."""
        ...

    async def checkpoint(self) -> str | None:
        """What was saved last, also in an earlier life; None if that is nothing. It may be older than the truth, after
        a crash or out of a backup: it is to save time or tell more, never what a channel relies on to lose nothing."""
        ...

    async def failed_later(self, key: str, platform_message_id: str, reason: str) -> None:
        """The platform took the message that was sent under this idempotency key, called it `platform_message_id`, and
        says now that it did not arrive; `reason` is for the operator and the agent. Returns after that is on disk: the
        message is failed, and who said it knows. Said again, or of a key of nobody's, it does no harm. Raises if it
        could not be committed, and then the channel must not acknowledge. For channels with `fails_later`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a message goes: a chat on the channel's own platform, and a thread in it."""

    platform_id: str
    thread_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundText:
    """A message in the form that the channel declared. `reply_to` is the platform's id of the message being answered,
    where known. `plain` says the same without markup: for the channel to send when its platform refuses the markup.
    `agent`: whose words they are, empty for the host's own; `is_trouble`: the host says that something went wrong, or
    does not go on; `at`: when it was to be said, which may be long before it can be sent. For channels that show it.
    """

    text: str
    reply_to: str | None = None
    plain: str | None = None
    agent: str = ""
    is_trouble: bool = False
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """`value` comes back when it is pressed: at most 32 bytes of A-Z a-z 0-9 : _ -, made by the host."""

    label: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundCard:
    """A message with buttons, never more than `capabilities.buttons`; `text`, `plain`, `reply_to` as in OutboundText.
    Labels are no longer than `capabilities.button_label` characters."""

    text: str
    buttons: tuple[Button, ...]
    reply_to: str | None = None
    plain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundFile:
    """A file, never larger than `capabilities.file_bytes`. `name` is a bare name; `content` is a regular file that
    nobody changes while it is sent; `text` is what is said with it, `plain` and `reply_to` as in OutboundText."""

    name: str
    media_type: str
    size: int
    content: Path
    text: str = ""
    reply_to: str | None = None
    plain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The platform has it. The ids are the platform's own, in the order of the parts."""

    platform_message_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the platform takes messages; None is no limit. The host waits: `send` need not.

    `between_s`: seconds from one message to the next in one chat. `a_minute_in_a_group`: messages in one group chat.
    `a_second`: messages of this instance in all chats together.
    """

    between_s: float | None = None
    a_minute_in_a_group: int | None = None
    a_second: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the platform can do, as data.

    `threads`: chats have threads that replies belong to. `idempotent_send`: two sends with one key give one message.
    `form`: how texts are marked up. `text_limit`: the longest text of one message, counted in `text_unit`, of the text
    without its tags if `counted_after_parsing`; what is longer comes as several messages, as does what has more styled
    or linked stretches than `entities`; None is any. `typing_every_s`: how often a channel that ShowsTyping is asked
    to. `buttons`: how many a card may have, `button_label`: characters of each. `file_bytes`: the largest file that can
    be sent, with `caption_limit` units of text. `reactions`: the emoji that can be set; None is any. `fails_later`:
    the platform may give up on a message after it took it, and tells that by the idempotency key: see
    Inbox.failed_later.
    """

    threads: bool = False
    idempotent_send: bool = False
    form: Form = Form.MARKDOWN
    text_limit: int | None = None
    text_unit: Unit = Unit.CHARS
    counted_after_parsing: bool = False
    entities: int | None = None
    pace: Pace = Pace()
    typing_every_s: float = 4.0
    buttons: int = 0
    button_label: int = 20
    file_bytes: int = 0
    caption_limit: int = 1024
    reactions: frozenset[str] | None = frozenset()
    fails_later: bool = False


class Channel(Protocol):
    """The adapter of one platform. One object serves one instance (one bot account) for one life of the host."""

    @property
    def capabilities(self) -> Capabilities: ...

    def connected(self) -> AbstractAsyncContextManager[None]:
        """Be able to send while entered. Never raises because the network is down: `send` says so then."""
        ...

    async def receive(self, inbox: Inbox) -> None:
        """Read the platform until cancelled, inside `connected`. Returning or raising makes the host call it again,
        after a pause that grows; the channel need not loop over failures by itself."""
        ...

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        """Hand one message to the platform. Returning means the platform has it; anything else raises a ChannelError.

        Never sleeps on a rate limit and never retries a request that may have taken effect: the host does both, and
        ends a send that takes longer than a minute, with a file as much more as its size takes at SLOWEST_UPLOAD.
        """
        ...


@runtime_checkable
class ShowsTyping(Protocol):
    """A channel that can show that an answer is being made."""

    async def typing(self, address: Address) -> None:
        """Show it once; the platform lets it fade. Failures are ignored."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What an agent is doing now. `for_s`: how long its turn runs, in seconds; `tool`: what it uses, as its program
    calls it (at most 40 printable characters, empty for none), and for how long; `for_person`: it waits for a person's
    answer. The agent's container says so itself."""

    for_s: float = 0.0
    tool: str = ""
    tool_for_s: float = 0.0
    for_person: bool = False


@runtime_checkable
class ShowsWork(Protocol):
    """A channel that can show what an agent is doing, in place of that it does something: asked in the place of
    `ShowsTyping.typing`."""

    async def working(self, address: Address, work: Work) -> None:
        """Show it until it is called again; it fades by itself after a few seconds. Failures are ignored."""
        ...


@runtime_checkable
class SendsCards(Protocol):
    """A channel whose platform has buttons. A press comes back as an event of kind CLICK."""

    async def send_card(self, address: Address, card: OutboundCard, *, idempotency_key: str) -> Receipt:
        """As Channel.send."""
        ...


@runtime_checkable
class SendsFiles(Protocol):
    """A channel whose platform takes files."""

    async def send_file(self, address: Address, file: OutboundFile, *, idempotency_key: str) -> Receipt:
        """As Channel.send. No limit of its own for all of an upload: one for a piece of it to get on, and one for the
        answer after it; see `upload_answer_s`."""
        ...


@runtime_checkable
class Edits(Protocol):
    """A channel whose platform lets us change what we sent."""

    async def edit(self, address: Address, message_id: str, message: OutboundText | OutboundCard) -> None:
        """Have a message of ours say this, buttons as given. One that says it already is no error; one that is gone or
        cannot be changed any more is Refused. Doing it twice is harmless, so nothing is ever Ambiguous."""
        ...


@runtime_checkable
class Reacts(Protocol):
    """A channel whose platform has reactions."""

    async def react(self, address: Address, message_id: str, emoji: str) -> None:
        """Set our reaction to a message, one of `capabilities.reactions`. Doing it twice is harmless."""
        ...


@runtime_checkable
class OpensDms(Protocol):
    """A channel that can write to a person who has not written in a DM yet."""

    async def open_dm(self, handle: str) -> Address:
        """Where to write to the person with this handle. Raises Refused when the platform does not let us."""
        ...


@runtime_checkable
class DeepLinks(Protocol):
    """A channel whose platform has addresses that open a chat with us."""

    async def deep_link(self, text: str) -> str | None:
        """An address that opens a chat with us with this text (letters, digits, dashes; 64 at most) sent, or ready to
        be. None while it is not known who we are there. May ask the platform, inside of `connected`; raises
        ChannelError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuCommand:
    """A command of the host that a platform's menu is to offer: typed as `/name`. `help`: what it does, in a few words.
    `arguments`: an example of what is typed behind it, empty if nothing is. `is_private`: in direct messages alone.
    """

    name: str
    help: str
    arguments: str = ""
    is_private: bool = False


@runtime_checkable
class ShowsCommands(Protocol):
    """A channel whose platform has a menu of a bot's commands. A command that is chosen there comes in as the text that
    would have been typed, addressed to us."""

    async def show_commands(self, commands: Sequence[MenuCommand]) -> None:
        """Have the menu offer these and no others. Asked for inside of `connected`, again after a failure, and in each
        life of the host: doing it twice is harmless. Raises ChannelError."""
        ...


@runtime_checkable
class FetchesFiles(Protocol):
    """A channel whose people send files."""

    async def fetch(self, attachment: Attachment, into: Path, *, most_bytes: int) -> None:
        """Write the file's bytes into the empty file at `into`. Raises Refused for one that is gone or larger than
        `most_bytes` (whatever its size was said to be), NotSent when it may be there later."""
        ...


@runtime_checkable
class FindsSent(Protocol):
    """A channel that can ask its platform what became of a send whose answer was lost."""

    async def find_sent(self, address: Address, *, idempotency_key: str) -> Receipt | None:
        """The receipt of what was sent under this key, None if it surely is not there. Asked before a send that may
        have taken effect is repeated. Raises ChannelError when the platform cannot say now."""
        ...


@runtime_checkable
class Checks(Protocol):
    """A channel that can try its settings."""

    async def check(self) -> str:
        """Make a real call, outside of `connected`, and say in a sentence who we are there and what we may do. Raises
        ChannelError with what is wrong and what to do about it."""
        ...


class Condition(StrEnum):
    """How a channel stands with its platform."""

    UP = "up"
    DOWN = "down"
    AUTH_FAILED = "auth_failed"
    CONFLICT = "conflict"
    """Somebody else uses the same credentials."""
    WAITING = "waiting"
    """For a person: to pair, to scan, to agree."""


@runtime_checkable
class SaysItsCondition(Protocol):
    """A channel that tells `nanohost status` how it stands."""

    def condition(self) -> tuple[Condition, str]:
        """The condition, and a sentence for the operator: what happened and what to do; empty when all is well."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelContext:
    """What a channel is made from.

    `settings` is the table [channels.NAME] of nanohost.toml with secrets already resolved; `runtime_dir` is a folder
    for sockets that is emptied between runs.
    """

    instance: str
    settings: Mapping[str, Any]
    runtime_dir: Path
    home: Path


class NotSent(ChannelError):
    """Surely not sent: no connection, refused before the request left. Trying again is safe."""

    reason = "not_sent"


class ChannelDown(NotSent):
    """Not sent because nothing is at the other end now. Waits as long as it takes, and counts as no try."""

    reason = "down"


class ChatMoved(NotSent):
    """Not sent: the chat goes on under the id `to`, where it is sent at once."""

    reason = "moved"

    def __init__(self, text: str, *, to: str) -> None:
        super().__init__(text)
        self.to = to


class ThreadGone(NotSent):
    """Not sent: the thread was deleted or closed. It is sent to the chat outside of threads, with a sentence. Not to be
    raised for an address without a thread."""

    reason = "thread_gone"


class RateLimited(NotSent):
    """Not sent; the platform asks to wait `retry_after_s` seconds in this chat, or in all (`whole_channel`)."""

    reason = "rate_limited"

    def __init__(self, text: str, *, retry_after_s: float, whole_channel: bool = False) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        self.whole_channel = whole_channel


class Ambiguous(ChannelError):
    """The answer was lost: it may have been sent."""

    reason = "ambiguous"


class Refused(ChannelError):
    """The platform will never take this message: too long, bad format, blocked, chat gone. `chat_closed`: nor any other
    one in that chat as things stand, since the bot was blocked or left, or the person has to write first."""

    reason = "refused"

    def __init__(self, text: str = "", *, chat_closed: bool = False) -> None:
        super().__init__(text)
        self.chat_closed = chat_closed


class RefusedHere(Refused):
    """Refused before the platform was asked: a file that is gone, an emoji that the platform does not have. It shows
    nothing of whether the platform works."""


class AuthFailed(ChannelError):
    """The platform does not accept our credentials."""

    reason = "auth"


def proxy_for(url: str) -> str | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name for this address: http://, https://, socks5://
    or socks5h://, with user and password; None: it is reached directly, as an address on this machine always is.

    Raises ChannelDown, in one line, where they name what cannot be used. For aiohttp: `aiohttp_options`.
    """
    try:
        return proxies.proxy_for(url)
    except proxies.InvalidProxyError as error:
        raise ChannelDown(str(error)) from None


def through_proxy(url: str) -> str:
    """For a sentence that says that this address cannot be reached: ` through the proxy HOST:PORT (VARIABLE)`, without
    user and password; empty where it is reached directly."""
    return proxies.describe_proxy(url)

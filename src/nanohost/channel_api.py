"""Defines the channel API: what a channel is given, what it must do, which errors it may raise.

It is the only module of nanohost that a channel file imports.

A channel is one file with a header that is read without importing it:

    # /// script
    # dependencies = ["httpx>=0.28"]
    # [tool.nanohost]
    # kind = "channel"
    # name = "example"
    # api = 1
    # ///

and a function `create(context: ChannelContext) -> Channel`. It holds no durable state: the host keeps what must
survive, and the channel's position in its platform's stream if the channel saves it (`Inbox.save_checkpoint`).
Features beyond plain text are separate small protocols that a channel may also implement. A channel that opens a Unix
socket passes its path through `short_socket_path`, since a home's path may be longer than the kernel allows for a
socket. A channel that calls a platform calls `proxy_for` once, when it is created, and gives the result, a proxy's
address or None, to its HTTP client.

    ChannelError                    the only errors that `send` raises
    ├── NotSent                     certainly not sent; the host retries, a limited number of times
    │   ├── ChannelDown             the platform, or the person's end of it, is down: the message waits
    │   ├── ChatMoved               the chat has a new id: the host moves the chat and sends there
    │   ├── ThreadGone              the thread takes no messages any more: the host sends to the chat itself
    │   └── RateLimited             not sent; the host retries after `retry_after_s`, and the whole chat waits
    ├── Ambiguous                   may have been sent; the host uses the idempotency key or the chat's policy
    ├── Refused                     the platform will never accept this message as it is
    └── AuthFailed                  the platform rejects our credentials; the channel is paused
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
"""The value of `api` in a channel's header. Increased when a channel written for the old number would break."""


SLOWEST_UPLOAD = 64_000
"""Bytes a second, half a megabit: an upload that is slower counts as one that makes no progress."""


_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
"""Bytes of an upload that the kernel may have buffered and not sent yet (Linux: the maximum of net.ipv4.tcp_wmem)."""


def upload_answer_s(size: int) -> float:
    """Returns the extra seconds to wait for the answer to an upload of `size` bytes, beyond the wait for a text.

    They count from when the last byte was written: the kernel still has to send what it buffered.
    """
    return min(size, _SOCKET_BUFFER_BYTES) / SLOWEST_UPLOAD


class EventKind(StrEnum):
    """What happened on the platform."""

    MESSAGE = "message"
    EDIT = "edit"
    DELETION = "deletion"
    """The message named in `refers_to` was deleted, by its author or by somebody else. No text, no parts."""
    REACTION = "reaction"
    REACTION_REMOVED = "reaction_removed"
    """Somebody took back the reaction `text` to the message named in `refers_to`."""
    NOTICE = "notice"
    """A message of the platform itself about the chat (a number changed, a chat was opened), without an author. It
    triggers no turn; an agent reads it with the next message."""
    CLICK = "click"
    """Somebody pressed a button of ours: `text` is its label, `value` its value, `refers_to` its message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """The author of an event. `handle` is the platform's unchangeable id, `name` is what people read."""

    handle: str
    name: str
    is_bot: bool = False
    is_self: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file that came with a message. The channel finds it by `ref`, also after a restart, for as long as the platform
    keeps it. `size`: in bytes, if the platform says it. `name`: any text, or empty."""

    ref: str
    name: str = ""
    media_type: str = ""
    size: int | None = None


class PartKind(StrEnum):
    """What kind of content a part of a message is."""

    QUOTED = "quoted"
    """The message that this one replies to."""
    FORWARDED = "forwarded"
    """A message of somebody else, forwarded."""
    LINK = "link"
    """The address of a text that is a link."""
    SHARED = "shared"
    """Any other content beside text: a poll, a place, a contact, a preview, content that the channel does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Content of a message beside its sender's own words, which are the event's `text`. The agent sees each part as an
    element of its own, so that the words of others do not look like the sender's.

    `text`: the part's words; of a LINK, the text that is linked. `title`: one or two words for what it is ("poll"),
    SHARED only. `author`, `sent_at` and `chat`: who wrote it, when and where, as far as the platform says. `marked`:
    the passage of a QUOTED message that the sender selected. `url`: the address of a LINK.
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

    (channel type, instance, `platform_id`, `platform_message_id`, `kind`) identifies the event for ever: the same
    event delivered twice must have the same five values. Edits and reactions can repeat for one message: they add what
    distinguishes them (an edit time, an emoji) to `platform_message_id` and name the message in `refers_to`. A deletion
    names its message there too, and a message names the one that it replies to.

    `text` is what the sender wrote, without the words of others. Other content is in `parts`, in the order in which
    people see it. A message without text, file and part is recorded and triggers no turn. `album` is the platform's id
    of several files that were sent as one message but arrive one by one: the host joins them.
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
    """The event is committed. `new` is False if it was accepted before."""

    new: bool


class Inbox(Protocol):
    """Accepts what a channel received."""

    async def accept(self, event: InboundEvent) -> Accepted:
        """Commit the event. The channel may acknowledge it to its platform only after this returns.

        An event that can never be used (no ids, wrong types) is recorded as dropped and counts as accepted, so that
        the platform does not send it for ever. Raises if the event could not be committed; then the channel must not
        acknowledge.
        """
        ...

    def reached(self) -> None:
        """Tell the host that the channel can perhaps reach somebody whom it could not reach before: waiting messages
        are sent now rather than at their next retry. Returns at once, and may be called too often."""
        ...

    async def moved(self, old: str, new: str) -> None:
        """Move the chat with the `platform_id` `old` to `new`, with everything that belongs to it: agents,
        conversations, messages that are still to be sent. Returns once that is on disk; a repeated call, with the old
        or the new chat, changes nothing. Call it before you accept an event of the new chat. Raises if it could not be
        committed."""
        ...

    async def latest(self) -> Mapping[str, str]:
        """Returns the newest committed message of each chat of this instance: its `platform_message_id` by
        `platform_id`, for the 200 most recently active chats. For a channel whose platform redelivers nothing: it
        continues to read from there. An event may be accepted again without harm."""
        ...

    async def recent(self, platform_id: str, since: datetime) -> Mapping[str, str | None]:
        """Returns the messages that people wrote in a chat since that time and whose deletion is not on record: their
        `thread_id` by `platform_message_id`, the newest 500. For a channel whose platform does not report deletions
        later: it can check which messages still exist. A message that reached no agent stays in the result: its
        deletion is not recorded, and may be reported again."""
        ...

    async def save_checkpoint(self, text: str) -> None:
        """Save this instance's position in its platform's stream for the next start: at most 4,000 characters, which
        replace what was saved before. Save only a position up to which all events are committed. Raises ValueError for
        a longer text, and like `accept` if it could not be committed."""
        ...

    async def checkpoint(self) -> str | None:
        """Returns what was saved last, also before a restart; None if nothing was. After a crash or from a backup it
        may be out of date: use it to save time or to fetch more, and never rely on it to lose no events."""
        ...

    async def failed_later(self, key: str, platform_message_id: str, reason: str) -> None:
        """Report a late failure: the platform accepted the message that was sent under this idempotency key, named it
        `platform_message_id`, and now says that it did not arrive. `reason` is for the operator and the agent. Returns
        once it is on disk that the message failed and that its agent is told. A repeated report, or one of an unknown
        key, changes nothing. Raises if it could not be committed; then the channel must not acknowledge. For channels
        with `fails_later`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a message goes: a chat on the channel's own platform, and a thread in it."""

    platform_id: str
    thread_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundText:
    """A message in the form that the channel declared. `reply_to`: the platform's id of the message that this one
    answers, if known. `plain`: the same text without markup, for the channel to send if the platform rejects markup.

    For channels that show them: `agent`: the agent that wrote it, empty for a message of the host; `is_trouble`: the
    host reports that something went wrong or has stopped; `at`: when it was written, which may be long before it can
    be sent.
    """

    text: str
    reply_to: str | None = None
    plain: str | None = None
    agent: str = ""
    is_trouble: bool = False
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """A button of a card. A press returns its `value`: at most 32 bytes of A-Z a-z 0-9 : _ -, made by the host."""

    label: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundCard:
    """A message with buttons: at most `capabilities.buttons`, with labels of at most `capabilities.button_label`
    characters. `text`, `plain` and `reply_to` are as in OutboundText."""

    text: str
    buttons: tuple[Button, ...]
    reply_to: str | None = None
    plain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundFile:
    """A file of at most `capabilities.file_bytes` bytes. `name`: a file name without a path. `content`: a regular file
    that nobody changes while it is sent. `text`: the caption; `plain` and `reply_to` are as in OutboundText."""

    name: str
    media_type: str
    size: int
    content: Path
    text: str = ""
    reply_to: str | None = None
    plain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The platform accepted the message. The ids are the platform's, in the order of the message's parts."""

    platform_message_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast the platform accepts messages; None is no limit. The host waits, so `send` need not.

    `between_s`: seconds from one message to the next in one chat. `a_minute_in_a_group`: messages in one group chat.
    `a_second`: messages of this instance in all chats together.
    """

    between_s: float | None = None
    a_minute_in_a_group: int | None = None
    a_second: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the platform can do, as data.

    `threads`: chats have threads that replies belong to. `idempotent_send`: two sends with one key make one message.
    `form`: how texts are marked up. `text_limit`: the longest text of one message in `text_unit`, without its tags if
    `counted_after_parsing`. `entities`: the most styled or linked spans in one message. The host splits a text that
    exceeds either; None is no limit. `typing_every_s`: how often the host calls a channel that ShowsTyping. `buttons`:
    how many buttons a card may have; `button_label`: the most characters of each label. `file_bytes`: the largest file
    that can be sent, with at most `caption_limit` units of text. `reactions`: the emoji that can be set; None is any.
    `fails_later`: the platform may report, by the idempotency key, that a message failed after it accepted it: see
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
    """The adapter of one platform. One object serves one instance (one bot account) until the host stops."""

    @property
    def capabilities(self) -> Capabilities: ...

    def connected(self) -> AbstractAsyncContextManager[None]:
        """Be able to send while entered. Never raises because the network is down: `send` raises then."""
        ...

    async def receive(self, inbox: Inbox) -> None:
        """Read the platform until cancelled, inside `connected`. If it returns or raises, the host calls it again after
        a growing pause, so the channel need not retry by itself."""
        ...

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        """Send one message to the platform. Returns if the platform accepted it; raises ChannelError otherwise.

        Never sleeps for a rate limit and never retries a request that may have taken effect: the host does both. The
        host cancels a send that takes longer than a minute; for a file it adds its size divided by SLOWEST_UPLOAD.
        """
        ...


@runtime_checkable
class ShowsTyping(Protocol):
    """A channel that can show that an agent is working on an answer."""

    async def typing(self, address: Address) -> None:
        """Show it once; the platform removes it by itself. Failures are ignored."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What an agent is doing now, as its container reports it. `for_s`: how long its turn has run, in seconds. `tool`:
    the name of the tool that it uses (at most 40 printable characters, empty for none); `tool_for_s`: for how long.
    `for_person`: whether it waits for a person's answer."""

    for_s: float = 0.0
    tool: str = ""
    tool_for_s: float = 0.0
    for_person: bool = False


@runtime_checkable
class ShowsWork(Protocol):
    """A channel that can show what an agent is doing. The host calls it in place of `ShowsTyping.typing`."""

    async def working(self, address: Address, work: Work) -> None:
        """Show the work until the next call, or for a few seconds if none comes. Failures are ignored."""
        ...


@runtime_checkable
class SendsCards(Protocol):
    """A channel whose platform has buttons. A press arrives as an event of kind CLICK."""

    async def send_card(self, address: Address, card: OutboundCard, *, idempotency_key: str) -> Receipt:
        """As Channel.send."""
        ...


@runtime_checkable
class SendsFiles(Protocol):
    """A channel whose platform takes files."""

    async def send_file(self, address: Address, file: OutboundFile, *, idempotency_key: str) -> Receipt:
        """As Channel.send. Set no timeout for the whole upload: set one for the progress of each piece, and one for the
        answer after the last; see `upload_answer_s`."""
        ...


@runtime_checkable
class Edits(Protocol):
    """A channel whose platform lets us change what we sent."""

    async def edit(self, address: Address, message_id: str, message: OutboundText | OutboundCard) -> None:
        """Replace the text and the buttons of a message of ours. Does nothing if the message is the same already.
        Raises Refused if it is gone or cannot be changed any more. Never raises Ambiguous: an edit can be repeated."""
        ...


@runtime_checkable
class Reacts(Protocol):
    """A channel whose platform has reactions."""

    async def react(self, address: Address, message_id: str, emoji: str) -> None:
        """Set our reaction to a message, one of `capabilities.reactions`. Can be repeated."""
        ...


@runtime_checkable
class OpensDms(Protocol):
    """A channel that can write to a person who has not written in a DM yet."""

    async def open_dm(self, handle: str) -> Address:
        """Returns the address of the direct message with a person. Raises Refused if the platform does not allow it."""
        ...


@runtime_checkable
class DeepLinks(Protocol):
    """A channel whose platform has addresses that open a chat with us."""

    async def deep_link(self, text: str) -> str | None:
        """Returns an address that opens a chat with us and sends, or offers to send, this text (at most 64 letters,
        digits and dashes). None while our own account is not known. May call the platform, inside `connected`. Raises
        ChannelError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuCommand:
    """A command of the host for the platform's menu: people type `/name`. `help`: what it does, in a few words.
    `arguments`: an example of its arguments, empty if it has none. `is_private`: only in direct messages.
    """

    name: str
    help: str
    arguments: str = ""
    is_private: bool = False


@runtime_checkable
class ShowsCommands(Protocol):
    """A channel whose platform has a menu of a bot's commands. A chosen command arrives as the text that people would
    type, addressed to us."""

    async def show_commands(self, commands: Sequence[MenuCommand]) -> None:
        """Have the menu offer these commands and no others. Called inside `connected` at each start of the host, and
        again after a failure, so it can be repeated. Raises ChannelError."""
        ...


@runtime_checkable
class FetchesFiles(Protocol):
    """A channel whose people send files."""

    async def fetch(self, attachment: Attachment, into: Path, *, most_bytes: int) -> None:
        """Write the attachment's bytes into the empty file at `into`. Raises Refused if it is gone or larger than
        `most_bytes` (whatever size the platform said), NotSent if it may be available later."""
        ...


@runtime_checkable
class FindsSent(Protocol):
    """A channel that can ask its platform whether a message arrived when the answer to its send was lost."""

    async def find_sent(self, address: Address, *, idempotency_key: str) -> Receipt | None:
        """Returns the receipt of the message sent under this key, None if it was certainly not sent. Called before the
        host repeats a send that may have taken effect. Raises ChannelError if the platform cannot say now."""
        ...


@runtime_checkable
class Checks(Protocol):
    """A channel that can test its settings."""

    async def check(self) -> str:
        """Make a real call, outside `connected`. Returns a sentence: which account we are and what it may do. Raises
        ChannelError with what is wrong and what to do about it."""
        ...


class Condition(StrEnum):
    """The state of a channel's connection to its platform."""

    UP = "up"
    DOWN = "down"
    AUTH_FAILED = "auth_failed"
    CONFLICT = "conflict"
    """Somebody else uses the same credentials."""
    WAITING = "waiting"
    """It waits for a person: to pair, to scan, to agree."""


@runtime_checkable
class SaysItsCondition(Protocol):
    """A channel that reports its condition to `nanohost status`."""

    def condition(self) -> tuple[Condition, str]:
        """Returns the condition and a sentence for the operator: what happened and what to do; empty if all is well."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelContext:
    """What `create` makes a channel from.

    `settings` is the table [channels.NAME] of nanohost.toml with secrets already resolved; `runtime_dir` is a folder
    for sockets that is emptied between runs.
    """

    instance: str
    settings: Mapping[str, Any]
    runtime_dir: Path
    home: Path


class NotSent(ChannelError):
    """Certainly not sent: no connection, or refused before the request left. A retry is safe."""

    reason = "not_sent"


class ChannelDown(NotSent):
    """Not sent because the other end is down now. The message waits without a time limit, and no attempt is counted."""

    reason = "down"


class ChatMoved(NotSent):
    """Not sent: the chat has the new id `to`, where the host sends it at once."""

    reason = "moved"

    def __init__(self, text: str, *, to: str) -> None:
        super().__init__(text)
        self.to = to


class ThreadGone(NotSent):
    """Not sent: the thread was deleted or closed. The host sends it to the chat itself, with a sentence about that.
    Never raise it for an address without a thread."""

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
    """The platform will never accept this message: too long, bad format, blocked, chat gone. `chat_closed`: it accepts
    no other message in that chat now either: the bot was blocked or has left, or the person has to write first."""

    reason = "refused"

    def __init__(self, text: str = "", *, chat_closed: bool = False) -> None:
        super().__init__(text)
        self.chat_closed = chat_closed


class RefusedHere(Refused):
    """Refused before the platform was called: a file that is gone, an emoji that the platform does not have. It does
    not tell whether the platform works."""


class AuthFailed(ChannelError):
    """The platform does not accept our credentials."""

    reason = "auth"


def proxy_for(url: str) -> str | None:
    """Returns the proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY set for this address: http://, https://,
    socks5:// or socks5h://, with user and password. None: connect directly, as always to an address on this machine.

    Raises ChannelDown, in one line, if the variables name a proxy that cannot be used. For aiohttp: `aiohttp_options`.
    """
    try:
        return proxies.proxy_for(url)
    except proxies.InvalidProxyError as error:
        raise ChannelDown(str(error)) from None


def through_proxy(url: str) -> str:
    """Returns ` through the proxy HOST:PORT (VARIABLE)`, without user and password, to end an error message about this
    address; empty if the address is reached directly."""
    return proxies.describe_proxy(url)

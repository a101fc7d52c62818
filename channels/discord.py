# /// script
# dependencies = ["aiohttp>=3.14", "aiohttp-socks>=0.12", "discord.py>=2.7", "pydantic>=2.14", "structlog>=26.1"]
# [tool.nanohost]
# kind = "channel"
# name = "discord"
# api = 1
# [[tool.nanohost.settings]]
# name = "token"
# help = "the bot's token: Discord developer portal, your application, Bot, Reset Token"
# secret = true
# ///
"""Connects one Discord bot: its DMs, and the channels and threads of its servers.

Discord's gateway has no acknowledgements: it sends one ordered stream, and a lost connection resumes it from a sequence
number. The number advances after an event is committed, never before, so that an uncommitted event is sent again. The
host stores it across restarts. If the stream is gone (after a long outage), the messages since the newest committed one
of each chat are read from the chats; in unknown chats, those since the newest reported message.

The client library builds the requests' paths and bodies, and implements the gateway's protocol. Requests are sent here,
one attempt per call: the library would retry and sleep by itself, keeps addresses in class attributes, and its client
ends if the first connection fails. A message has a nonce made of the host's key, so that a repetition is no second
message as long as Discord remembers it (minutes). An agent's text pings nobody.

A thread's chat is the channel that it belongs to. Only state that can be requested again is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import random
import re
import time
import warnings
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NoReturn

import aiohttp
import structlog
import yarl
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from nanohost.channel_api import (
    Address,
    Ambiguous,
    Attachment,
    AuthFailed,
    Capabilities,
    Channel,
    ChannelContext,
    ChannelDown,
    ChannelError,
    Condition,
    EventKind,
    Form,
    InboundEvent,
    Inbox,
    MenuCommand,
    NotSent,
    OutboundCard,
    OutboundFile,
    OutboundText,
    Pace,
    Part,
    PartKind,
    RateLimited,
    Receipt,
    Refused,
    RefusedHere,
    Sender,
    Unit,
    aiohttp_options,
    proxy_for,
    through_proxy,
    upload_answer_s,
)

with warnings.catch_warnings():
    # The library's voice part imports a deprecated module of Python's; it is not used.
    warnings.simplefilter("ignore", DeprecationWarning)
    import discord
    from discord.gateway import DiscordWebSocket, ReconnectWebSocket
    from discord.http import HTTPClient, MultipartParameters, Route

TEXT_LIMIT = 2_000
FILE_BYTES = 10 * 1024 * 1024
MAX_BUTTONS, BUTTONS_PER_ROW, MAX_LABEL_CHARS = 25, 5, 80
NONCE_LENGTH = 25

CONNECT_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 20.0
FILE_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=CALL_TIMEOUT_S)
"""For downloads of files: no total limit; the host cancels those that take too long."""
DEFER_TIMEOUT_S = 3.0
"""Seconds to acknowledge a button press; after that Discord shows the person an error."""
CLOSE_TIMEOUT_S = 1.0
MIN_RECONNECT_DELAY_S = 0.5
MAX_RECONNECT_DELAY_S = 10.0
AUTH_RETRY_DELAY_S = 120.0
"""Discord counts how often a bot identifies, and revokes its token after 1,000 a day."""
IDENTIFY_BUDGET, IDENTIFY_DELAY_S = 20, 90.0
"""After so many identifications whose streams were lost at once, the bot identifies less often than that limit."""
MAX_RETRY_AFTER_S = 3600.0
"""The longest wait in seconds that is accepted from Discord; it may ask to wait again."""
MAX_EMOJI_CHARS = 32
LOOKUP_TIMEOUT_S = 3.0
"""Seconds to fetch another message (a quoted one, the start of a thread): the stream waits meanwhile."""
HEALTHY_AFTER_S = 10.0
MAX_RESUME_ATTEMPTS = 2
"""Failed attempts to resume after which the stream counts as gone."""
CHECKPOINT_INTERVAL_S = 1.0
"""How often the position in the stream is stored; events repeated after a crash are harmless."""
CATCH_UP_CONCURRENCY = 5
PAGE_SIZE, MAX_PAGES = 100, 10
"""Missed messages that are read in each chat."""
MAX_SEARCHED_CHANNELS = 50
"""Unknown channels that are searched after an outage too long to resume."""
CATCH_UP_ATTEMPTS, CATCH_UP_RETRY_DELAY_S = 5, 30.0
MAX_CACHED_NAMES = 5_000
CHUNK_BYTES = 256 * 1024

RESUMABLE_CLOSE = 4000
"""Closed with this code (unlike 1000) the stream can be resumed."""
THREAD_TYPES = frozenset({10, 11, 12})
TYPES_WITHOUT_MESSAGES = frozenset({4, 14, 15, 16})
"""Categories, directories, and forums: their posts are threads."""
DEFAULT_MESSAGE, REPLY = 0, 19
USER_MESSAGE_TYPES = frozenset({DEFAULT_MESSAGE, REPLY, 20, 23})
"""Types of messages by people and apps; the last two are answers to a command. Other types are Discord's notices."""
FORWARD = 1
"""The type of a reference for a forwarded message, not for a reply."""
PREVIEW_EMBED_TYPES = frozenset({"link", "article", "image", "video", "gifv"})
"""Types of embeds that Discord creates for links in a text."""
MESSAGE_COMPONENT = 3
APPLICATION_COMMAND = 2
"""Of an interaction's types."""
EPHEMERAL_FLAG = 1 << 6
"""Of a message's flags."""
MESSAGE_CONTENT_FLAGS = 1 << 18 | 1 << 19
"""Of an application's flags: the Message Content Intent is on (the second: for a bot in few servers)."""
PERMISSIONS = discord.Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    attach_files=True,
    read_message_history=True,
    add_reactions=True,
).value

_NO_MENTIONS = discord.AllowedMentions.none()
_ENABLE_CONTENT_HINT = (
    "turn on Message Content Intent in the Discord developer portal (your application, Bot, Privileged Gateway Intents)"
)
_NEW_TOKEN_HINT = "set a valid token: the Discord developer portal, your application, Bot, Reset Token"  # noqa: S105
_REMEDIES = {
    10003: "the channel is gone, or was never one",
    50001: "the bot may not see that channel: allow it View Channel there",
    50007: "the person takes no DMs from this bot",
    50013: "the bot may not do that there: allow it Send Messages, Attach Files and Add Reactions",
}

for _name in ("discord", "aiohttp"):
    logging.getLogger(_name).setLevel(logging.WARNING)
discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False
_log = structlog.get_logger()


def create(context: ChannelContext) -> Channel:
    """Creates the channel. Raises ChannelError that says which settings are missing, and where to get them."""
    return DiscordChannel(_settings(context))


# --- settings ---


class DiscordSettings(BaseModel):
    """The table [channels.discord]. `gateway_url`: asked of Discord if not given; `timeout_s`: for one call."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    token: str = Field(repr=False)
    rest_url: str = "https://discord.com/api/v10"
    gateway_url: str | None = None
    timeout_s: float = Field(default=CALL_TIMEOUT_S, gt=0, le=50)


def _settings(context: ChannelContext) -> DiscordSettings:
    """Reads the settings. Errors never contain the token."""
    table = "channels.discord" if context.instance == "default" else f"channels.discord.{context.instance}"
    token = str(context.settings.get("token") or "").strip().removeprefix("Bot ")
    if not token or not token.isascii() or any(char.isspace() for char in token):
        raise ChannelError(f"{table} needs token: the bot's token from the Discord developer portal (Bot, Reset Token)")
    try:
        settings = DiscordSettings.model_validate({**context.settings, "token": token})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ChannelError(f"{table} cannot be used: {wrong}") from None
    if not settings.rest_url.startswith(("https://", "http://")):
        raise ChannelError(f"{table}: rest_url must be an address such as https://discord.com/api/v10")
    if settings.gateway_url is not None and not settings.gateway_url.startswith(("wss://", "ws://")):
        raise ChannelError(f"{table}: gateway_url must be an address such as wss://gateway.discord.gg")
    return settings


# --- what Discord says ---


def _replace_surrogates(text: str) -> str:
    """Replaces unpaired surrogates, which JSON can contain."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _well_formed(value: object) -> object:
    return _replace_surrogates(value) if isinstance(value, str) else "" if value is None else value


Text = Annotated[str, BeforeValidator(_well_formed)]
Id = Annotated[str, Field(pattern=r"\A[0-9]{1,20}\z")]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class User(_Payload):
    id: Id
    username: Text = ""
    global_name: Text = ""
    bot: bool = False

    @property
    def name(self) -> str:
        return self.global_name or self.username or self.id


class Member(_Payload):
    """Somebody in one server. `user` is left out where it stands beside."""

    user: User | None = None
    nick: Text = ""


class _NullTolerantPayload(_Payload):
    """A payload whose null fields count as missing."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, said: object) -> object:
        return {key: one for key, one in said.items() if one is not None} if isinstance(said, dict) else said


class AttachmentPayload(_NullTolerantPayload):
    url: str
    filename: Text = ""
    description: Text = ""
    content_type: Text = ""
    size: int | None = None


class Emoji(_Payload):
    id: Id | None = None
    name: Text = ""


class NamedPayload(_Payload):
    """An object of which only the text is used: a sticker, the author or the footer of an embed."""

    name: Text = ""
    text: Text = ""
    value: Text = ""


class Media(_Payload):
    url: Text = ""


class Embed(_NullTolerantPayload):
    type: Text = "rich"
    title: Text = ""
    description: Text = ""
    url: Text = ""
    author: NamedPayload = NamedPayload()
    provider: NamedPayload = NamedPayload()
    fields_: tuple[NamedPayload, ...] = Field(default=(), alias="fields")
    footer: NamedPayload = NamedPayload()
    image: Media = Media()
    thumbnail: Media = Media()
    video: Media = Media()


class PollMedia(_Payload):
    text: Text = ""
    emoji: Emoji | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, [self.emoji.name if self.emoji else "", self.text]))


class PollAnswer(_NullTolerantPayload):
    answer_id: int = 0
    poll_media: PollMedia = PollMedia()


class AnswerCount(_Payload):
    id: int
    count: int


class PollResults(_Payload):
    answer_counts: tuple[AnswerCount, ...] = ()


class Poll(_NullTolerantPayload):
    question: PollMedia = PollMedia()
    answers: tuple[PollAnswer, ...] = ()
    allow_multiselect: bool = False
    results: PollResults | None = None


class Choice(_Payload):
    label: Text = ""


class GalleryItem(_NullTolerantPayload):
    media: Media = Media()
    description: Text = ""


class Component(_NullTolerantPayload):
    """A component of a card, of any type: each has some of these fields."""

    type: int = 0
    content: Text = ""
    label: Text = ""
    url: Text = ""
    placeholder: Text = ""
    description: Text = ""
    name: Text = ""
    emoji: Emoji | None = None
    options: tuple[Choice, ...] = ()
    items: tuple[GalleryItem, ...] = ()
    media: Media = Media()
    file: Media = Media()
    components: tuple[Component, ...] = ()
    component: Component | None = None
    accessory: Component | None = None


class Content(_Payload):
    """The content of a message, also of a forwarded or quoted one. `unread`: invalid fields. `unknown`: fields that
    this
    file does not know."""

    content: Text = ""
    timestamp: datetime | None = None
    mentions: tuple[User, ...] = ()
    attachments: tuple[AttachmentPayload, ...] = ()
    embeds: tuple[Embed, ...] = ()
    components: tuple[Component, ...] = ()
    poll: Poll | None = None
    sticker_items: tuple[NamedPayload, ...] = ()
    message_snapshots: tuple[Snapshot, ...] = ()
    unread: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _drop_invalid_items(cls, said: object) -> object:
        """Drops invalid items of lists, so that the valid ones can be read."""
        if not isinstance(said, dict):
            return said
        kept, unread = dict(said), list[str]()
        for key, kind in _LIST_FIELDS.items():
            if isinstance(some := said.get(key), list):
                kept[key] = [one for one in some if _is_valid(kind, one)]
                unread += [key] if len(kept[key]) < len(some) else []
        return kept | {"unread": unread} if unread else said


_LIST_FIELDS: Mapping[str, type[_Payload]] = {
    "mentions": User,
    "attachments": AttachmentPayload,
    "embeds": Embed,
    "components": Component,
    "sticker_items": NamedPayload,
}
"""The lists that a message may contain, and the types of their items."""


def _is_valid(kind: type[_Payload], said: object) -> bool:
    try:
        kind.model_validate(said)
    except ValidationError:
        return False
    return True


class Snapshot(_Payload):
    message: Content


class Reference(_Payload):
    """A reference from one message to another; `type`: a reply or a forward."""

    type: int = 0
    message_id: Id | None = None
    channel_id: Id | None = None
    guild_id: Id | None = None


class ReferencedMessage(Content):
    """The message that a message replies to."""

    id: Id
    author: User


class Message(Content):
    id: Id
    channel_id: Id
    guild_id: Id | None = None
    author: User
    member: Member | None = None
    timestamp: datetime
    edited_timestamp: datetime | None = None
    type: int = DEFAULT_MESSAGE
    webhook_id: Id | None = None
    mention_roles: tuple[Id, ...] = ()
    message_reference: Reference | None = None
    referenced_message: ReferencedMessage | None = None

    @property
    def replies_to(self) -> str | None:
        """The id of the message that this one replies to."""
        if self.referenced_message is not None:
            return self.referenced_message.id
        reference = self.message_reference
        return None if reference is None or reference.type == FORWARD else reference.message_id


_CONTENT_FIELDS = (
    *("content", "member", "mentions", "mention_roles", "attachments", "embeds", "components", "poll"),
    *("sticker_items", "message_snapshots", "message_reference", "referenced_message"),
)
_METADATA_FIELDS = frozenset(
    {
        *("application", "application_id", "channel_type", "flags", "id", "interaction", "interaction_metadata"),
        *("mention_channels", "mention_everyone", "nonce", "pinned", "position", "reactions", "resolved"),
        *("role_subscription_data", "stickers", "thread", "tts"),
    }
)
"""What is said of a message, beside what it holds."""


def parse_message(said: object) -> Message:
    """A message with all of it that makes sense; of the rest it is known that it is there. Raises ValidationError when
    it cannot be read whose it is, where or when."""
    try:
        return _with_unknown_fields(Message.model_validate(said), said)
    except ValidationError:
        if not isinstance(said, dict):
            raise
    basic = {key: value for key, value in said.items() if key not in _CONTENT_FIELDS}
    known, unread = Message.model_validate(basic), list[str]()
    for key in filter(said.__contains__, _CONTENT_FIELDS):
        try:
            alone = Message.model_validate(basic | {key: said[key]})
            known = known.model_copy(update={key: getattr(alone, key)})
            unread += alone.unread
        except ValidationError:
            unread.append(key)
    return _with_unknown_fields(known.model_copy(update={"unread": tuple(unread)}), said)


def _with_unknown_fields(message: Message, said: object) -> Message:
    known = Message.model_fields.keys() | _METADATA_FIELDS
    unknown = [str(key) for key, value in said.items() if value and key not in known] if isinstance(said, dict) else []
    return message.model_copy(update={"unknown": tuple(unknown)}) if unknown else message


class ChannelPayload(_Payload):
    id: Id
    type: int
    guild_id: Id | None = None
    parent_id: Id | None = None
    name: Text = ""
    last_message_id: Id | None = None


class RoleTags(_Payload):
    bot_id: Id | None = None


class Role(_Payload):
    id: Id
    name: Text = ""
    tags: RoleTags = RoleTags()


class Guild(_Payload):
    id: Id
    name: Text = ""
    channels: tuple[ChannelPayload, ...] = ()
    threads: tuple[ChannelPayload, ...] = ()
    roles: tuple[Role, ...] = ()


class IdPayload(_Payload):
    id: Id


class Ready(_Payload):
    """`guilds`: the servers that we were in before; each shows itself next."""

    user: User
    guilds: tuple[IdPayload, ...] = ()
    application: IdPayload | None = None


class Reaction(_Payload):
    user_id: Id
    channel_id: Id
    message_id: Id
    guild_id: Id | None = None
    member: Member | None = None
    emoji: Emoji


class Deleted(_Payload):
    """One message, or several that a moderator deleted at once."""

    id: Id | None = None
    ids: tuple[Id, ...] = ()
    channel_id: Id
    guild_id: Id | None = None


class ButtonPayload(_Payload):
    custom_id: str = ""
    label: Text = ""


class Row(_Payload):
    components: tuple[ButtonPayload, ...] = ()


class CardPayload(_Payload):
    id: Id
    components: tuple[Row, ...] = ()


class Option(_Payload):
    value: str | int | float | bool = ""


class InteractionData(_Payload):
    """The pressed button, or the command chosen from the menu."""

    custom_id: str = ""
    name: str = ""
    options: tuple[Option, ...] = ()


class Interaction(_Payload):
    id: Id
    type: int
    token: str = Field(repr=False)
    channel_id: Id | None = None
    guild_id: Id | None = None
    user: User | None = None
    member: Member | None = None
    message: CardPayload | None = None
    data: InteractionData | None = None


class Application(_Payload):
    id: Id
    flags: int = 0
    approximate_guild_count: int = 0


_LIST: TypeAdapter[list[object]] = TypeAdapter(list[object])


def _parse_messages(messages: Sequence[object]) -> Iterator[Message]:
    for said in messages:
        try:
            yield parse_message(said)
        except ValidationError as error:
            _log.warning("discord_event_invalid", channel="discord", about="history", problems=error.error_count())


# --- requests ---


class _Http(HTTPClient):
    """The library's requests over an own transport: one attempt each, and every failure is a ChannelError.

    Create it within a running loop, and close it.
    """

    def __init__(self, settings: DiscordSettings) -> None:
        super().__init__(asyncio.get_running_loop())
        self.token = settings.token
        self._base = settings.rest_url.rstrip("/")
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._call = aiohttp.ClientTimeout(total=settings.timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        way = aiohttp_options(proxy_for(self._base))
        self._transport = aiohttp.ClientSession(**way, timeout=self._call, cookie_jar=aiohttp.DummyCookieJar())

    async def close(self) -> None:
        await self._transport.close()

    async def ws_connect(self, url: str, *, compress: int = 0) -> aiohttp.ClientWebSocketResponse:
        self._socket = await self._transport.ws_connect(
            url,
            max_msg_size=0,
            autoclose=False,
            compress=compress,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
            headers={"User-Agent": self.user_agent},
        )
        return self._socket

    async def close_socket(self) -> None:
        """Closes the last connection to the gateway, in any state."""
        if self._socket is not None:
            with suppress(Exception):
                await self._socket.close(code=RESUMABLE_CLOSE)

    async def request(
        self,
        route: Route,
        *,
        files: Sequence[discord.File] | None = None,
        form: Iterable[dict[str, Any]] | None = None,
        **options: Any,
    ) -> Any:
        """Sends a request and returns the decoded answer. Raises ChannelError."""
        headers = {"User-Agent": self.user_agent, "Authorization": f"Bot {self.token}"}
        data: aiohttp.FormData | bytes | None = None
        if "json" in options:
            headers["Content-Type"] = "application/json"
            data = json.dumps(options["json"]).encode()
        elif form is not None:
            data = aiohttp.FormData(quote_fields=False)
            for field in form:
                data.add_field(**field)
        url = self._base + route.url.removeprefix(Route.BASE)
        # A message may have been sent; any other request is harmless to repeat.
        lost = Ambiguous if route.method == "POST" and route.path.endswith("/messages") else NotSent
        params, timeout = options.get("params"), self._call if form is None else self._upload(options.get("size", 0))
        try:
            async with self._transport.request(
                route.method, url, data=data, headers=headers, params=params, timeout=timeout
            ) as answer:
                return _decode_response(answer, await answer.text(errors="replace"), lost)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            _raise_lost(error, lost, self._base)

    def _upload(self, size: int) -> aiohttp.ClientTimeout:
        """Returns the timeout for an upload, with time for `size` bytes before the answer."""
        answer_s = (self._call.total or CALL_TIMEOUT_S) + upload_answer_s(size)
        return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=answer_s)

    async def current_user(self) -> User:
        try:
            return User.model_validate(await self.request(Route("GET", "/users/@me")))
        except ValidationError:
            raise NotSent("what answers at rest_url does not say who we are, as Discord does") from None

    async def gateway(self) -> str:
        said = await self.request(Route("GET", "/gateway"))
        url = said.get("url") if isinstance(said, dict) else None
        if not isinstance(url, str) or not url.startswith(("wss://", "ws://")):
            raise NotSent("Discord does not say where its gateway is")
        return url

    async def send(self, channel_id: str, payload: Mapping[str, object]) -> str:
        params = MultipartParameters(payload=dict(payload), multipart=None, files=None)
        return _parse_id(await self.send_message(channel_id, params=params))

    async def send_file(
        self, channel_id: str, payload: Mapping[str, object], name: str, content: BinaryIO, size: int
    ) -> str:
        route = Route("POST", "/channels/{channel_id}/messages", channel_id=channel_id)
        said = json.dumps({**payload, "attachments": [{"id": 0, "filename": name}]})
        form: list[dict[str, object]] = [
            {"name": "payload_json", "value": said, "content_type": "application/json"},
            {"name": "files[0]", "value": content, "filename": name, "content_type": "application/octet-stream"},
        ]
        return _parse_id(await self.request(route, form=form, size=size))

    async def change_message(self, channel_id: str, message_id: str, payload: Mapping[str, object]) -> None:
        params = MultipartParameters(payload=dict(payload), multipart=None, files=None)
        await self.edit_message(channel_id, message_id, params=params)

    async def defer(self, interaction: Interaction) -> None:
        """Acknowledges a button press; the card stays unchanged."""
        await self._acknowledge(interaction, {"type": 6})

    async def reply_ephemeral(self, interaction: Interaction, text: str) -> None:
        """Acknowledges a command with a text that only its sender sees."""
        data = {"content": text, "flags": EPHEMERAL_FLAG, "allowed_mentions": _NO_MENTIONS.to_dict()}
        await self._acknowledge(interaction, {"type": 4, "data": data})

    async def _acknowledge(self, interaction: Interaction, answer: Mapping[str, object]) -> None:
        route = Route(
            "POST",
            "/interactions/{webhook_id}/{webhook_token}/callback",
            webhook_id=interaction.id,
            webhook_token=interaction.token,
        )
        await self.request(route, json=answer)

    @asynccontextmanager
    async def download(self, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """Downloads a file by its signed address, without the bot's token. Raises ChannelError."""
        try:
            async with self._transport.get(url, allow_redirects=False, timeout=FILE_TIMEOUT) as answer:
                if answer.status == 200:
                    yield answer
                elif answer.status == 429 or answer.status >= 500:
                    raise NotSent(f"Discord cannot give the file now ({answer.status})")
                else:
                    raise Refused(f"Discord does not have the file any more ({answer.status})")
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
            raise Refused("the file has no address that can be used") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotSent(f"the file did not come: {_error_text(error)}") from None


def _decode_response(answer: aiohttp.ClientResponse, text: str, is_ambiguous: type[ChannelError]) -> object:
    """Decodes an answer. Raises ChannelError; `is_ambiguous`: the type if it is unknown what Discord did."""
    said: object = None
    if answer.headers.get("Content-Type", "").startswith("application/json"):
        with suppress(ValueError, RecursionError):
            said = json.loads(text)
    if answer.status == 204 or (200 <= answer.status < 300 and said is not None):
        return said
    if 200 <= answer.status < 400:
        words = f"Discord answered {answer.status} with something that is no answer of Discord's"
        raise is_ambiguous(words, server_error=True)
    raise _to_channel_error(answer, said if isinstance(said, dict) else {}, is_ambiguous)


def _to_channel_error(
    answer: aiohttp.ClientResponse, said: Mapping[str, object], lost: type[ChannelError]
) -> ChannelError:
    code = said.get("code")
    if answer.status == 429:
        return _to_rate_limited(answer, said)
    if answer.status == 401 or code == 40001:
        return AuthFailed(f"Discord does not accept the token; {_NEW_TOKEN_HINT}")
    if answer.status >= 500 or answer.status == 408:
        return lost(f"Discord has a failure of its own ({answer.status})", server_error=True)
    words = f"Discord refuses it: {said.get('message') or answer.reason} ({code or answer.status})"
    if details := "; ".join(_error_messages(said.get("errors"))):
        words += f": {details}"
    remedy = _REMEDIES.get(code) if isinstance(code, int) else None
    return Refused(f"{words}; {remedy}" if remedy else words, chat_closed=code in _CHAT_CLOSED)


_CHAT_CLOSED = frozenset({10003, 50001, 50007, 50278})
"""Codes for: the channel is gone, the bot may not see it, or the person accepts no messages of the bot."""


def _to_rate_limited(answer: aiohttp.ClientResponse, said: Mapping[str, object]) -> RateLimited:
    """Returns the rate limit. An answer in another format comes from a proxy of Discord and applies to all requests."""
    after = said.get("retry_after", answer.headers.get("Retry-After"))
    try:
        wait_s = min(max(0.0, float(str(after))), MAX_RETRY_AFTER_S)
    except ValueError:
        wait_s = 60.0
    everywhere = not said or said.get("global") is True
    return RateLimited("Discord asks to wait", retry_after_s=wait_s, whole_channel=everywhere)


def _error_messages(errors: object) -> Iterator[str]:
    """Yields the messages in Discord's tree of errors."""
    if isinstance(errors, dict):
        if isinstance(message := errors.get("message"), str):
            yield message
        for inner in errors.values():
            yield from _error_messages(inner)
    elif isinstance(errors, list):
        for inner in errors:
            yield from _error_messages(inner)


def _raise_lost(error: Exception, lost: type[ChannelError], url: str) -> NoReturn:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        raise ChannelDown(f"Discord cannot be reached{through_proxy(url)}: it answers {error.status}") from None
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        raise ChannelDown(f"Discord cannot be reached{through_proxy(url)}: {_error_text(error)}") from None
    if isinstance(error, aiohttp.InvalidURL):
        raise RefusedHere("that is no address at Discord") from None
    raise lost(f"the connection to Discord broke: {_error_text(error)}") from None


def _error_text(error: Exception) -> str:
    """Returns the error's text without addresses, some of which are secret."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return getattr(cause, "strerror", None) or type(error).__name__


def _is_page(attachment: Attachment) -> bool:
    return attachment.media_type.startswith("text/html") or attachment.name.lower().endswith((".html", ".htm"))


def _parse_id(said: object) -> str:
    if isinstance(said, dict) and isinstance(said.get("id"), str):
        return str(said["id"])
    raise Ambiguous("Discord's answer names no message")


# --- the gateway ---


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    """The position in the stream: everything up to `sequence` is committed."""

    id: str
    sequence: int
    gateway: yarl.URL


class Checkpoint(BaseModel):
    """The stored position of this bot: the stream to resume, and the newest message seen in any chat."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    bot: str
    session: str
    sequence: int
    gateway: Annotated[str, Field(pattern=r"\Awss?://")]
    newest: Id = "0"


def _parse_checkpoint(saved: str | None) -> Checkpoint | None:
    try:
        return None if saved is None else Checkpoint.model_validate_json(saved)
    except ValidationError:
        return None


class _Gateway(DiscordWebSocket):
    """The library's connection; it ignores invalid frames."""

    async def received_message(self, msg: Any, /) -> None:
        known = self.sequence
        try:
            await super().received_message(msg)
        except zlib.error:
            raise ReconnectWebSocket(self.shard_id) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            _log.warning("discord_frame_invalid", channel="discord", error=type(error).__name__)
        if not isinstance(self.sequence, int):
            self.sequence = known

    def stream(self) -> _Stream | None:
        if self.session_id is None or self.sequence is None:
            return None
        return _Stream(id=self.session_id, sequence=self.sequence, gateway=self.gateway)


_HANDLED_EVENTS = (
    *("READY", "RESUMED", "GUILD_CREATE", "CHANNEL_CREATE", "CHANNEL_UPDATE", "THREAD_CREATE", "THREAD_UPDATE"),
    *("MESSAGE_CREATE", "MESSAGE_UPDATE", "MESSAGE_DELETE", "MESSAGE_DELETE_BULK"),
    *("MESSAGE_REACTION_ADD", "MESSAGE_REACTION_REMOVE", "INTERACTION_CREATE"),
)


class GatewayConnection:
    """One connection to the gateway; it reads frames and queues their events in order."""

    def __init__(self, http: _Http) -> None:
        self.dispatched: deque[tuple[str, object]] = deque()
        self._http = http
        intents = discord.Intents(
            guilds=True,
            guild_messages=True,
            dm_messages=True,
            guild_reactions=True,
            dm_reactions=True,
            message_content=True,
        )
        # The library's gateway reads data from this client, which is never started: see the module's docstring.
        self._client = discord.Client(intents=intents, max_messages=None)
        self._client.http = self._client._connection.http = http
        self._client._connection.parsers = {name: partial(self._record_dispatch, name) for name in _HANDLED_EVENTS}

    def _record_dispatch(self, name: str, said: object) -> None:
        self.dispatched.append((name, said))

    @asynccontextmanager
    async def opened(self, url: yarl.URL, stream: _Stream | None) -> AsyncIterator[_Gateway]:
        """Connects while entered, identifying or resuming `stream`. Raises ChannelError and ReconnectWebSocket."""
        await self._client._async_setup_hook()
        where: dict[str, Any] = {"gateway": url, "initial": True}
        if stream is not None:
            where |= {"session": stream.id, "sequence": stream.sequence, "resume": True}
        try:
            with _translated_errors(str(url)):
                gateway = await asyncio.wait_for(_Gateway.from_client(self._client, **where), CONNECT_TIMEOUT_S)
            try:
                yield gateway
            finally:
                with suppress(Exception):
                    await gateway.close(RESUMABLE_CLOSE)
        finally:
            await self._http.close_socket()

    async def read_frame(self, gateway: _Gateway) -> None:
        """Waits for the next frame. Raises ChannelError and ReconnectWebSocket."""
        with _translated_errors(str(gateway.gateway)):
            await gateway.poll_event()


@contextmanager
def _translated_errors(url: str) -> Iterator[None]:
    """Converts errors of the gateway connection to ChannelError."""
    try:
        yield
    except discord.ConnectionClosed as closed:
        raise _close_error(closed.code) from None
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        way = through_proxy(url) if isinstance(error, aiohttp.ClientConnectorError) else ""
        raise ChannelDown(f"Discord's gateway cannot be reached{way}: {_error_text(error)}") from None


def _close_error(code: int | None) -> ChannelError:
    match code:
        case 4004:
            return AuthFailed(f"Discord's gateway does not accept the token; {_NEW_TOKEN_HINT}")
        case 4013 | 4014:
            return AuthFailed(f"Discord does not let this bot read what people write; {_ENABLE_CONTENT_HINT}")
        case _:
            return NotSent(f"Discord closed the gateway ({code})")


# --- what a message holds ---

_MENTION = re.compile(
    r"<(?:@!?(?P<user>[0-9]+)|@&(?P<role>[0-9]+)|#(?P<channel>[0-9]+)|a?:(?P<emoji>\w+):[0-9]+"
    r"|t:(?P<time>-?[0-9]{1,12})(?::[a-zA-Z])?|/(?P<command>[^<>:\n]+):[0-9]+)>"
)
_ACTION_ROW, _BUTTON, _SELECTS, _SECTION, _TEXT, _THUMBNAIL, _GALLERY, _FILE = 1, 2, {3, 5, 6, 7, 8}, 9, 10, 11, 12, 13
_CONTENTLESS_COMPONENTS = {14}
"""The separator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageContent:
    """The content of a message. `text`: the sender's own text."""

    text: str
    parts: tuple[Part, ...]
    attachments: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _MessageReader:
    """Reads the content of messages, with these names for ids."""

    me: User | None
    my_roles: set[str]
    roles: Mapping[str, str]
    places: Mapping[str, Place]
    people: Mapping[str, User]

    def read_message(self, message: Message, *, quoted: Part | None, chat: str) -> MessageContent:
        """Reads a message. `chat`: the name of the chat that a forwarded message comes from."""
        text = self._own_text(message.content, message.mentions)
        snapshots = [snapshot.message for snapshot in message.message_snapshots]
        passed_on = [
            Part(kind=PartKind.FORWARDED, text=self.to_text(one), chat=chat, sent_at=one.timestamp) for one in snapshots
        ]
        words, others = self._split(message)
        if words and not text:
            text = self._own_text(words, message.mentions)
        elif words:
            others = [_shared("card", self._replace_mentions(words, message.mentions)), *others]
        files = [file for one in (message, *snapshots) for file in one.attachments]
        if not (text or passed_on or others or files):
            others = [_placeholder(name) for name in message.unknown]
        described = [
            _shared(f"description of {one.filename or 'a file'}", one.description)
            for one in message.attachments
            if one.description
        ]
        return MessageContent(
            text=text,
            parts=(*([quoted] if quoted else []), *passed_on, *others, *described),
            attachments=tuple(
                Attachment(ref=file.url, name=file.filename, media_type=file.content_type, size=file.size)
                for file in files
            ),
        )

    def to_text(self, content: Content) -> str:
        """Returns the whole content of a quoted or forwarded message as text."""
        words, parts = self._split(content)
        passed_on = [f"[forwarded: {self.to_text(one.message)}]" for one in content.message_snapshots]
        files = [f"[file: {file.filename or 'without a name'}]" for file in content.attachments]
        own = [self._replace_mentions(one, content.mentions) for one in (content.content, words)]
        lines = [*own, *passed_on, *map(_in_brackets, parts), *files]
        return "\n".join(filter(None, lines)) or "[something that cannot be shown here]"

    def _own_text(self, text: str, mentioned: Sequence[User]) -> str:
        return self._replace_mentions(self._strip_leading_mentions(text), mentioned)

    def _strip_leading_mentions(self, text: str) -> str:
        """Removes mentions of the bot at the beginning, unless nothing follows them."""
        if self.me is None:
            return text
        ours = "|".join([f"@!?{self.me.id}", *(f"@&{role}" for role in self.my_roles)])
        return re.sub(rf"\A(?:\s*<(?:{ours})>[,:]?)+\s*(?=\S)", "", text)

    def _replace_mentions(self, text: str, mentioned: Sequence[User]) -> str:
        """Replaces ids by names."""
        names = {user.id: user.name for user in mentioned} | ({self.me.id: self.me.name} if self.me else {})

        def words(found: re.Match[str]) -> str:
            match found.lastgroup, found[found.lastgroup or 0]:
                case "user", id if id in names or id in self.people:
                    return f"@{names.get(id) or self.people[id].name}"
                case "role", id if id in self.my_roles and self.me is not None:
                    return f"@{self.me.name}"
                case "role", id if self.roles.get(id):
                    return f"@{self.roles[id]}"
                case "channel", id if id in self.places and self.places[id].name:
                    return f"#{self.places[id].name.removeprefix('#')}"
                case "emoji", name:
                    return f":{name}:"
                case "command", name:
                    return f"/{name}"
                case "time", seconds:
                    return _format_time(int(seconds)) or found[0]
                case _:
                    return found[0]

        return _MENTION.sub(words, text)

    def _split(self, content: Content) -> tuple[str, list[Part]]:
        """Returns the text of a card, and its other parts."""
        words: list[str] = []
        parts = [self._embed(one, content.mentions) for one in content.embeds]
        if content.poll is not None:
            parts.append(_shared("poll", _poll_text(content.poll)))
        parts += [_shared("sticker", sticker.name) for sticker in content.sticker_items]
        for component in content.components:
            _collect_component(component, words, parts)
        parts += map(_placeholder, content.unread)
        return "\n".join(words), parts

    def _embed(self, embed: Embed, mentioned: Sequence[User]) -> Part:
        fields = [f"{field.name}: {field.value}" for field in embed.fields_]
        seen = [f"[{what}: {one.url}]" for what, one in (("image", embed.image), ("video", embed.video)) if one.url]
        lines = [embed.title, embed.description, *fields, embed.footer.text, *seen]
        if not any(lines) and embed.thumbnail.url:
            lines = [f"[image: {embed.thumbnail.url}]"]
        return Part(
            kind=PartKind.SHARED,
            title="preview" if embed.type in PREVIEW_EMBED_TYPES else "embed",
            text=self._replace_mentions("\n".join(filter(None, lines)), mentioned),
            author=embed.author.name or embed.provider.name,
            url=embed.url,
        )


def _collect_component(one: Component, words: list[str], parts: list[Part]) -> None:
    """Collects the text and parts of a component, and of the components in it."""
    inner = [*one.components, *filter(None, [one.component, one.accessory])]
    if one.type == _TEXT:
        words.append(one.content)
    elif one.type == _BUTTON:
        parts.append(_shared("button", one.label or (one.emoji.name if one.emoji else ""), url=one.url))
    elif one.type in _SELECTS:
        choices = " / ".join(choice.label for choice in one.options)
        parts.append(_shared("choice", " ".join(filter(None, [one.placeholder, choices]))))
    elif one.type == _THUMBNAIL:
        parts.append(_shared("image", one.description, url=one.media.url))
    elif one.type == _GALLERY:
        parts += [_shared("image", item.description, url=item.media.url) for item in one.items]
    elif one.type == _FILE:
        parts.append(_shared("file", one.name or one.file.url.removeprefix("attachment://")))
    elif not inner and one.type not in _CONTENTLESS_COMPONENTS:
        said = ", ".join(filter(None, [one.label, one.content, one.name, one.description, one.placeholder]))
        sentence = f"[a piece of a card of Discord's type {one.type}, which cannot be shown here]"
        parts.append(_shared("not known here", " ".join(filter(None, [said, sentence]))))
    for piece in inner:
        _collect_component(piece, words, parts)


def _shared(title: str, text: str, *, url: str = "") -> Part:
    return Part(kind=PartKind.SHARED, title=title, text=text, url=url)


def _placeholder(name: str) -> Part:
    return _shared("not known here", f"[something that Discord calls {name}, which cannot be shown here]")


def _in_brackets(part: Part) -> str:
    return f"[{part.title}: {' '.join(filter(None, [part.text, part.url]))}]"


def _poll_text(poll: Poll) -> str:
    votes = {one.id: one.count for one in poll.results.answer_counts} if poll.results else {}
    answers = [
        f"{answer.poll_media} ({votes[answer.answer_id]})" if votes.get(answer.answer_id) else str(answer.poll_media)
        for answer in poll.answers
    ]
    several = "(several answers are allowed)" if poll.allow_multiselect else ""
    return " ".join(filter(None, [str(poll.question), " / ".join(answers), several]))


def _format_time(seconds: int) -> str:
    """Returns Discord's markup for a time, which everybody sees in their own zone; "" if it is invalid."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return ""


# --- the channel ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The chat, and the thread in it, that stand for one of Discord's channels."""

    chat: str
    thread: str | None = None
    is_group: bool
    name: str = ""


class DiscordChannel:
    def __init__(self, settings: DiscordSettings) -> None:
        self._settings = settings
        self._http: _Http | None = None
        self._me: User | None = None
        self._stream: _Stream | None = None
        self._events_handled = ""
        """The sequence number of the event that is being handled."""
        self._failures = 0
        """Short connections in a row."""
        self._acknowledge_tasks = 0
        """Failed attempts to resume among those, which Discord ended without a reason."""
        self._saved: Checkpoint | None = None
        self._saved_at = -math.inf
        self._newest_message_ids = 0
        """The newest reported message of any chat: Discord's ids increase with time."""
        self._catch_up_from = 0
        """The same at the beginning of the stream: later messages were missed."""
        self._pending_threads: set[str] = set()
        """The servers that the stream has not reported yet. Another one is new: the bot was just added to it."""
        self._searched = 0
        """How many unknown chats were searched since then."""
        self._behind: dict[str, str] = {}
        """The newest committed message of each chat when the stream began."""
        self._places: dict[str, Place] = {}
        self._names: dict[str, User] = {}
        self._threads_joined: dict[str, str] = {}
        """The threads in which the bot was mentioned or wrote, with the first such message."""
        self._servers: dict[str, str] = {}
        self._roles: dict[str, str] = {}
        """The names of servers and of the roles in them, by id."""
        self._my_roles: set[str] = set()
        self._introductions = 0
        """How often the bot identified since a connection last lasted for a while."""
        self._application = ""
        self._condition = (Condition.DOWN, "not connected yet")

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            threads=True,
            idempotent_send=True,
            form=Form.DISCORD,
            text_limit=TEXT_LIMIT,
            text_unit=Unit.UTF16,
            pace=Pace(between_s=1.0, a_second=50),
            typing_every_s=8.0,
            buttons=MAX_BUTTONS,
            button_label=MAX_LABEL_CHARS,
            file_bytes=FILE_BYTES,
            caption_limit=TEXT_LIMIT,
            reactions=None,
        )

    def condition(self) -> tuple[Condition, str]:
        return self._condition

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        http = _Http(self._settings)
        self._http = http
        try:
            yield
        finally:
            self._http = None
            await http.close()

    async def check(self) -> str:
        http = _Http(self._settings)
        try:
            me = await http.current_user()
            application = Application.model_validate(await http.application_info())
        except ValidationError:
            raise NotSent("what answers at rest_url is not Discord") from None
        finally:
            await http.close()
        if not application.flags & MESSAGE_CONTENT_FLAGS:
            raise ChannelError(f"{me.name} may not read what people write; {_ENABLE_CONTENT_HINT}")
        invite = f"https://discord.com/oauth2/authorize?client_id={application.id}&scope=bot&permissions={PERMISSIONS}"
        return f"This is {me.name} ({me.id}), in {application.approximate_guild_count} servers; to add it: {invite}"

    # --- receiving ---

    async def receive(self, inbox: Inbox) -> None:
        """Receives events, and reconnects after any loss of the connection. Raises when Discord rejects the token, and
        what the inbox raises."""
        if self._condition[0] is Condition.AUTH_FAILED:
            await asyncio.sleep(AUTH_RETRY_DELAY_S)
        failures = 0
        while True:
            began, asked_s, problem = time.monotonic(), 0.0, "Discord ended the connection"
            try:
                await self._run_connection(inbox)
            except ReconnectWebSocket as again:
                self._acknowledge_tasks += self._stream is not None
                forgotten = not again.resume or self._acknowledge_tasks > MAX_RESUME_ATTEMPTS
                if forgotten and self._stream is not None:
                    self._stream, failures = None, 0  # the gateway works, but the stream is gone
            except AuthFailed as error:
                self._stream = None
                self._condition = (Condition.AUTH_FAILED, str(error))
                raise
            except NotSent as error:
                problem = str(error)
                asked_s = error.retry_after_s if isinstance(error, RateLimited) else 0.0
            except ChannelError as error:
                self._condition = (Condition.DOWN, str(error))
                raise
            held_s = time.monotonic() - began
            failures = 0 if held_s > HEALTHY_AFTER_S else failures + 1
            if held_s > IDENTIFY_DELAY_S:
                self._introductions = 0
            self._failures = failures
            self._condition = (Condition.DOWN, problem)
            _log.info("discord_connection_lost", channel="discord", reason=problem, failures=failures)
            introductions = self._introductions if self._stream is None else 0
            await asyncio.sleep(max(_reconnect_delay_s(failures, introductions=introductions), asked_s))

    async def _run_connection(self, inbox: Inbox) -> None:
        """Runs one connection; raises when it ends."""
        http = self._require_connection()
        if self._me is None:
            me = await http.current_user()
            await self._load_checkpoint(me, inbox)
            self._me = me
        stream = self._stream
        known = str(stream.gateway) if stream and self._failures <= MAX_RESUME_ATTEMPTS else None
        url = self._settings.gateway_url or known or await http.gateway()
        connection = GatewayConnection(http)
        async with connection.opened(yarl.URL(url), stream) as gateway:
            self._introductions += stream is None
            try:
                while True:
                    heard = gateway.stream()
                    self._events_handled = f"{heard.id}.{heard.sequence}" if heard else ""
                    await self._handle_dispatch(connection.dispatched, inbox)
                    self._stream = heard
                    if time.monotonic() - self._saved_at > CHECKPOINT_INTERVAL_S:
                        await self._save_checkpoint(inbox)
                    await connection.read_frame(gateway)
            finally:
                await self._save_checkpoint(inbox)

    async def _save_checkpoint(self, inbox: Inbox) -> None:
        """Stores the position across restarts. A failure is harmless: the chats are read then."""
        self._saved_at = time.monotonic()
        if self._me is None or self._stream is None:
            return
        here = Checkpoint(
            bot=self._me.id,
            session=self._stream.id,
            sequence=self._stream.sequence,
            gateway=str(self._stream.gateway),
            newest=str(self._newest_message_ids),
        )
        if here != self._saved:
            try:
                await inbox.save_checkpoint(here.model_dump_json())
                self._saved = here
            except Exception as error:
                _log.warning("discord_checkpoint_failed", channel="discord", error=str(error))

    async def _load_checkpoint(self, me: User, inbox: Inbox) -> None:
        """Restores the position of an earlier run, if it was of this bot."""
        self._saved = self._saved or _parse_checkpoint(await inbox.checkpoint())
        here = self._saved
        if here is None or here.bot != me.id:
            return
        self._newest_message_ids = max(self._newest_message_ids, int(here.newest))
        self._stream = _Stream(id=here.session, sequence=here.sequence, gateway=yarl.URL(here.gateway))

    async def _handle_dispatch(self, said: deque[tuple[str, object]], inbox: Inbox) -> None:
        while said:
            name, payload = said.popleft()
            try:
                await self._update_state(name, payload, inbox)
            except ValidationError as error:
                _log.warning("discord_event_invalid", channel="discord", about=name, problems=error.error_count())

    async def _update_state(self, name: str, said: object, inbox: Inbox) -> None:
        match name:
            case "READY":
                self._acknowledge_tasks = 0
                await self._on_ready(Ready.model_validate(said), inbox)
            case "RESUMED":
                self._acknowledge_tasks = 0
                self._condition = (Condition.UP, "")
            case "GUILD_CREATE":
                await self._on_guild(Guild.model_validate(said), inbox)
            case "MESSAGE_CREATE":
                await self._message(parse_message(said), inbox)
            case "MESSAGE_UPDATE":
                await self._edit(parse_message(said), inbox)
            case "MESSAGE_DELETE" | "MESSAGE_DELETE_BULK":
                await self._deletion(Deleted.model_validate(said), inbox)
            case "MESSAGE_REACTION_ADD":
                await self._reaction(Reaction.model_validate(said), inbox, EventKind.REACTION)
            case "MESSAGE_REACTION_REMOVE":
                await self._reaction(Reaction.model_validate(said), inbox, EventKind.REACTION_REMOVED)
            case "INTERACTION_CREATE":
                await self._interaction(Interaction.model_validate(said), inbox)
            case _:
                self._cache_channel(ChannelPayload.model_validate(said))

    async def _on_ready(self, ready: Ready, inbox: Inbox) -> None:
        """Handles the beginning of a new stream, which does not contain earlier events."""
        self._me = ready.user
        self._application = ready.application.id if ready.application else ""
        self._behind = dict(await inbox.latest())
        known = [int(id) for id in self._behind.values() if id.isdigit()]
        self._catch_up_from, self._searched = max([self._newest_message_ids, *known]), 0
        self._pending_threads = {guild.id for guild in ready.guilds}
        chats = list(self._behind.items())
        for start in range(0, len(chats), CATCH_UP_CONCURRENCY):
            found = await asyncio.gather(
                *(self._messages_since(*chat) for chat in chats[start : start + CATCH_UP_CONCURRENCY])
            )
            for messages in found:
                await self._catch_up(messages, inbox)
        self._condition = (Condition.UP, "")

    async def _on_guild(self, guild: Guild, inbox: Inbox) -> None:
        """Handles a server's data: its names and threads, whose missed messages are read, too."""
        self._servers[guild.id] = guild.name
        self._update_roles(guild.roles)
        for channel in (*guild.channels, *guild.threads):
            self._cache_channel(channel.model_copy(update={"guild_id": guild.id}))
        for channel in (*guild.channels, *guild.threads):
            known = self._behind.get(channel.parent_id or "") if channel.type in THREAD_TYPES else None
            if known is None and (guild.id not in self._pending_threads or channel.type in TYPES_WITHOUT_MESSAGES):
                continue
            if channel.id not in self._behind:
                await self._search_channel(channel, known, inbox)
        self._pending_threads.discard(guild.id)

    async def _search_channel(self, channel: ChannelPayload, known: str | None, inbox: Inbox) -> None:
        """Searches a channel that was not read yet for missed messages to the bot. `known`: messages up to it were
        reported."""
        since = known if known is not None and known.isdigit() else str(self._catch_up_from)
        if since == "0" or int(channel.last_message_id or 0) <= int(since):
            return
        if known is None:
            self._searched += 1
            if self._searched > MAX_SEARCHED_CHANNELS:
                _log.warning("discord_search_failed", channel="discord", chat=channel.id)
                return
        await self._catch_up(await self._messages_since(channel.id, since), inbox)

    async def _catch_up(self, messages: Sequence[Message], inbox: Inbox) -> None:
        """Passes missed messages of one Discord channel to the inbox. They do not contain the server's id."""
        if messages:
            await self._fetch_channel(messages[0].channel_id)
        for message in messages:
            await self._message(message, inbox)

    async def _messages_since(self, channel_id: str, message_id: str) -> list[Message]:
        """Returns the messages of a Discord channel after a message, the oldest first. Raises NotSent."""
        found: list[Message] = []
        for _ in range(MAX_PAGES):
            page, is_last = await self._fetch_page(channel_id, message_id)
            found += page
            if is_last or not page:
                return found
            message_id = page[-1].id
        _log.warning("discord_catch_up_incomplete", channel="discord", chat=channel_id, messages=len(found))
        return found

    async def _fetch_page(self, channel_id: str, after: str) -> tuple[list[Message], bool]:
        """Returns the next messages without invalid ones, and whether they are the last."""
        for _ in range(CATCH_UP_ATTEMPTS):
            try:
                said = _LIST.validate_python(
                    await self._require_connection().logs_from(channel_id, PAGE_SIZE, after=after)
                )
                return sorted(_parse_messages(said), key=lambda message: int(message.id)), len(said) < PAGE_SIZE
            except RateLimited as limited:
                await asyncio.sleep(min(limited.retry_after_s, CATCH_UP_RETRY_DELAY_S))
            except (Refused, ValidationError) as error:
                _log.info("discord_catch_up_failed", channel="discord", chat=channel_id, reason=type(error).__name__)
                return [], True
        raise NotSent("Discord does not let us read what was written meanwhile")

    async def _message(self, message: Message, inbox: Inbox) -> None:
        if self._is_relevant(message):
            await inbox.accept(await self._event(message, message.id, refers_to=message.replies_to))
        self._newest_message_ids = max(self._newest_message_ids, int(message.id))

    async def _edit(self, message: Message, inbox: Inbox) -> None:
        """Handles an edit. Discord also reports changes that are no edits: previews, pins."""
        if message.edited_timestamp is not None and self._is_relevant(message):
            id = f"{message.id}:{message.edited_timestamp.isoformat()}"
            await inbox.accept(await self._event(message, id, kind=EventKind.EDIT, refers_to=message.id))

    def _is_relevant(self, message: Message) -> bool:
        """Returns whether the message is not the bot's own and not a notice of Discord, such as about joins and
        pins."""
        if message.type not in USER_MESSAGE_TYPES:
            _log.info("discord_system_message_ignored", channel="discord", chat=message.channel_id, type=message.type)
            return False
        return not self._is_me(message.author.id)

    def _is_me(self, user_id: str) -> bool:
        return self._me is not None and user_id == self._me.id

    async def _event(
        self, message: Message, id: str, *, kind: EventKind = EventKind.MESSAGE, refers_to: str | None = None
    ) -> InboundEvent:
        place = await self._resolve_place(message.channel_id, message.guild_id, in_dm=message.author)
        sender = self._sender(message.author, message.member, is_bot=message.webhook_id is not None)
        await self._ensure_roles(message)
        quoted = await self._quoted_part(message) or await self._thread_starter(message, place)
        held = self._message_reader.read_message(message, quoted=quoted, chat=await self._forwarded_from(message))
        return InboundEvent(
            platform_id=place.chat,
            platform_message_id=id,
            sender=sender,
            text=held.text,
            sent_at=message.edited_timestamp or message.timestamp,
            kind=kind,
            thread_id=place.thread,
            is_group=place.is_group,
            mentions_bot=self._is_bot_mentioned(message),
            refers_to=refers_to,
            chat_name=place.name,
            attachments=held.attachments,
            parts=held.parts,
        )

    @property
    def _message_reader(self) -> _MessageReader:
        return _MessageReader(
            me=self._me, my_roles=self._my_roles, roles=self._roles, places=self._places, people=self._names
        )

    async def _quoted_part(self, message: Message) -> Part | None:
        """Returns the quoted message. Discord usually includes it; otherwise it is fetched, once."""
        if (id := message.replies_to) is None:
            return None
        answered = message.referenced_message
        if answered is None and "referenced_message" not in message.model_fields_set | {*message.unread}:
            reference = message.message_reference
            where = (reference and reference.channel_id) or message.channel_id
            with suppress(ChannelError):
                answered = await self._fetch_message(where, id)
        if answered is None:
            return Part(kind=PartKind.QUOTED, text="[a message that is not there any more, or cannot be read here]")
        return self._to_quoted_part(answered)

    def _to_quoted_part(self, answered: ReferencedMessage) -> Part:
        author, sent_at = self._name_of(answered.author), answered.timestamp
        return Part(kind=PartKind.QUOTED, text=self._message_reader.to_text(answered), author=author, sent_at=sent_at)

    async def _thread_starter(self, message: Message, place: Place) -> Part | None:
        """Returns the first message of a thread, when the bot is mentioned there for the first time.

        It has the thread's id and is in the parent channel; in a forum it is in the thread. After a restart, and with a
        repeated message, it may be returned again.
        """
        thread = place.thread
        if thread is None or not self._is_bot_mentioned(message):
            return None
        if self._threads_joined.get(thread) not in (None, message.id):
            return None
        begun = None
        if message.id != thread:
            try:
                begun = await self._fetch_message(place.chat, thread) or await self._fetch_message(thread, thread)
            except ChannelError:
                return None  # it comes with the next message
        self._note_joined(thread, message.id)
        return None if begun is None else self._to_quoted_part(begun)

    def _note_joined(self, thread: str, message_id: str) -> None:
        self._threads_joined.setdefault(thread, message_id)
        while len(self._threads_joined) > MAX_CACHED_NAMES:
            del self._threads_joined[next(iter(self._threads_joined))]

    async def _fetch_message(self, where: str, id: str) -> ReferencedMessage | None:
        """Fetches another message; returns None if it does not exist or cannot be read. The stream waits meanwhile:
        raises ChannelError if Discord does not answer in time."""
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                return ReferencedMessage.model_validate(await self._require_connection().get_message(where, id))
        except (Refused, ValidationError):
            return None
        except TimeoutError:
            raise NotSent("Discord does not say in time what a message holds") from None

    async def _forwarded_from(self, message: Message) -> str:
        """Returns the name of the chat that a forwarded message comes from, if the bot may see it."""
        reference = message.message_reference
        if not message.message_snapshots or reference is None or reference.channel_id is None:
            return ""
        with suppress(ChannelError):
            await self._fetch_channel(reference.channel_id)
        place = self._places.get(reference.channel_id)
        server = self._servers.get(reference.guild_id or "", "")
        elsewhere = server if reference.guild_id != message.guild_id else ""
        return " in ".join(filter(None, [place.name if place else "", elsewhere]))

    async def _ensure_roles(self, message: Message) -> None:
        """Fetches the server's roles, if the stream was resumed after a restart and has not reported them. Raises
        NotSent."""
        if message.guild_id is None or self._roles.keys() >= {*message.mention_roles}:
            return
        with suppress(Refused, ValidationError):  # if Discord does not answer, the message is received again
            said = _LIST.validate_python(await self._require_connection().get_roles(message.guild_id))
            self._update_roles(map(Role.model_validate, said))
        self._roles |= {role: "" for role in message.mention_roles if role not in self._roles}

    def _update_roles(self, roles: Iterable[Role]) -> None:
        for role in roles:
            self._roles[role.id] = role.name
            if self._is_me(role.tags.bot_id or ""):
                self._my_roles.add(role.id)

    def _name_of(self, user: User) -> str:
        return self._me.name if self._me and self._is_me(user.id) else user.name

    async def _deletion(self, deleted: Deleted, inbox: Inbox) -> None:
        """Handles a deletion. Discord reports neither the author nor who deleted it."""
        place = await self._resolve_place(deleted.channel_id, deleted.guild_id)
        for id in (*([deleted.id] if deleted.id else []), *deleted.ids):
            event = InboundEvent(
                platform_id=place.chat,
                platform_message_id=id,
                sender=Sender(handle="", name=""),
                text="",
                sent_at=discord.utils.utcnow(),
                kind=EventKind.DELETION,
                thread_id=place.thread,
                is_group=place.is_group,
                refers_to=id,
                chat_name=place.name,
            )
            await inbox.accept(event)

    async def _reaction(self, reaction: Reaction, inbox: Inbox, kind: EventKind) -> None:
        """Handles a reaction. The stream's sequence number distinguishes repeated equal reactions."""
        if self._is_me(reaction.user_id):
            return
        known = reaction.member.user if reaction.member else self._names.get(reaction.user_id)
        user = known or User(id=reaction.user_id)
        place = await self._resolve_place(reaction.channel_id, reaction.guild_id, in_dm=user)
        emoji = f":{reaction.emoji.name}:" if reaction.emoji.id else reaction.emoji.name
        what = f"{reaction.message_id}:{reaction.user_id}:{reaction.emoji.id or emoji}"
        event = InboundEvent(
            platform_id=place.chat,
            platform_message_id=f"{what}:{self._events_handled}",
            sender=self._sender(user, reaction.member),
            text=emoji,
            sent_at=discord.utils.utcnow(),
            kind=kind,
            thread_id=place.thread,
            is_group=place.is_group,
            refers_to=reaction.message_id,
            chat_name=place.name,
        )
        await inbox.accept(event)

    async def _interaction(self, said: Interaction, inbox: Inbox) -> None:
        if said.type == APPLICATION_COMMAND:
            await self._command(said, inbox)
        else:
            await self._button_event(said, inbox)

    async def _command(self, chosen: Interaction, inbox: Inbox) -> None:
        """Handles a chosen command like a typed one that is addressed to the bot."""
        user = chosen.member.user if chosen.member else chosen.user
        if user is None or not chosen.channel_id or not chosen.data or not chosen.data.name:
            return
        place = await self._resolve_place(chosen.channel_id, chosen.guild_id, in_dm=user)
        text = " ".join([f"/{chosen.data.name}", *(str(one.value) for one in chosen.data.options)]).strip()
        event = InboundEvent(
            platform_id=place.chat,
            platform_message_id=chosen.id,
            sender=self._sender(user, chosen.member),
            text=_replace_surrogates(text),
            sent_at=discord.utils.snowflake_time(int(chosen.id)),
            thread_id=place.thread,
            is_group=place.is_group,
            mentions_bot=True,
            chat_name=place.name,
        )
        await inbox.accept(event)
        await self._send_acknowledgement(self._require_connection().reply_ephemeral(chosen, text[:TEXT_LIMIT]))

    async def _button_event(self, press: Interaction, inbox: Inbox) -> None:
        user = press.member.user if press.member else press.user
        if press.type != MESSAGE_COMPONENT or user is None or not (press.channel_id and press.message and press.data):
            return
        place = await self._resolve_place(press.channel_id, press.guild_id, in_dm=user)
        buttons = {button.custom_id: button.label for row in press.message.components for button in row.components}
        event = InboundEvent(
            platform_id=place.chat,
            platform_message_id=press.id,
            sender=self._sender(user, press.member),
            text=buttons.get(press.data.custom_id, ""),
            sent_at=discord.utils.snowflake_time(int(press.id)),
            kind=EventKind.CLICK,
            thread_id=place.thread,
            is_group=place.is_group,
            mentions_bot=True,
            refers_to=press.message.id,
            chat_name=place.name,
            value=press.data.custom_id,
        )
        await inbox.accept(event)
        await self._send_acknowledgement(self._require_connection().defer(press))

    async def _send_acknowledgement(self, answer: Awaitable[None]) -> None:
        """Sends an acknowledgement. Being late is harmless: the event is committed."""
        try:
            async with asyncio.timeout(DEFER_TIMEOUT_S):
                await answer
        except (ChannelError, TimeoutError) as error:
            _log.info("discord_acknowledge_failed", channel="discord", reason=str(error) or "too late")

    async def show_commands(self, commands: Sequence[MenuCommand]) -> None:
        """Registers the commands; the stream reports the application's id. Commands that its menu cannot show can still
        be typed."""
        if not self._application:
            raise ChannelDown("Discord has not said yet which application this is")
        offered = [_to_application_command(one) for one in commands if _COMMAND.fullmatch(one.name)]
        await self._require_connection().bulk_upsert_global_commands(self._application, offered)

    def _sender(self, user: User, member: Member | None, *, is_bot: bool = False) -> Sender:
        while len(self._names) >= MAX_CACHED_NAMES:
            del self._names[next(iter(self._names))]
        self._names[user.id] = user
        return Sender(
            handle=user.id,
            name=(member.nick if member else "") or user.name,
            is_bot=is_bot or user.bot,
            is_self=self._is_me(user.id),
        )

    def _is_bot_mentioned(self, message: Message) -> bool:
        answers = message.referenced_message
        return (
            any(self._is_me(user.id) for user in message.mentions)
            or not self._my_roles.isdisjoint(message.mention_roles)
            or (answers is not None and self._is_me(answers.author.id))
        )

    def _cache_channel(self, channel: ChannelPayload) -> None:
        """Caches a channel. DMs are not cached: each of their messages contains the person."""
        if channel.type in THREAD_TYPES and channel.parent_id is not None:
            place = Place(chat=channel.parent_id, thread=channel.id, is_group=True, name=channel.name)
            self._places[channel.id] = place
        elif channel.guild_id is not None:
            self._places[channel.id] = Place(chat=channel.id, is_group=True, name=f"#{channel.name}")

    async def _fetch_channel(self, channel_id: str) -> None:
        """Fetches a channel. Raises NotSent if Discord cannot be asked now which channel a thread belongs to."""
        if channel_id not in self._places:
            with suppress(Refused, ValidationError):
                self._cache_channel(
                    ChannelPayload.model_validate(await self._require_connection().get_channel(channel_id))
                )

    async def _resolve_place(self, channel_id: str, guild_id: str | None, *, in_dm: User | None = None) -> Place:
        if guild_id is not None:
            await self._fetch_channel(channel_id)
        name = "" if guild_id is not None or in_dm is None or in_dm.bot else in_dm.name
        return self._places.get(channel_id) or Place(chat=channel_id, is_group=guild_id is not None, name=name)

    # --- sending ---

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        return await self._post(address, _payload(message, idempotency_key))

    async def send_card(self, address: Address, card: OutboundCard, *, idempotency_key: str) -> Receipt:
        return await self._post(address, _payload(card, idempotency_key) | {"components": _rows(card)})

    async def _post(self, address: Address, payload: Mapping[str, object]) -> Receipt:
        return self._receipt(address, await self._require_connection().send(_target_channel_id(address), payload))

    async def send_file(self, address: Address, file: OutboundFile, *, idempotency_key: str) -> Receipt:
        payload = _payload(file, idempotency_key)
        with await asyncio.to_thread(file.content.open, "rb") as content:
            id = await self._require_connection().send_file(
                _target_channel_id(address), payload, _replace_surrogates(file.name), content, file.size
            )
        return self._receipt(address, id)

    def _receipt(self, address: Address, id: str) -> Receipt:
        if address.thread_id is not None:
            self._note_joined(address.thread_id, id)
        return Receipt(platform_message_ids=(id,))

    async def edit(self, address: Address, message_id: str, message: OutboundText | OutboundCard) -> None:
        buttons = _rows(message) if isinstance(message, OutboundCard) else []
        payload = {"content": _content(message.text), "components": buttons, "allowed_mentions": _NO_MENTIONS.to_dict()}
        await self._require_connection().change_message(_target_channel_id(address), message_id, payload)

    async def react(self, address: Address, message_id: str, emoji: str) -> None:
        """Adds a reaction. The emoji is part of the request's path, and comes from the container."""
        if emoji.isascii() or len(emoji) > MAX_EMOJI_CHARS:
            raise RefusedHere("that is no emoji")
        await self._require_connection().add_reaction(
            _target_channel_id(address), message_id, _replace_surrogates(emoji)
        )

    async def typing(self, address: Address) -> None:
        await self._require_connection().send_typing(_target_channel_id(address))

    async def open_dm(self, handle: str) -> Address:
        return Address(platform_id=_parse_id(await self._require_connection().start_private_message(handle)))

    async def fetch(self, attachment: Attachment, into: Path, *, most_bytes: int) -> None:
        taken = 0
        async with self._require_connection().download(attachment.ref) as answer:
            if answer.content_type == "text/html" and not _is_page(attachment):
                raise NotSent("Discord does not give the file now: a page came in its place")
            with await asyncio.to_thread(into.open, "wb") as out:
                async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                    taken += len(chunk)
                    if taken > most_bytes:
                        raise Refused(f"the file is larger than {most_bytes} bytes")
                    await asyncio.to_thread(out.write, chunk)

    def _require_connection(self) -> _Http:
        if self._http is None:
            raise ChannelDown("the Discord channel is not connected")
        return self._http


_COMMAND = re.compile(r"[-_a-z0-9]{1,32}")
MAX_DESCRIPTION_CHARS = 100
"""Characters of the description of a command, and of its argument."""
CONTEXT_GUILD, CONTEXT_BOT_DM = 0, 1
"""The contexts in which menu commands are offered."""


def _to_application_command(command: MenuCommand) -> Any:
    """An application command, whose arguments are one text."""
    words = {
        "type": 3,
        "name": "words",
        "description": f"like: {command.arguments}"[:MAX_DESCRIPTION_CHARS],
        "required": False,
    }
    return {
        "type": 1,
        "name": command.name,
        "description": command.help[:MAX_DESCRIPTION_CHARS],
        "options": [words] if command.arguments else [],
        "contexts": [CONTEXT_BOT_DM] if command.is_private else [CONTEXT_GUILD, CONTEXT_BOT_DM],
    }


def _target_channel_id(address: Address) -> str:
    """Returns the Discord channel to send to. A thread is a separate channel; writing there reopens it."""
    return address.thread_id or address.platform_id


def _content(text: str) -> str:
    if len(text) > TEXT_LIMIT:
        raise RefusedHere(f"Discord takes {TEXT_LIMIT} characters; this message has {len(text)}")
    return _replace_surrogates(text)


def _nonce(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:NONCE_LENGTH]


def _payload(message: OutboundText | OutboundCard | OutboundFile, key: str) -> dict[str, object]:
    payload: dict[str, object] = {
        "content": _content(message.text),
        "nonce": _nonce(key),
        "enforce_nonce": True,
        "allowed_mentions": _NO_MENTIONS.to_dict(),
    }
    # What is answered may be an edit or a reaction, whose id begins with the message's.
    if message.reply_to and (answered := re.match(r"[0-9]{1,20}", message.reply_to)):
        payload["message_reference"] = {"message_id": answered[0], "fail_if_not_exists": False}
    return payload


def _rows(card: OutboundCard) -> list[dict[str, object]]:
    buttons = [
        {"type": 2, "style": 2, "label": _replace_surrogates(button.label), "custom_id": button.value}
        for button in card.buttons
    ]
    return [
        {"type": 1, "components": buttons[start : start + BUTTONS_PER_ROW]}
        for start in range(0, len(buttons), BUTTONS_PER_ROW)
    ]


def _reconnect_delay_s(failures: int, *, introductions: int = 0) -> float:
    """Returns a random pause, so that not all clients reconnect to Discord at once."""
    if introductions > IDENTIFY_BUDGET:
        return IDENTIFY_DELAY_S
    longest = min(MIN_RECONNECT_DELAY_S * 2 ** min(max(failures - 1, 0), 10), MAX_RECONNECT_DELAY_S)
    return float(longest * random.uniform(0.5, 1.0))  # noqa: S311 - nothing is secret about it

# /// script
# dependencies = ["aiohttp>=3.14", "pydantic>=2.14", "slack-bolt>=1.30", "structlog>=26.1"]
# [tool.nanohost]
# kind = "channel"
# name = "slack"
# api = 1
# [[tool.nanohost.settings]]
# name = "bot_token"
# help = "the Bot User OAuth Token of your Slack app (OAuth & Permissions); it begins with xoxb-"
# secret = true
# [[tool.nanohost.settings]]
# name = "app_token"
# help = "an app-level token with the scope connections:write (Basic Information); it begins with xapp-"
# secret = true
# [[tool.nanohost.settings]]
# name = "base_url"
# help = "where Slack's Web API is"
# default = "https://slack.com/api/"
# ///
"""Slack as a channel: an app of one workspace, over Socket Mode, so that no public address is needed.

An envelope of Slack is acknowledged after its event is committed, never before; one whose commit failed ends the
connection, and Slack sends it again, in its order. Slack does so for minutes: after a longer absence the chats that
are known are read from where the host left them, before anything new is taken. The client library neither repeats a
request nor connects again by itself: a repeated post would be a second message, and a bad token would be tried for
ever without a word.

In a channel each message that is in no thread begins one: its `thread_id` is its own ts, and the answer goes there. In
a DM there are only the threads that people make. What we post carries the host's key as metadata, which is how
`find_sent` finds it. Nothing is kept but names and threads that can be asked for again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import aiohttp
import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from slack_bolt.adapter.socket_mode.async_internals import run_async_bolt_app, send_async_response
from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.response import BoltResponse
from slack_sdk.errors import SlackApiError, SlackRequestError
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

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
    NotSent,
    OutboundCard,
    OutboundFile,
    OutboundText,
    Pace,
    RateLimited,
    Receipt,
    Refused,
    Sender,
)

TEXT_LIMIT = 11_000
"""Characters of a markdown block. Slack says 12,000, and refuses all blocks together from about 13,200."""
MARKDOWN_MOST = 12_000
PLAIN_MOST = 40_000
"""Characters of a message without blocks; Slack cuts off what is beyond."""
NOTIFICATION_LIMIT = 3_000
"""Characters of the text beside the blocks, which notifications show; Slack cuts it at 4,000."""
FILE_BYTES = 50 * 1024 * 1024
"""Slack takes 1 GB; within the time that the host gives a send, this much arrives."""
CAPTION_LIMIT = 3_000
CONNECT_S = 10.0
WATCH_S = 0.5
"""How often a connection is looked at: the library does not tell of one that was reset."""
LOOK_UP_S = 0.7
"""For a name or a thread: an event must be acknowledged within 3 s."""
HEALTHY_AFTER_S = 5.0
LOOKED_BACK_S = 7 * 24 * 3600.0
"""How old a message may be that `find_sent` finds."""
REDELIVERED_S = 30.0
"""Who was away for no longer is told all by Slack; others look for themselves."""
CATCH_UP_S = 20.0
"""For looking: what is written meanwhile waits for it."""
CHAT_CATCH_UP_S = 10.0
"""Of that, for one chat."""
CAUGHT_UP_S = 24 * 3600.0
"""How old a message may be that is handed in late."""
MOST_PAGES = 10
PAGE = 200
REMEMBERED = 5_000

SCOPES = (
    *("app_mentions:read", "chat:write", "files:read", "files:write", "reactions:read", "reactions:write"),
    *("channels:history", "groups:history", "im:history", "mpim:history"),
    *("channels:read", "groups:read", "im:read", "mpim:read", "im:write", "users:read"),
)

_MESSAGE_SUBTYPES = frozenset({None, "file_share", "thread_broadcast", "me_message", "bot_message"})
_AUTH_ERRORS = frozenset(
    {
        *("invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"),
        *("not_allowed_token_type", "app_uninstalled", "org_login_required", "ekm_access_denied"),
    }
)
_SERVER_ERRORS = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout"})
_MARKUP_ERRORS = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"})
_REMEDIES = {
    "not_in_channel": "invite the app to the channel: /invite @NAME",
    "channel_not_found": "the app is not in that channel, or the channel is gone: /invite @NAME",
    "is_archived": "the channel is archived",
    "restricted_action": "the workspace does not let apps write there",
}

_EMOJI = """
👍 +1 thumbsup|👎 -1 thumbsdown|👀 eyes|✅ white_check_mark|❌ x|⏳ hourglass_flowing_sand
⌛ hourglass|🤔 thinking_face|🎉 tada|❤ heart|🔥 fire|👏 clap|🙏 pray|💯 100|😂 joy|😄 smile
😀 grinning|😊 blush|😍 heart_eyes|😢 cry|😭 sob|😮 open_mouth|😱 scream|😡 rage
🤣 rolling_on_the_floor_laughing rofl|😅 sweat_smile|😉 wink|🙂 slightly_smiling_face
🙃 upside_down_face|😎 sunglasses|🤗 hugging_face|🤝 handshake|👌 ok_hand|👋 wave|💪 muscle
🙌 raised_hands|✍ writing_hand|👆 point_up_2|👇 point_down|👉 point_right|👈 point_left
🚀 rocket|⭐ star|🌟 star2|✨ sparkles|⚡ zap|💡 bulb|📌 pushpin|📝 memo pencil|🔍 mag|🔗 link
🐛 bug|🔧 wrench|⚙ gear|🔒 lock|🔔 bell|📣 mega|🚨 rotating_light|⚠ warning|❓ question
❗ exclamation heavy_exclamation_mark|🚫 no_entry_sign|🛑 octagonal_sign|🆗 ok
✔ heavy_check_mark|🤖 robot_face|🧠 brain|💔 broken_heart|🏆 trophy|🍾 champagne
😴 sleeping|🤷 shrug|🤦 face_palm|🫡 saluting_face|🏁 checkered_flag|🔁 repeat
⏰ alarm_clock|📎 paperclip
"""
_NAMES_OF = {
    emoji: names for entry in _EMOJI.replace("\n", "|").split("|") if entry for emoji, *names in [entry.split()]
}
_EMOJI_OF = {name: emoji for emoji, names in _NAMES_OF.items() for name in names}

_quiet = logging.getLogger("nanohost.slack.library")
"""The libraries log each failure with its traceback, and with addresses that are secrets: we say what matters."""
_quiet.setLevel(logging.CRITICAL)
_quiet.propagate = False
_log = structlog.get_logger()


def create(context: ChannelContext) -> Channel:
    """Raises ChannelError with what is missing in the settings, and where to get it."""
    return SlackChannel(_settings(context))


# --- settings ---


class SlackSettings(BaseModel):
    """The table [channels.slack]. `timeout_s`: for one call of Slack; `ping_s`: a connection that says nothing for
    about twice as long is made anew."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    bot_token: str = Field(repr=False)
    app_token: str = Field(repr=False)
    base_url: str = "https://slack.com/api/"
    timeout_s: float = Field(default=20.0, gt=0, le=50)
    ping_s: float = Field(default=5.0, gt=0, le=60)


def _settings(context: ChannelContext) -> SlackSettings:
    """Says nothing of the values: they are secrets."""
    table = "channels.slack" if context.instance == "default" else f"channels.slack.{context.instance}"
    for key, begin, what in (
        ("bot_token", "xoxb-", "the Bot User OAuth Token (OAuth & Permissions)"),
        ("app_token", "xapp-", "an app-level token with the scope connections:write (Basic Information)"),
    ):
        if not re.fullmatch(rf"{begin}[!-~]+", str(context.settings.get(key) or "").strip()):
            raise ChannelError(f"{table} needs {key}: {what} of your Slack app; it begins with {begin}")
    try:
        settings = SlackSettings.model_validate(dict(context.settings))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ChannelError(f"{table} cannot be used: {wrong}") from None
    if urlsplit(settings.base_url).scheme not in ("http", "https"):
        raise ChannelError(f"{table}: base_url must be an address such as https://slack.com/api/")
    return settings


# --- what Slack says ---


def _well_formed(value: object) -> object:
    """Without halves of surrogate pairs, which JSON can carry; no text at all is an empty one."""
    if value is None:
        return ""
    return _whole(value) if isinstance(value, str) else value


def _whole(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


Text = Annotated[str, BeforeValidator(_well_formed)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _File(_Wire):
    id: str
    name: Text = ""
    mimetype: Text = ""
    size: int | None = None


class _Edited(_Wire):
    ts: str


class _Message(_Wire):
    ts: str
    text: Text = ""
    user: str | None = None
    bot_id: str | None = None
    username: Text = ""
    subtype: str | None = None
    thread_ts: str | None = None
    files: tuple[_File, ...] = ()
    edited: _Edited | None = None


class _Posted(_Message):
    channel: str
    channel_type: str | None = None


class _Changed(_Wire):
    channel: str
    channel_type: str | None = None
    message: _Message


class _Item(_Wire):
    channel: str
    ts: str


class _Reaction(_Wire):
    user: str
    reaction: str
    item: _Item
    event_ts: str


class _Person(_Wire):
    id: str
    name: Text = ""


class _Container(_Wire):
    channel_id: str
    message_ts: str
    thread_ts: str | None = None


class _Label(_Wire):
    text: Text = ""


class _Action(_Wire):
    value: str
    action_ts: str
    text: _Label = _Label()


class _Press(_Wire):
    user: _Person
    container: _Container
    message: _Message | None = None
    actions: tuple[_Action, ...]


class _Metadata(_Wire):
    event_payload: Mapping[str, object] = {}


class _Standing(_Message):
    metadata: _Metadata | None = None
    latest_reply: str | None = None


class _Cursor(_Wire):
    next_cursor: str = ""


class _Page(_Wire):
    messages: tuple[_Standing, ...] = ()
    response_metadata: _Cursor | None = None


class _Shares(_Wire):
    public: Mapping[str, object] = {}
    private: Mapping[str, object] = {}


class _FileInfo(_File):
    url_private: str = ""
    url_private_download: str = ""
    is_external: bool = False
    shares: _Shares = _Shares()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Me:
    """Who we are in which workspace."""

    user_id: str
    bot_id: str | None
    name: str
    team_id: str | None
    team: str


# --- the channel ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """Seconds before a new connection: from the first to the longest, each twice the one before; and when Slack does
    not accept our tokens, which only an operator changes."""

    first_s: float = 0.5
    longest_s: float = 15.0
    refused_s: float = 30.0


class SlackChannel:
    """Serves one Slack app in one workspace."""

    def __init__(self, settings: SlackSettings, *, pauses: Pauses | None = None) -> None:
        self.settings = settings
        self._pauses = pauses or Pauses()
        self._open: AsyncWebClient | None = None
        self._stands = (Condition.DOWN, "it has not connected yet")
        self._people = _LookUp(self._ask_person)
        self._chats = _LookUp(self._ask_chat)
        self._threads = _LookUp(self._ask_thread)
        self._uploads: OrderedDict[str, str] = OrderedDict()
        self._up_until = -math.inf

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            threads=True,
            form=Form.SLACK_MARKDOWN,
            text_limit=TEXT_LIMIT,
            pace=Pace(between_s=1.0),
            typing_every_s=30.0,
            buttons=25,
            button_label=75,
            file_bytes=FILE_BYTES,
            caption_limit=CAPTION_LIMIT,
            reactions=frozenset(_NAMES_OF),
        )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        async with self._session() as session:
            self._open = self._client(session)
            try:
                yield
            finally:
                self._open = None

    def condition(self) -> tuple[Condition, str]:
        return self._stands

    async def check(self) -> str:
        async with self._session() as session:
            client = self._client(session)
            me, answer = await self._who(client)
            await self._socket_url(client)
        said = f"{me.name} ({me.user_id}) in the workspace {me.team}; Socket Mode works"
        granted = str(answer.headers.get("x-oauth-scopes") or "")
        missing = [scope for scope in SCOPES if granted and scope not in granted.replace(" ", "").split(",")]
        return f"{said}; add these scopes and install the app again: {', '.join(missing)}" if missing else said

    def _session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_s, sock_connect=min(10, self.settings.timeout_s))
        return aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())

    def _client(self, session: aiohttp.ClientSession) -> AsyncWebClient:
        """Retries are off: a request that is cut off and repeated is a second message."""
        made = AsyncWebClient(
            token=self.settings.bot_token.strip(),
            base_url=self.settings.base_url,
            session=session,
            retry_handlers=[],
            logger=_quiet,
        )
        if urlsplit(self.settings.base_url).hostname in ("127.0.0.1", "localhost", "::1"):
            made.proxy = None
        return made

    @property
    def _web(self) -> AsyncWebClient:
        if self._open is None:
            raise ChannelDown("the channel is closed")
        return self._open

    # --- receiving ---

    async def receive(self, inbox: Inbox) -> None:
        """Connects again by itself, after pauses that grow. Raises what the inbox raised."""
        pause_s = self._pauses.first_s
        while True:
            began = time.monotonic()
            try:
                await self._listen(inbox)
                self._stand(Condition.DOWN, "Slack closed the connection; a new one is being made")
                wait_s = 0.0
            except AuthFailed as error:
                self._stand(Condition.AUTH_FAILED, str(error))
                wait_s = self._pauses.refused_s
            except RateLimited as error:
                self._stand(Condition.DOWN, str(error))
                wait_s = error.retry_after_s
            except ChannelError as error:
                self._stand(Condition.DOWN, str(error))
                wait_s = 0.0
            if time.monotonic() - began > HEALTHY_AFTER_S:
                pause_s = self._pauses.first_s
            await asyncio.sleep(max(wait_s, pause_s))
            pause_s = min(pause_s * 2, self._pauses.longest_s)

    async def _listen(self, inbox: Inbox) -> None:
        """One connection, from asking for it to its end. Raises ChannelError, and what the inbox raised."""
        client = self._web
        me, _ = await self._who(client)
        if time.monotonic() - self._up_until > REDELIVERED_S:
            await self._catch_up(inbox, me)
        url = await self._socket_url(client)
        socket = _Socket(client, self.settings, me, lambda body: self._take(inbox, me, body))
        try:
            await socket.open(url)
            self._stand(Condition.UP, "")
            await socket.ended()
        finally:
            if self._stands[0] is Condition.UP:
                self._up_until = time.monotonic()
            await socket.close()

    async def _catch_up(self, inbox: Inbox, me: _Me) -> None:
        """Slack tries for a few minutes to deliver a message, and then no more: the rest is read where it stands, as
        far as Slack lets us, before anything new is taken."""
        newest_of = await inbox.latest()
        try:
            async with asyncio.timeout(CATCH_UP_S):
                for chat, newest in newest_of.items():
                    await self._catch_up_in(chat, newest, inbox, me)
        except AuthFailed:
            raise
        except (ChannelError, TimeoutError) as error:
            _log.warning("slack_not_caught_up", error=str(error) or f"it took more than {CATCH_UP_S:g} s")

    async def _catch_up_in(self, chat: str, newest: str, inbox: Inbox, me: _Me) -> None:
        """One chat, in its share of the time: a flood in it must not hide what was written elsewhere."""
        try:
            async with asyncio.timeout(CHAT_CATCH_UP_S):
                for message in await self._missed(chat, newest):
                    for event in await _understood("history", self._missed_event(me, message, chat)):
                        await inbox.accept(event)
        except TimeoutError:
            _log.warning("slack_not_caught_up", chat=chat, error=f"it took more than {CHAT_CATCH_UP_S:g} s")

    async def _missed_event(self, me: _Me, message: _Standing, chat: str) -> Sequence[InboundEvent]:
        event = await self._message(me, message, chat, None)
        return () if event.sender.is_self else (event,)

    async def _missed(self, chat: str, newest: str) -> list[_Standing]:
        """What people wrote after `newest`, the oldest first: outside of threads, and in those that begin in sight."""
        found: dict[str, _Standing] = {}
        since = max(_seconds_of(newest), time.time() - CAUGHT_UP_S)
        try:
            async for root in self._standing(Address(platform_id=chat), time.time() - CAUGHT_UP_S):
                found[root.ts] = root
                if _seconds_of(root.latest_reply) > since:
                    thread = Address(platform_id=chat, thread_id=root.ts)
                    found |= {reply.ts: reply async for reply in self._standing(thread, since)}
        except Refused:
            pass  # we are in that chat no more
        except Ambiguous as error:
            _log.warning("slack_not_caught_up", chat=chat, error=str(error))  # what was seen so far counts
        missed = [one for one in found.values() if _seconds_of(one.ts) > since and one.subtype in _MESSAGE_SUBTYPES]
        return sorted(missed, key=lambda one: _seconds_of(one.ts))

    def _stand(self, condition: Condition, sentence: str) -> None:
        if condition is not self._stands[0]:
            _log.info("slack_condition", condition=condition.value, detail=sentence)
        self._stands = (condition, sentence)

    async def _who(self, client: AsyncWebClient) -> tuple[_Me, AsyncSlackResponse]:
        try:
            answer = await _answer(client.auth_test())
        except AuthFailed as error:
            raise AuthFailed(f"{error}: that is the bot_token; install the app again and copy the token") from None
        me = _Me(
            user_id=str(answer.get("user_id") or ""),
            bot_id=answer.get("bot_id"),
            name=str(answer.get("user") or "the bot"),
            team_id=answer.get("team_id"),
            team=str(answer.get("team") or ""),
        )
        return me, answer

    async def _socket_url(self, client: AsyncWebClient) -> str:
        try:
            answer = await _answer(client.apps_connections_open(app_token=self.settings.app_token.strip()))
        except AuthFailed as error:
            raise AuthFailed(
                f"{error}: that is the app_token; make one with the scope connections:write, and switch Socket Mode on"
            ) from None
        return str(answer.get("url") or "")

    async def _take(self, inbox: Inbox, me: _Me, body: Mapping[str, object]) -> None:
        """Hand in what a payload says. One that says nothing to us, or makes no sense, is done with."""
        for event in await _understood(str(body.get("type"))[:50], self._events(me, body)):
            if not event.sender.is_self:  # all that we post comes back
                await inbox.accept(event)

    async def _events(self, me: _Me, body: Mapping[str, object]) -> Sequence[InboundEvent]:
        if body.get("type") == "block_actions":
            return await self._presses(_Press.model_validate(body))
        event = body.get("event")
        if not isinstance(event, dict):
            return ()
        match event.get("type"), event.get("subtype"):
            case "message", "message_changed":
                return await self._edit(me, _Changed.model_validate(event), event)
            case (("message" | "app_mention"), subtype) if subtype in _MESSAGE_SUBTYPES:
                posted = _Posted.model_validate(event)
                return [await self._message(me, posted, posted.channel, posted.channel_type)]
            case "reaction_added", _:
                return await self._reaction(me, event)
            case _:
                return ()

    async def _message(self, me: _Me, message: _Message, channel: str, channel_type: str | None) -> InboundEvent:
        is_group = _is_group(channel, channel_type)
        thread = message.thread_ts or (message.ts if is_group else None)
        self._threads.remember(f"{channel} {message.ts}", thread or "")
        sender = await self._sender(me, message)
        return InboundEvent(
            platform_id=channel,
            platform_message_id=message.ts,
            sender=sender,
            text=await self._readable(me, message.text),
            sent_at=_time(message.ts),
            thread_id=thread,
            is_group=is_group,
            mentions_bot=me.user_id in _MENTION.findall(message.text),
            chat_name=await self._chats.of(channel) if is_group else sender.name,
            attachments=tuple(
                Attachment(ref=file.id, name=file.name, media_type=file.mimetype, size=file.size)
                for file in message.files
            ),
        )

    async def _edit(self, me: _Me, changed: _Changed, event: Mapping[str, object]) -> Sequence[InboundEvent]:
        """Slack also says `changed` when a preview was added or a thread grew: then nobody edited anything."""
        message, before = changed.message, event.get("previous_message")
        unchanged = isinstance(before, dict) and before.get("text") == message.text
        if message.edited is None or unchanged:
            return ()
        made = await self._message(me, message, changed.channel, changed.channel_type)
        return [
            InboundEvent(
                platform_id=made.platform_id,
                platform_message_id=f"{message.ts}:{message.edited.ts}",
                sender=made.sender,
                text=made.text,
                sent_at=_time(message.edited.ts),
                kind=EventKind.EDIT,
                thread_id=made.thread_id,
                is_group=made.is_group,
                mentions_bot=made.mentions_bot,
                refers_to=message.ts,
                chat_name=made.chat_name,
            )
        ]

    async def _reaction(self, me: _Me, event: Mapping[str, object]) -> Sequence[InboundEvent]:
        item = event.get("item")
        if not isinstance(item, dict) or item.get("type") != "message":
            return ()
        reaction = _Reaction.model_validate(event)
        channel, ts = reaction.item.channel, reaction.item.ts
        is_group = _is_group(channel, None)
        known = await self._threads.of(f"{channel} {ts}")
        name = reaction.reaction.partition("::")[0]
        return [
            InboundEvent(
                platform_id=channel,
                platform_message_id=f"{ts}:{reaction.user}:{reaction.reaction}:{reaction.event_ts}",
                sender=await self._sender_of(me, reaction.user, None),
                text=_EMOJI_OF.get(name, f":{name}:"),
                sent_at=_time(reaction.event_ts),
                kind=EventKind.REACTION,
                thread_id=known or (ts if is_group else None),
                is_group=is_group,
                refers_to=ts,
                chat_name=await self._chats.of(channel) if is_group else "",
            )
        ]

    async def _presses(self, press: _Press) -> Sequence[InboundEvent]:
        where = press.container
        is_group = _is_group(where.channel_id, None)
        thread = where.thread_ts or (press.message.thread_ts if press.message else None)
        name = await self._people.of(press.user.id) or press.user.name or press.user.id
        return [
            InboundEvent(
                platform_id=where.channel_id,
                platform_message_id=f"{where.message_ts}:{press.user.id}:{action.action_ts}",
                sender=Sender(handle=press.user.id, name=name),
                text=_unescaped(action.text.text),
                sent_at=_time(action.action_ts),
                kind=EventKind.CLICK,
                thread_id=thread or (where.message_ts if is_group else None),
                is_group=is_group,
                refers_to=where.message_ts,
                value=action.value,
            )
            for action in press.actions
        ]

    async def _sender(self, me: _Me, message: _Message) -> Sender:
        if message.user is None:
            handle = message.bot_id or ""
            is_self = bool(handle) and handle == me.bot_id
            return Sender(handle=handle, name=message.username or handle, is_bot=True, is_self=is_self)
        return await self._sender_of(me, message.user, message.bot_id)

    async def _sender_of(self, me: _Me, user: str, bot_id: str | None) -> Sender:
        if user == me.user_id:
            return Sender(handle=user, name=me.name, is_bot=True, is_self=True)
        return Sender(handle=user, name=await self._people.of(user) or user, is_bot=bot_id is not None)

    async def _readable(self, me: _Me, text: str) -> str:
        """As people read it: a mention at the beginning only says to whom it is said."""
        rest = re.sub(rf"\A\s*<@{re.escape(me.user_id)}(?:\|[^>]*)?>[:,]?\s*", "", text)
        text = rest if rest.strip() else text
        named = dict.fromkeys(_MENTION.findall(text))
        people = {user: await self._people.of(user) for user in list(named)[:5] if user != me.user_id}
        return _read(text, people | {me.user_id: me.name})

    # --- sending ---

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        return await self._post(address, message, key=idempotency_key)

    async def send_card(self, address: Address, card: OutboundCard, *, idempotency_key: str) -> Receipt:
        return await self._post(address, card, key=idempotency_key)

    async def _post(self, address: Address, message: OutboundText | OutboundCard, *, key: str) -> Receipt:
        client = self._web
        metadata = {"event_type": "nanohost_message", "event_payload": {"key": key}}

        async def post(content: dict[str, Any]) -> AsyncSlackResponse:
            return await _answer(
                client.chat_postMessage(
                    channel=address.platform_id,
                    thread_ts=address.thread_id,
                    metadata=metadata,
                    unfurl_links=False,
                    unfurl_media=False,
                    **content,
                )
            )

        ts = str((await _in_markdown_or_plain(message, post)).get("ts") or "")
        if not ts:
            raise Ambiguous("Slack took the message and did not say its id")
        is_group = _is_group(address.platform_id, None)
        self._threads.remember(f"{address.platform_id} {ts}", address.thread_id or (ts if is_group else ""))
        return Receipt(platform_message_ids=(ts,))

    async def edit(self, address: Address, message_id: str, message: OutboundText | OutboundCard) -> None:
        client = self._web

        async def update(content: dict[str, Any]) -> AsyncSlackResponse:
            content = {"blocks": []} | {key: value for key, value in content.items() if key != "mrkdwn"}
            return await _answer(client.chat_update(channel=address.platform_id, ts=message_id, **content))

        with _harmless():
            await _in_markdown_or_plain(message, update)

    async def send_file(self, address: Address, file: OutboundFile, *, idempotency_key: str) -> Receipt:
        """Nobody sees a file before its upload is completed: whatever happens up to there, it is not sent."""
        client = self._web
        with _harmless():
            begun = await _answer(client.files_getUploadURLExternal(filename=file.name, length=file.size))
            file_id = str(begun.get("file_id") or "")
            await self._upload(client, str(begun.get("upload_url") or ""), file.content)
        self._uploads[idempotency_key] = file_id
        if len(self._uploads) > REMEMBERED:
            self._uploads.popitem(last=False)
        words = file.plain if file.plain is not None else file.text
        await _answer(
            client.files_completeUploadExternal(
                files=[{"id": file_id, "title": file.name}],
                channel_id=address.platform_id,
                thread_ts=address.thread_id,
                initial_comment=_escaped(words) if words.strip() else None,
            )
        )
        return Receipt(platform_message_ids=(file_id,))

    async def _upload(self, client: AsyncWebClient, url: str, content: Path) -> None:
        assert client.session is not None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self.settings.timeout_s)
        with await asyncio.to_thread(content.open, "rb") as opened:
            try:
                async with client.session.post(url, data=opened, proxy=client.proxy, timeout=timeout) as answer:
                    status = answer.status
            except (aiohttp.ClientError, OSError) as error:
                raise _lost(error) from None
        if status >= 500 or status == 429:
            raise NotSent(f"Slack did not take the file: it answers {status}")
        if status >= 400:
            raise Refused(f"Slack does not take the file: it answers {status}")

    async def find_sent(self, address: Address, *, idempotency_key: str) -> Receipt | None:
        """A file is found for as long as this object lives: Slack keeps no key with it."""
        if (file_id := self._uploads.get(idempotency_key)) is not None:
            shares = (await self._file_info(self._web, file_id)).shares
            shared = address.platform_id in (*shares.public, *shares.private)
            return Receipt(platform_message_ids=(file_id,)) if shared else None
        async for message in self._standing(address, time.time() - LOOKED_BACK_S):
            if message.metadata is not None and message.metadata.event_payload.get("key") == idempotency_key:
                return Receipt(platform_message_ids=(message.ts,))
        return None

    async def _standing(self, address: Address, since: float) -> AsyncIterator[_Standing]:
        """What stands in a chat outside of threads, the newest first; or in a thread, the oldest first. Raises
        Ambiguous when it is too much to be looked at."""
        asked: dict[str, Any] = {"channel": address.platform_id, "oldest": f"{since:.6f}", "limit": PAGE}
        asked |= {"include_all_metadata": True}
        for _ in range(MOST_PAGES):
            if address.thread_id is None:
                answer = await _answer(self._web.conversations_history(**asked))
            else:
                answer = await _answer(self._web.conversations_replies(ts=address.thread_id, **asked))
            try:
                page = _Page.model_validate(answer.data)
            except ValidationError:
                raise Ambiguous("Slack tells what stands there in a way that makes no sense") from None
            for message in page.messages:
                yield message
            if page.response_metadata is None or not page.response_metadata.next_cursor:
                return
            asked["cursor"] = page.response_metadata.next_cursor
        raise Ambiguous(f"more than {MOST_PAGES * PAGE} messages stand there")

    async def react(self, address: Address, message_id: str, emoji: str) -> None:
        names = _NAMES_OF.get(emoji.replace("\ufe0f", ""))
        if names is None:
            raise Refused(f"this channel does not know what Slack calls {emoji}")
        with _harmless():
            try:
                await _answer(self._web.reactions_add(channel=address.platform_id, timestamp=message_id, name=names[0]))
            except _SlackRefused as refused:
                if refused.error != "already_reacted":
                    raise

    async def typing(self, address: Address) -> None:
        """Slack shows it in threads only, under the name of the app, for two minutes or until the answer."""
        if address.thread_id is None:
            return
        await _answer(
            self._web.assistant_threads_setStatus(
                channel_id=address.platform_id, thread_ts=address.thread_id, status="is thinking…"
            )
        )

    async def open_dm(self, handle: str) -> Address:
        with _harmless():
            answer = await _answer(self._web.conversations_open(users=handle))
        channel = (answer.get("channel") or {}).get("id")
        if not channel:
            raise Refused(f"Slack opens no DM with {handle}")
        return Address(platform_id=str(channel))

    # --- files of people ---

    async def fetch(self, attachment: Attachment, into: Path, *, most_bytes: int) -> None:
        client = self._web
        with _harmless():
            info = await self._file_info(client, attachment.ref)
            url = info.url_private_download or info.url_private
            if info.is_external or not is_slacks(url, self.settings.base_url):
                raise Refused("the file does not lie with Slack")
            if info.size is not None and info.size > most_bytes:
                raise Refused(f"the file has {info.size} bytes; {most_bytes} are taken")
            try:
                await self._download(client, url, info, into, most_bytes)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _lost(error) from None

    async def _download(self, client: AsyncWebClient, url: str, info: _FileInfo, into: Path, most_bytes: int) -> None:
        """Redirects are not followed: the only one there is leads to the page for logging in."""
        assert client.session is not None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self.settings.timeout_s)
        headers = {"Authorization": f"Bearer {client.token}"}
        async with client.session.get(
            url, headers=headers, proxy=client.proxy, timeout=timeout, allow_redirects=False
        ) as answer:
            if answer.status >= 500 or answer.status == 429:
                raise NotSent(f"Slack does not give the file now: it answers {answer.status}")
            login = answer.content_type == "text/html" and info.mimetype != "text/html"
            if answer.status != 200 or login:
                said = "asks to log in (is the scope files:read missing?)" if login else f"answers {answer.status}"
                raise Refused(f"Slack does not give the file: it {said}")
            got = 0
            with await asyncio.to_thread(into.open, "wb") as written:
                async for chunk in answer.content.iter_chunked(256 * 1024):
                    got += len(chunk)
                    if got > most_bytes:
                        raise Refused(f"the file has more than {most_bytes} bytes")
                    await asyncio.to_thread(written.write, chunk)

    async def _file_info(self, client: AsyncWebClient, file_id: str) -> _FileInfo:
        answer = await _answer(client.files_info(file=file_id))
        try:
            return _FileInfo.model_validate(answer.get("file"))
        except ValidationError:
            raise Refused("Slack describes the file in a way that makes no sense") from None

    # --- names and threads ---

    async def _ask_person(self, user: str) -> str:
        person = (await _answer(self._web.users_info(user=user))).get("user") or {}
        profile = person.get("profile") or {}
        return str(profile.get("display_name") or person.get("real_name") or person.get("name") or "")

    async def _ask_chat(self, channel: str) -> str:
        answer = await _answer(self._web.conversations_info(channel=channel))
        return str((answer.get("channel") or {}).get("name") or "")

    async def _ask_thread(self, channel_and_ts: str) -> str:
        channel, _, ts = channel_and_ts.partition(" ")
        answer = await _answer(self._web.conversations_replies(channel=channel, ts=ts, limit=1))
        messages = answer.get("messages") or [{}]
        return str(messages[0].get("thread_ts") or "")


async def _understood(about: str, reading: Awaitable[Sequence[InboundEvent]]) -> Sequence[InboundEvent]:
    """The events that something means; none, if it makes no sense."""
    try:
        return await reading
    except (ValueError, TypeError, OverflowError) as error:  # a ValidationError is a ValueError
        _log.info("slack_event_ignored", type=about, error=type(error).__name__)
        return ()


class _LookUp:
    """What Slack can be asked for about an id, kept; "" when it does not say in time. Never raises a ChannelError."""

    def __init__(self, ask: Callable[[str], Awaitable[str]]) -> None:
        self._ask = ask
        self._known: OrderedDict[str, str] = OrderedDict()
        self._not_before = 0.0

    async def of(self, id: str) -> str:
        if id in self._known:
            return self._known[id]
        if time.monotonic() < self._not_before:
            return ""
        try:
            async with asyncio.timeout(LOOK_UP_S):
                self.remember(id, await self._ask(id))
        except Refused:
            self.remember(id, "")
        except (ChannelError, TimeoutError, AttributeError, TypeError):
            self._not_before = time.monotonic() + 30
        return self._known.get(id, "")

    def remember(self, id: str, value: str) -> None:
        self._known[id] = value
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


# --- the socket ---


class _Socket:
    """One connection of Socket Mode. Events of one chat are taken one after the other, those of others beside them.

    Nothing is acknowledged before `take` returned. When `take` raised, nothing more is taken: what comes after the
    event that failed must not overtake it.
    """

    def __init__(
        self,
        web: AsyncWebClient,
        settings: SlackSettings,
        me: _Me,
        take: Callable[[Mapping[str, object]], Awaitable[None]],
    ) -> None:
        self._take = take
        self._bolt = _bolt(web, me, self._listener)
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._client = SocketModeClient(
            app_token=settings.app_token.strip(),
            logger=_quiet,
            web_client=web,
            auto_reconnect_enabled=False,
            ping_interval=settings.ping_s,
            on_close_listeners=[self._closed],
            on_error_listeners=[self._closed],
        )
        self._client.proxy = web.proxy
        self._client.message_listeners.append(self._said)

    async def open(self, url: str) -> None:
        """The library tries for ever and tells nobody: it is given a while."""
        self._client.wss_uri = url
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._client.connect()  # type: ignore[no-untyped-call]
        except TimeoutError:
            raise ChannelDown(f"Slack's socket could not be opened within {CONNECT_S:g} s") from None

    async def ended(self) -> None:
        """Wait for the end of the connection. When Slack asks for a new one the library makes it, and there is none
        for a moment."""
        missing = 0
        while missing < 2:
            done, _ = await asyncio.wait([self._over], timeout=WATCH_S)
            if done:
                return self._over.result()
            missing = 0 if await self._client.is_connected() else missing + 1
        return None

    async def close(self) -> None:
        self._client.closed = True
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(2):  # cut short, the first leaves the rest of the closing undone
            with suppress(Exception):
                async with asyncio.timeout(1.0):
                    await self._client.close()  # type: ignore[no-untyped-call]
        if self._over.done() and not self._over.cancelled():
            self._over.exception()

    async def _closed(self, _: object) -> None:
        if not self._over.done():
            self._over.set_result(None)

    async def _said(self, client: Any, message: dict[str, Any], raw: str | None) -> None:
        """The library calls this in a task of its own for each message, in the order they came, up to the first wait:
        that is where they queue for their chat's turn."""
        envelope = message.get("envelope_id")
        if not isinstance(envelope, str):
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            chat = _chat_of(message.get("payload"))
            turn = self._turns.setdefault(chat, asyncio.Lock())
            async with turn:
                if not self._over.done():
                    await self._handle(message, envelope)
        finally:
            self._tasks.discard(task)

    async def _handle(self, message: Mapping[str, object], envelope: str) -> None:
        payload = message.get("payload")
        request = SocketModeRequest(
            type=str(message.get("type")), envelope_id=envelope, payload=payload if isinstance(payload, dict) else {}
        )
        response = await run_async_bolt_app(self._bolt, request)
        if self._over.done():
            return
        if response.status != 200:
            # Nobody listens to this kind, or it makes no sense. Without an answer Slack would send it again and again.
            response = BoltResponse(status=200)
        await send_async_response(self._client, request, response, time.time())

    async def _listener(self, body: Mapping[str, object]) -> None:
        try:
            await self._take(body)
        except Exception as error:
            if not self._over.done():
                self._over.set_exception(error)
            raise


def _bolt(web: AsyncWebClient, me: _Me, listener: Callable[[Mapping[str, object]], Awaitable[None]]) -> AsyncApp:
    """Answers after the listener has returned, and not at all when it raised."""

    async def authorize() -> AuthorizeResult:
        return AuthorizeResult(
            enterprise_id=None, team_id=me.team_id, bot_user_id=me.user_id, bot_id=me.bot_id, bot_token=web.token
        )

    async def on_event(body: dict[str, Any]) -> None:
        await listener(body)

    async def on_action(body: dict[str, Any], ack: Callable[[], Awaitable[object]]) -> None:
        await listener(body)
        await ack()

    app = AsyncApp(
        client=web,
        authorize=authorize,
        logger=_quiet,
        name="nanohost",
        process_before_response=True,
        ignoring_self_events_enabled=False,
        ssl_check_enabled=False,
        attaching_conversation_kwargs_enabled=False,
    )
    app.event(re.compile(".*"))(on_event)
    app.action(re.compile(".*"))(on_action)
    return app


def _chat_of(payload: object) -> str:
    """The chat that a payload is about; "" when it is about none."""
    if not isinstance(payload, dict):
        return ""
    event = payload.get("event", payload)
    if not isinstance(event, dict):
        return ""
    for where, key in ((event, "channel"), (event.get("item"), "channel"), (event.get("channel"), "id")):
        if isinstance(where, dict) and isinstance(where.get(key), str):
            return str(where[key])
    return ""


def is_slacks(url: str, base_url: str) -> bool:
    """Our token goes to Slack alone, wherever an event says that a file lies, and nowhere in the clear."""
    there, ours = urlsplit(url), urlsplit(base_url)
    is_slack = there.scheme == "https" and (there.netloc == "slack.com" or there.netloc.endswith(".slack.com"))
    return is_slack or (there.scheme, there.netloc) == (ours.scheme, ours.netloc)


# --- texts ---

_TAGGED = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")
_MENTION = re.compile(r"<@([A-Za-z0-9]+)(?:\|[^<>]*)?>")


def _read(text: str, people: Mapping[str, str]) -> str:
    """Slack's text as a person reads it. `people`: names by id."""

    def plain(found: re.Match[str]) -> str:
        what, label = found[1], found[2] or ""
        if what.startswith("@"):
            return "@" + (people.get(what[1:]) or label or what[1:])
        if what.startswith("#"):
            return "#" + (label or what[1:])
        if what.startswith("!"):
            return label or "@" + what[1:].partition("^")[0]
        address = what.removeprefix("mailto:")
        return address if label in ("", address) else f"{label} ({address})"

    return _unescaped(_TAGGED.sub(plain, text))


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _escaped(text: str) -> str:
    """Slack finds no tag in it, so it pings nobody."""
    return _whole(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


async def _in_markdown_or_plain(
    message: OutboundText | OutboundCard, say: Callable[[dict[str, Any]], Awaitable[AsyncSlackResponse]]
) -> AsyncSlackResponse:
    """Say it with its markup, and without when Slack refuses that."""
    try:
        return await say(_content(message))
    except _SlackRefused as refused:
        if refused.error not in _MARKUP_ERRORS or message.plain is None:
            raise
        _log.warning("slack_refuses_markup", error=refused.error)
        return await say(_plain_content(message, message.plain))


def _content(message: OutboundText | OutboundCard) -> dict[str, Any]:
    words = message.text if message.plain is None else message.plain
    if not message.text.strip():
        raise Refused("Slack takes no message without words")
    if len(message.text) > MARKDOWN_MOST:
        raise _SlackRefused(f"Slack takes {MARKDOWN_MOST} characters, not {len(message.text)}", "msg_blocks_too_long")
    blocks: list[dict[str, object]] = [{"type": "markdown", "text": _whole(message.text)}, *_actions(message)]
    return {"text": _escaped(words[:NOTIFICATION_LIMIT]) or " ", "blocks": blocks}


def _plain_content(message: OutboundText | OutboundCard, plain: str) -> dict[str, Any]:
    content: dict[str, Any] = {"text": _escaped(plain), "mrkdwn": False}
    if len(content["text"]) > PLAIN_MOST:
        raise Refused(f"Slack takes {PLAIN_MOST} characters, not {len(plain)}")
    if not (actions := _actions(message)):
        return content
    # Beside blocks the text is not shown. A section holds 3,000 characters.
    sections = [
        {"type": "section", "text": {"type": "plain_text", "text": plain[start : start + 3000]}}
        for start in range(0, len(plain), 3000)
    ]
    return content | {"blocks": [*sections, *actions]}


def _actions(message: OutboundText | OutboundCard) -> list[dict[str, object]]:
    if not isinstance(message, OutboundCard) or not message.buttons:
        return []
    elements = [
        {
            "type": "button",
            "action_id": f"nanohost:{number}",
            "text": {"type": "plain_text", "text": button.label, "emoji": True},
            "value": button.value,
        }
        for number, button in enumerate(message.buttons)
    ]
    return [{"type": "actions", "elements": elements}]


def _time(ts: str) -> datetime:
    """Raises ValueError for what is no time."""
    return datetime.fromtimestamp(float(ts), UTC)


def _seconds_of(ts: str | None) -> float:
    """A ts as a number; 0 for what is none."""
    try:
        seconds = float(ts or 0)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0


def _is_group(channel: str, channel_type: str | None) -> bool:
    return channel_type != "im" if channel_type else not channel.startswith("D")


# --- errors ---


class _SlackRefused(Refused):
    """`error` is Slack's own word."""

    def __init__(self, text: str, error: str) -> None:
        super().__init__(text)
        self.error = error


_T = TypeVar("_T")


async def _answer(call: Awaitable[_T]) -> _T:
    """What Slack answers. Raises ChannelError, for whatever went wrong."""
    try:
        return await call
    except SlackApiError as error:
        raise _refusal(error.response) from None
    except SlackRequestError as error:
        raise Refused(f"Slack's library refuses: {error}") from None
    except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
        raise _lost(error) from None
    except (ValueError, AttributeError, TypeError) as error:  # the library stumbles over an answer of another shape
        raise Ambiguous(f"Slack's answer makes no sense ({type(error).__name__})") from None


def _lost(error: Exception) -> ChannelError:
    """Its text may hold an address with a secret: only its name is told."""
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return ChannelDown(f"Slack cannot be reached ({type(error).__name__})")
    return Ambiguous(f"Slack's answer was lost ({type(error).__name__})")


def _refusal(response: object) -> ChannelError:
    status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0))
    headers: Mapping[str, str] = getattr(response, "headers", None) or {}
    data = getattr(response, "data", None)
    said: Mapping[str, object] = data if isinstance(data, dict) else {}
    error = str(said.get("error") or "")
    if status == 429 or error in ("ratelimited", "rate_limited"):
        return RateLimited("Slack asks to wait", retry_after_s=_seconds(headers.get("Retry-After")))
    if error in _AUTH_ERRORS or (not error and status in (401, 403)):
        return AuthFailed(f"Slack does not accept the credentials ({error or status})")
    if not error or status >= 500 or error in _SERVER_ERRORS:
        return Ambiguous(f"Slack failed: {error or f'it answers {status}, and not what its API answers'}")
    return _SlackRefused(f"Slack refuses: {_in_words(error, said)}", error)


def _in_words(error: str, said: Mapping[str, object]) -> str:
    about = said.get("response_metadata")
    messages = about.get("messages") if isinstance(about, dict) else None
    details = [str(one) for one in messages[:3]] if isinstance(messages, list) else []
    if error == "missing_scope":
        details.append(f"add the scope {said.get('needed')} and install the app again")
    if error in _REMEDIES:
        details.append(_REMEDIES[error])
    return "; ".join([error, *details])


def _seconds(header: str | None) -> float:
    """At most an hour: then Slack may say it again."""
    try:
        return min(max(1.0, float(header or 1)), 3600.0)
    except ValueError:
        return 30.0


@contextmanager
def _harmless() -> Iterator[None]:
    """What is done in here may be done twice, so a lost answer is as good as not done."""
    try:
        yield
    except Ambiguous as error:
        raise NotSent(str(error)) from None

# /// script
# dependencies = ["aiohttp>=3.14", "aiohttp-socks>=0.12", "pydantic>=2.14", "slack-bolt>=1.30", "structlog>=26.1"]
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
"""Connects a Slack app of one workspace by Socket Mode, which needs no public address.

An envelope of Slack is acknowledged after its event is committed, never before; a failed commit ends the connection,
and Slack sends the envelope again, in order. Slack does so for minutes: after a longer absence the known chats are read
from where the host left off, before new events are accepted. The client library's retries and reconnects are off: a
repeated post would be a second message, and an invalid token would be retried for ever without an error.

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
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar
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
    Part,
    PartKind,
    RateLimited,
    Receipt,
    Refused,
    RefusedHere,
    Sender,
    aiohttp_options,
    proxy_for,
    through_proxy,
    upload_answer_s,
)

TEXT_LIMIT = 11_000
"""Characters of a markdown block. Slack says 12,000, and refuses all blocks together from about 13,200."""
MAX_MARKDOWN_CHARS = 12_000
MAX_PLAIN_CHARS = 40_000
"""Characters of a message without blocks; Slack cuts longer ones."""
NOTIFICATION_LIMIT = 3_000
"""Characters of the text beside the blocks, which notifications show; Slack cuts it at 4,000."""
FILE_BYTES = 50 * 1024 * 1024
"""Bytes. Slack accepts 1 GB, but only this much can be sent within the host's time limit."""
CAPTION_LIMIT = 3_000
CONNECT_TIMEOUT_S = 10.0
WATCH_INTERVAL_S = 0.5
"""Seconds between checks of a connection: the library does not report one that was reset."""
LOOKUP_TIMEOUT_S = 0.7
"""Seconds to look up a name or a thread: an event must be acknowledged within 3 s."""
ROOT_LOOKUP_TIMEOUT_S = 1.5
"""Seconds to fetch the first message of a thread: two calls in sequence."""
HEALTHY_AFTER_S = 5.0
CATCH_UP_WINDOW_S = 7 * 24 * 3600.0
"""The maximum age of a message that `find_sent` finds."""
REDELIVERY_WINDOW_S = 30.0
"""After a shorter absence Slack sends all events again; after a longer one the chats are read."""
CATCH_UP_TIMEOUT_S = 20.0
"""Seconds to read missed messages; new events wait meanwhile."""
CHAT_CATCH_UP_TIMEOUT_S = 10.0
"""The part of that time for one chat."""
CAUGHT_UP_S = 24 * 3600.0
"""The maximum age of a missed message that is still accepted."""
LATE_DELIVERY_S = 30.0
"""A message that Slack reports later than this may have been deleted meanwhile."""
VISIBILITY_DELAY_S = 60.0
"""Younger by this much than what is read: what is not there was deleted."""
MAX_THREADS = 20
"""That are read in one chat, of those with messages that are known or missed."""
MAX_UNSEEN_CHATS = 40
"""Chats that were never heard of and are read after an absence, one call each; Slack lets us make fifty a minute."""
MAX_NAME_LOOKUPS = 20
"""Of people, and of channels, in one message."""
MAX_INDENT = 8
TOMBSTONE = "tombstone"
MAX_PAGES = 10
PAGE_SIZE = 200
MAX_CACHED = 5_000

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
_CHAT_CLOSED = frozenset({"channel_not_found", "not_in_channel", "is_archived", "messages_tab_disabled"})
_SERVER_ERRORS = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout"})
_MARKUP_ERRORS = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"})
_REMEDIES = {
    "not_in_channel": "invite the app to the channel: /invite @NAME",
    "channel_not_found": "the app is not in that channel, or the channel is gone: /invite @NAME",
    "is_archived": "the channel is archived",
    "restricted_action": "the workspace does not let apps write there",
}

_EMOJI_TABLE = """
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
    emoji: names for entry in _EMOJI_TABLE.replace("\n", "|").split("|") if entry for emoji, *names in [entry.split()]
}
_EMOJI_OF = {name: emoji for emoji, names in _NAMES_OF.items() for name in names}

_library_logger = logging.getLogger("nanohost.slack.library")
"""The libraries log each failure with its traceback, and with addresses that are secrets: we say what matters."""
_library_logger.setLevel(logging.CRITICAL)
_library_logger.propagate = False
_log = structlog.get_logger()


def create(context: ChannelContext) -> Channel:
    """Creates the channel. Raises ChannelError that says which settings are missing, and where to get them."""
    return SlackChannel(_settings(context))


# --- settings ---


SLACK = "https://slack.com/api/"


class SlackSettings(BaseModel):
    """The table [channels.slack]. `timeout_s`: for one call of Slack; `ping_s`: a connection without data for about
    twice as long is replaced."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    bot_token: str = Field(repr=False)
    app_token: str = Field(repr=False)
    base_url: str = SLACK
    timeout_s: float = Field(default=20.0, gt=0, le=50)
    ping_s: float = Field(default=5.0, gt=0, le=60)


def _settings(context: ChannelContext) -> SlackSettings:
    """Reads the settings. Errors never contain values, which are secrets."""
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
    """Replaces unpaired surrogates, which JSON can contain; None becomes an empty text."""
    if value is None:
        return ""
    return _replace_surrogates(value) if isinstance(value, str) else value


def _clean_text(value: object) -> str:
    """Does the same for a value of any type."""
    return _replace_surrogates(value) if isinstance(value, str) else ""


def _as_object(value: object) -> Mapping[str, object]:
    """Returns the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _as_objects(value: object) -> Sequence[Mapping[str, object]]:
    """The objects in what should be a list of them."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _replace_surrogates(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


Text = Annotated[str, BeforeValidator(_well_formed)]


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _File(_Payload):
    id: str
    name: Text = ""
    alt_txt: Text = ""
    mimetype: Text = ""
    size: int | None = None
    mode: Text = ""
    url_private: Text = ""
    is_external: bool = False


class _Edited(_Payload):
    ts: str


class _Message(_Payload):
    """A message. Its content is parsed field by field: apps may send anything, and Slack adds fields."""

    model_config = ConfigDict(extra="allow", frozen=True)
    ts: str
    text: object = ""
    user: str | None = None
    bot_id: str | None = None
    username: Text = ""
    subtype: str | None = None
    thread_ts: str | None = None
    files: object = ()
    blocks: object = ()
    attachments: object = ()
    edited: _Edited | None = None


class _MessageEvent(_Message):
    type: str
    channel: str
    channel_type: str | None = None


class _Deleted(_Payload):
    channel: str
    channel_type: str | None = None
    deleted_ts: str
    ts: str
    previous_message: object = None


class _Changed(_Payload):
    channel: str
    channel_type: str | None = None
    message: _Message


class _Item(_Payload):
    channel: str
    ts: str


class _Reaction(_Payload):
    user: str
    reaction: str
    item: _Item
    event_ts: str


class _Person(_Payload):
    id: str
    name: Text = ""


class _Container(_Payload):
    channel_id: str
    message_ts: str
    thread_ts: str | None = None


class _Label(_Payload):
    text: Text = ""


class _Action(_Payload):
    value: str
    action_ts: str
    text: _Label = _Label()


class _Press(_Payload):
    user: _Person
    container: _Container
    message: _Message | None = None
    actions: tuple[_Action, ...]


class _Metadata(_Payload):
    event_payload: Mapping[str, object] = {}


class _HistoryMessage(_Message):
    metadata: _Metadata | None = None
    latest_reply: str | None = None


class _Cursor(_Payload):
    next_cursor: str = ""


class _Membership(_Payload):
    id: str
    is_im: bool = False
    is_mpim: bool = False


class _Page(_Payload):
    messages: tuple[object, ...] = ()
    response_metadata: _Cursor | None = None


class _Shares(_Payload):
    public: Mapping[str, object] = {}
    private: Mapping[str, object] = {}


class _FileInfo(_File):
    url_private_download: str = ""
    shares: _Shares = _Shares()


@dataclass(frozen=True, slots=True, kw_only=True)
class _BotIdentity:
    """The bot's identity in its workspace."""

    user_id: str
    bot_id: str | None
    name: str
    team_id: str | None
    team: str


# --- the channel ---


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectDelays:
    """Seconds before a new connection: from the first to the longest, doubled each time; and after Slack rejects the
    tokens, which only an operator can change."""

    min_s: float = 0.5
    max_s: float = 15.0
    auth_retry_s: float = 30.0


@dataclass(slots=True, kw_only=True)
class _ChatHistory:
    """What is seen of a chat after an absence. `since`: its newest message that is known; `day`: what is older is not
    looked at. `threads_read`: the threads that were read in full; None among them is what is outside of threads."""

    chat: str
    day: float
    since: float
    messages: dict[str, _HistoryMessage] = field(default_factory=dict)
    threads_read: set[str | None] = field(default_factory=set)
    handed_in_ids: set[str] = field(default_factory=set)

    def is_new(self, one: _HistoryMessage) -> bool:
        is_late = _seconds_of(one.ts) > self.since and one.ts not in self.handed_in_ids
        return is_late and one.subtype in _MESSAGE_SUBTYPES

    def covers(self, ts: str, thread: str | None) -> bool:
        """Returns whether the message exists, or its place was not read."""
        where = None if thread == ts else thread
        there = self.messages.get(ts)
        return where not in self.threads_read or (there is not None and there.subtype != TOMBSTONE)


class SlackChannel:
    """One Slack app in one workspace."""

    def __init__(self, settings: SlackSettings, *, pauses: ReconnectDelays | None = None) -> None:
        self.settings = settings
        self._proxy = proxy_for(settings.base_url)
        self._pauses = pauses or ReconnectDelays()
        self._open: AsyncWebClient | None = None
        self._condition = (Condition.DOWN, "it has not connected yet")
        self._me: _BotIdentity | None = None
        self._people = _CachedLookup(self._fetch_person, nothing="")
        self._chats = _CachedLookup(self._fetch_chat, nothing="")
        self._threads = _CachedLookup(self._fetch_thread, nothing="")
        self._thread_roots: _CachedLookup[Part | None] = _CachedLookup(
            self._fetch_thread_root, nothing=None, limit_s=ROOT_LOOKUP_TIMEOUT_S
        )
        # An existing message may be deleted before Slack reports it again, so it is not cached.
        self._message_exists = _CachedLookup(
            self._fetch_message_exists, nothing=True, keeps=lambda is_there: not is_there
        )
        self._threads_joined: OrderedDict[str, str] = OrderedDict()
        """The threads in which the bot was mentioned or wrote, with the ts of the first time."""
        self._uploads: OrderedDict[str, str] = OrderedDict()
        self._last_connected_at = -math.inf

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
        return self._condition

    async def check(self) -> str:
        async with self._session() as session:
            client = self._client(session)
            me, answer = await self._identify(client)
            await self._socket_url(client)
        said = f"{me.name} ({me.user_id}) in the workspace {me.team}; Socket Mode works"
        granted = str(answer.headers.get("x-oauth-scopes") or "")
        missing = [scope for scope in SCOPES if granted and scope not in granted.replace(" ", "").split(",")]
        return f"{said}; add these scopes and install the app again: {', '.join(missing)}" if missing else said

    def _session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_s, sock_connect=min(10, self.settings.timeout_s))
        way = aiohttp_options(self._proxy)
        return aiohttp.ClientSession(**way, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())

    def _client(self, session: aiohttp.ClientSession) -> AsyncWebClient:
        """Retries are off: a request that is cut off and repeated is a second message."""
        made = AsyncWebClient(
            token=self.settings.bot_token.strip(),
            base_url=self.settings.base_url,
            session=session,
            retry_handlers=[],
            logger=_library_logger,
        )
        made.proxy = None  # it is the session's, which knows more kinds, and addresses without one
        return made

    @property
    def _web_client(self) -> AsyncWebClient:
        if self._open is None:
            raise ChannelDown("the channel is closed")
        return self._open

    # --- receiving ---

    async def receive(self, inbox: Inbox) -> None:
        """Receives events, and reconnects after growing pauses. Raises what the inbox raised."""
        pause_s = self._pauses.min_s
        while True:
            began = time.monotonic()
            try:
                await self._run_connection(inbox)
                self._set_condition(Condition.DOWN, "Slack closed the connection; a new one is being made")
                wait_s = 0.0
            except AuthFailed as error:
                self._set_condition(Condition.AUTH_FAILED, str(error))
                wait_s = self._pauses.auth_retry_s
            except RateLimited as error:
                self._set_condition(Condition.DOWN, str(error))
                wait_s = error.retry_after_s
            except ChannelError as error:
                self._set_condition(Condition.DOWN, str(error))
                wait_s = 0.0
            if time.monotonic() - began > HEALTHY_AFTER_S:
                pause_s = self._pauses.min_s
            await asyncio.sleep(max(wait_s, pause_s))
            pause_s = min(pause_s * 2, self._pauses.max_s)

    async def _run_connection(self, inbox: Inbox) -> None:
        """Runs one connection to its end. Raises ChannelError, and what the inbox raised."""
        client = self._web_client
        me, _ = await self._identify(client)
        self._me = me
        if time.monotonic() - self._last_connected_at > REDELIVERY_WINDOW_S:
            await self._catch_up(inbox, me)
        url = await self._socket_url(client)
        socket = SocketModeConnection(
            client, self.settings, me, lambda body: self._handle_payload(inbox, me, body), self._proxy
        )
        try:
            await socket.open(url)
            self._set_condition(Condition.UP, "")
            await socket.wait_until_ended()
        finally:
            if self._condition[0] is Condition.UP:
                self._last_connected_at = time.monotonic()
            await socket.close()

    async def _catch_up(self, inbox: Inbox, me: _BotIdentity) -> None:
        """Reads messages that Slack no longer delivers after a few minutes, as far as Slack permits, before new events
        are accepted."""
        day, known = time.time() - CAUGHT_UP_S, await inbox.latest()
        sights = [
            _ChatHistory(chat=chat, day=day, since=max(_seconds_of(newest), day)) for chat, newest in known.items()
        ]
        try:
            async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
                for sight in sights:
                    await self._with_time_share(sight, self._catch_up_chat(sight, inbox, me))
                for sight in sights:
                    await self._with_time_share(sight, self._report_deletions(sight, inbox, me))
                for sight in await self._unseen_chats(known, day):
                    await self._with_time_share(sight, self._catch_up_chat(sight, inbox, me))
        except AuthFailed:
            raise
        except (ChannelError, TimeoutError) as error:
            _log.warning("slack_catch_up_failed", error=str(error) or f"it took more than {CATCH_UP_TIMEOUT_S:g} s")

    async def _unseen_chats(self, known: Mapping[str, str], day: float) -> list[_ChatHistory]:
        """The chats that we are in and know no message of, those of people alone first. What was said there before the
        newest message that we know of anywhere was told, and is no news. Where none is known, nothing was missed."""
        if not known:
            return []
        since = max(day, *map(_seconds_of, known.values()))
        found = [one for one in await self._memberships() if one.id not in known]
        found.sort(key=lambda one: (not one.is_im, not one.is_mpim))
        if len(found) > MAX_UNSEEN_CHATS:
            _log.warning(
                "slack_catch_up_failed", error=f"{len(found) - MAX_UNSEEN_CHATS} chats never heard of are not read"
            )
        return [_ChatHistory(chat=one.id, day=since, since=since) for one in found[:MAX_UNSEEN_CHATS]]

    async def _memberships(self) -> list[_Membership]:
        """Returns the chats that the bot is in. Raises ChannelError."""
        asked: dict[str, Any] = {"types": "im,mpim,private_channel,public_channel", "exclude_archived": True}
        found: list[_Membership] = []
        for _ in range(MAX_PAGES):
            answer = await _translated_errors(self._web_client.users_conversations(**asked, limit=PAGE_SIZE))
            for said in _as_objects(answer.get("channels")):
                with suppress(ValidationError):
                    found.append(_Membership.model_validate(said))
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                break
            asked["cursor"] = cursor
        return found

    async def _with_time_share(self, sight: _ChatHistory, reading: Coroutine[Any, Any, None]) -> None:
        """Reads one chat within its share of the time, so that a busy chat does not hide messages of others."""
        try:
            async with asyncio.timeout(CHAT_CATCH_UP_TIMEOUT_S):
                await reading
        except TimeoutError:
            _log.warning(
                "slack_catch_up_failed", chat=sight.chat, error=f"it took more than {CHAT_CATCH_UP_TIMEOUT_S:g} s"
            )

    async def _catch_up_chat(self, sight: _ChatHistory, inbox: Inbox, me: _BotIdentity) -> None:
        """Reads what people wrote outside of threads, and in threads that begin within the read range."""
        await self._read_history(sight, None)
        for root in list(sight.messages.values()):
            if _seconds_of(root.latest_reply) > sight.since:
                await self._read_history(sight, root.ts)
        await self._hand_in_missed(sight, inbox, me)

    async def _report_deletions(self, sight: _ChatHistory, inbox: Inbox, me: _BotIdentity) -> None:
        """Reports known messages that were deleted, as far as the chat was read, and new messages in their threads."""
        if None not in sight.threads_read:
            return
        known = await inbox.recent(sight.chat, datetime.fromtimestamp(sight.day + VISIBILITY_DELAY_S, UTC))
        threads = [thread for ts, thread in known.items() if thread != ts and thread not in sight.threads_read]
        for thread in list(dict.fromkeys(threads))[:MAX_THREADS]:
            await self._read_history(sight, thread)
        for ts in sorted(known, key=_seconds_of):
            if not sight.covers(ts, known[ts]):
                await inbox.accept(_deletion(sight.chat, ts, known[ts], is_group=_is_group(sight.chat, None)))
        await self._hand_in_missed(sight, inbox, me)

    async def _read_history(self, sight: _ChatHistory, thread: str | None) -> None:
        """Reads the messages of a thread, or those outside of threads."""
        try:
            async for one in self._fetch_history(Address(platform_id=sight.chat, thread_id=thread), sight.day):
                sight.messages[one.ts] = one
            sight.threads_read.add(thread)
        except _SlackRejected as refused:
            if refused.error == "thread_not_found":
                sight.threads_read.add(thread)
        except Refused:
            pass  # the bot is no longer in that chat
        except Ambiguous as error:
            _log.warning("slack_catch_up_failed", chat=sight.chat, error=str(error))  # messages read so far are used

    async def _hand_in_missed(self, sight: _ChatHistory, inbox: Inbox, me: _BotIdentity) -> None:
        """Passes missed messages to the inbox, the oldest first, each once."""
        missed = [one for one in sight.messages.values() if sight.is_new(one)]
        for message in sorted(missed, key=lambda one: _seconds_of(one.ts)):
            for event in await _parsed_events("history", self._missed_event(me, message, sight.chat)):
                await inbox.accept(event)
            sight.handed_in_ids.add(message.ts)

    async def _missed_event(self, me: _BotIdentity, message: _HistoryMessage, chat: str) -> Sequence[InboundEvent]:
        event = await self._message(me, message, chat, None)
        return () if event.sender.is_self else (event,)

    def _set_condition(self, condition: Condition, sentence: str) -> None:
        if condition is not self._condition[0]:
            _log.info("slack_condition_changed", condition=condition.value, detail=sentence)
        self._condition = (condition, sentence)

    async def _identify(self, client: AsyncWebClient) -> tuple[_BotIdentity, AsyncSlackResponse]:
        try:
            answer = await _translated_errors(client.auth_test())
        except AuthFailed as error:
            raise AuthFailed(f"{error}: that is the bot_token; install the app again and copy the token") from None
        me = _BotIdentity(
            user_id=str(answer.get("user_id") or ""),
            bot_id=answer.get("bot_id"),
            name=str(answer.get("user") or "the bot"),
            team_id=answer.get("team_id"),
            team=str(answer.get("team") or ""),
        )
        return me, answer

    async def _socket_url(self, client: AsyncWebClient) -> str:
        try:
            answer = await _translated_errors(client.apps_connections_open(app_token=self.settings.app_token.strip()))
        except AuthFailed as error:
            raise AuthFailed(
                f"{error}: that is the app_token; make one with the scope connections:write, and switch Socket Mode on"
            ) from None
        return str(answer.get("url") or "")

    async def _handle_payload(self, inbox: Inbox, me: _BotIdentity, body: Mapping[str, object]) -> None:
        """Passes the events of a payload to the inbox. Ignores one that is invalid or does not concern the bot."""
        if (moved := _parse_move(body)) is not None:
            await inbox.moved(*moved)
            return
        for event in await _parsed_events(str(body.get("type"))[:50], self._events(me, body)):
            if not event.sender.is_self:  # all that we post comes back
                await inbox.accept(event)

    async def _events(self, me: _BotIdentity, body: Mapping[str, object]) -> Sequence[InboundEvent]:
        if body.get("type") == "block_actions":
            return await self._button_events(_Press.model_validate(body))
        event = body.get("event")
        if not isinstance(event, dict):
            return ()
        match event.get("type"), event.get("subtype"):
            case "message", "message_changed":
                return await self._edit(me, _Changed.model_validate(event), event)
            case "message", "message_deleted":
                return [await self._deletion(me, _Deleted.model_validate(event))]
            case (("message" | "app_mention"), subtype) if subtype in _MESSAGE_SUBTYPES:
                return await self._on_message(me, _MessageEvent.model_validate(event))
            case "reaction_added", _:
                return await self._reaction(me, event, EventKind.REACTION)
            case "reaction_removed", _:
                return await self._reaction(me, event, EventKind.REACTION_REMOVED)
            case "message", subtype:
                _log.info("slack_message_ignored", chat=event.get("channel"), subtype=subtype)
                return ()
            case _:
                return ()

    async def _on_message(self, me: _BotIdentity, posted: _MessageEvent) -> Sequence[InboundEvent]:
        """Handles a message. Slack also reports an edit that adds a mention of the bot as one. A late message may have
        been deleted meanwhile."""
        made = await self._message(me, posted, posted.channel, posted.channel_type)
        if posted.edited is not None and posted.type == "app_mention":
            return [_to_edit_event(made, posted.edited.ts)]
        if time.time() - _seconds_of(posted.ts) > LATE_DELIVERY_S:
            place = f"{posted.channel} {posted.ts} {posted.thread_ts or ''}"
            if not await self._message_exists.get(place):
                _log.info("slack_message_deleted", chat=posted.channel, ts=posted.ts)
                return ()
        return [made]

    async def _deletion(self, me: _BotIdentity, deleted: _Deleted) -> InboundEvent:
        """Returns the deletion event; Slack reports the author of the message."""
        is_group = _is_group(deleted.channel, deleted.channel_type)
        event = _deletion(deleted.channel, deleted.deleted_ts, None, is_group=is_group, at=_time(deleted.ts))
        try:
            before = _Message.model_validate(deleted.previous_message)
        except ValidationError:
            return event
        sender = await self._sender(me, before)
        return replace(event, sender=sender, thread_id=before.thread_ts or event.thread_id)

    async def _message(
        self, me: _BotIdentity, message: _Message, channel: str, channel_type: str | None
    ) -> InboundEvent:
        is_group = _is_group(channel, channel_type)
        thread = message.thread_ts or (message.ts if is_group else None)
        self._threads.put(f"{channel} {message.ts}", thread or "")
        sender = await self._sender(me, message)
        held = await self._read_content(me, message)
        quoted = await self._thread_starter(channel, message, thread) if is_group and held.mentions_bot else None
        return InboundEvent(
            platform_id=channel,
            platform_message_id=message.ts,
            sender=sender,
            text=held.text,
            sent_at=_time(message.ts),
            thread_id=thread,
            is_group=is_group,
            mentions_bot=held.mentions_bot,
            chat_name=await self._chats.get(channel) if is_group else sender.name,
            attachments=held.attachments,
            parts=(*([quoted] if quoted else []), *held.parts),
        )

    async def _thread_starter(self, channel: str, message: _Message, thread: str | None) -> Part | None:
        """Returns the first message of a thread, when the bot is mentioned there for the first time. After a restart,
        and with a repeated message, it may be returned again."""
        key = f"{channel} {thread}"
        first = self._threads_joined.get(key)
        if first not in (None, message.ts):
            return None
        quoted = await self._thread_roots.get(key) if thread != message.ts else None
        if quoted is not None or thread == message.ts:
            self._note_joined(key, message.ts)
        return quoted

    def _note_joined(self, thread: str, ts: str) -> None:
        self._threads_joined.setdefault(thread, ts)
        if len(self._threads_joined) > MAX_CACHED:
            self._threads_joined.popitem(last=False)

    async def _read_content(self, me: _BotIdentity, message: _Message) -> MessageContent:
        """Returns the content of a message, with names for ids."""
        taken = parse_content(message)
        wire = _strip_leading_mentions(taken.text, me.user_id)
        names = await self._names(me, "".join([wire, *(_all_words(part) for part in taken.parts)]))
        links = [Part(kind=PartKind.LINK, text=names.read(words), url=url) for words, url in _links(wire)]
        return MessageContent(
            text=names.read(wire),
            parts=(*links, *(names.read_part(part) for part in taken.parts)),
            attachments=taken.attachments,
            mentions_bot=me.user_id in _MENTION.findall(taken.text),
        )

    async def _names(self, me: _BotIdentity, text: str) -> _Names:
        """Returns the names of the people and channels in a text, as far as they can be looked up in time."""
        people = [id for id in dict.fromkeys(_MENTION.findall(text)) if id != me.user_id][:MAX_NAME_LOOKUPS]
        channels = list(dict.fromkeys(_CHANNEL.findall(text)))[:MAX_NAME_LOOKUPS]
        found = await asyncio.gather(*map(self._people.get, people), *map(self._chats.get, channels))
        return _Names(
            people=dict(zip(people, found, strict=False)) | {me.user_id: me.name},
            channels=dict(zip(channels, found[len(people) :], strict=True)),
        )

    async def _edit(self, me: _BotIdentity, changed: _Changed, event: Mapping[str, object]) -> Sequence[InboundEvent]:
        """Handles `changed`. Slack also sends it for a new preview or reply, which is no edit, and for the deletion of
        a
        message with replies, which leaves a tombstone."""
        message, before = changed.message, _as_object(event.get("previous_message"))
        if message.subtype == TOMBSTONE:
            told: dict[str, object] = {"channel": changed.channel, "channel_type": changed.channel_type}
            told |= {"deleted_ts": message.ts, "ts": event.get("ts"), "previous_message": before}
            return [await self._deletion(me, _Deleted.model_validate(told))]
        written = "text" if message.text else "blocks"
        if message.edited is None or (before and before.get(written) == getattr(message, written)):
            return ()
        made = await self._message(me, message, changed.channel, changed.channel_type)
        if not made.mentions_bot or me.user_id in _MENTION.findall(_clean_text(before.get("text"))):
            made = replace(made, attachments=())  # they came with the message itself
        return [_to_edit_event(made, message.edited.ts)]

    async def _reaction(self, me: _BotIdentity, event: Mapping[str, object], kind: EventKind) -> Sequence[InboundEvent]:
        item = event.get("item")
        if not isinstance(item, dict) or item.get("type") != "message":
            return ()
        reaction = _Reaction.model_validate(event)
        channel, ts = reaction.item.channel, reaction.item.ts
        is_group = _is_group(channel, None)
        known = await self._threads.get(f"{channel} {ts}")
        name = reaction.reaction.partition("::")[0]
        return [
            InboundEvent(
                platform_id=channel,
                platform_message_id=f"{ts}:{reaction.user}:{reaction.reaction}:{reaction.event_ts}",
                sender=await self._sender_of(me, reaction.user, None),
                text=_EMOJI_OF.get(name, f":{name}:"),
                sent_at=_time(reaction.event_ts),
                kind=kind,
                thread_id=known or (ts if is_group else None),
                is_group=is_group,
                refers_to=ts,
                chat_name=await self._chats.get(channel) if is_group else "",
            )
        ]

    async def _button_events(self, press: _Press) -> Sequence[InboundEvent]:
        where = press.container
        is_group = _is_group(where.channel_id, None)
        thread = where.thread_ts or (press.message.thread_ts if press.message else None)
        name = await self._people.get(press.user.id) or press.user.name or press.user.id
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

    async def _sender(self, me: _BotIdentity, message: _Message) -> Sender:
        if message.user is None:
            handle = message.bot_id or ""
            is_self = bool(handle) and handle == me.bot_id
            return Sender(handle=handle, name=message.username or handle, is_bot=True, is_self=is_self)
        return await self._sender_of(me, message.user, message.bot_id)

    async def _sender_of(self, me: _BotIdentity, user: str, bot_id: str | None) -> Sender:
        if user == me.user_id:
            return Sender(handle=user, name=me.name, is_bot=True, is_self=True)
        return Sender(handle=user, name=await self._people.get(user) or user, is_bot=bot_id is not None)

    # --- sending ---

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        return await self._post(address, message, key=idempotency_key)

    async def send_card(self, address: Address, card: OutboundCard, *, idempotency_key: str) -> Receipt:
        return await self._post(address, card, key=idempotency_key)

    async def _post(self, address: Address, message: OutboundText | OutboundCard, *, key: str) -> Receipt:
        client = self._web_client
        metadata = {"event_type": "nanohost_message", "event_payload": {"key": key}}

        async def post(content: dict[str, Any]) -> AsyncSlackResponse:
            return await _translated_errors(
                client.chat_postMessage(
                    channel=address.platform_id,
                    thread_ts=address.thread_id,
                    metadata=metadata,
                    unfurl_links=False,
                    unfurl_media=False,
                    **content,
                )
            )

        ts = str((await _with_plain_fallback(message, post)).get("ts") or "")
        if not ts:
            raise Ambiguous("Slack took the message and did not say its id")
        is_group = _is_group(address.platform_id, None)
        thread = address.thread_id or (ts if is_group else "")
        self._threads.put(f"{address.platform_id} {ts}", thread)
        self._note_joined(f"{address.platform_id} {thread}", ts)
        return Receipt(platform_message_ids=(ts,))

    async def edit(self, address: Address, message_id: str, message: OutboundText | OutboundCard) -> None:
        client = self._web_client

        async def update(content: dict[str, Any]) -> AsyncSlackResponse:
            content = {"blocks": []} | {key: value for key, value in content.items() if key != "mrkdwn"}
            return await _translated_errors(client.chat_update(channel=address.platform_id, ts=message_id, **content))

        with _idempotent():
            await _with_plain_fallback(message, update)

    async def send_file(self, address: Address, file: OutboundFile, *, idempotency_key: str) -> Receipt:
        """Sends a file. Nobody sees it before its upload is completed: after any earlier failure it is not sent."""
        client = self._web_client
        with _idempotent():
            begun = await _translated_errors(client.files_getUploadURLExternal(filename=file.name, length=file.size))
            file_id = str(begun.get("file_id") or "")
            await self._upload(client, str(begun.get("upload_url") or ""), file)
        self._uploads[idempotency_key] = file_id
        if len(self._uploads) > MAX_CACHED:
            self._uploads.popitem(last=False)
        words = file.plain if file.plain is not None else file.text
        await _translated_errors(
            client.files_completeUploadExternal(
                files=[{"id": file_id, "title": file.name}],
                channel_id=address.platform_id,
                thread_ts=address.thread_id,
                initial_comment=_escaped(words) if words.strip() else None,
            )
        )
        if address.thread_id is not None:
            self._note_joined(f"{address.platform_id} {address.thread_id}", file_id)
        return Receipt(platform_message_ids=(file_id,))

    async def _upload(self, client: AsyncWebClient, url: str, file: OutboundFile) -> None:
        assert client.session is not None
        answer_s = self.settings.timeout_s + upload_answer_s(file.size)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=answer_s)
        with await asyncio.to_thread(file.content.open, "rb") as opened:
            try:
                async with client.session.post(url, data=opened, timeout=timeout) as answer:
                    status = answer.status
            except (aiohttp.ClientError, OSError) as error:
                raise _to_ambiguous(error) from None
        if status >= 500 or status == 429:
            raise NotSent(f"Slack did not take the file: it answers {status}", server_error=status >= 500)
        if status >= 400:
            raise Refused(f"Slack does not take the file: it answers {status}")

    async def find_sent(self, address: Address, *, idempotency_key: str) -> Receipt | None:
        """Finds a sent message by its key. Files are found only until a restart: Slack stores no key for them."""
        if (file_id := self._uploads.get(idempotency_key)) is not None:
            if await self._is_shared(file_id, address):
                return Receipt(platform_message_ids=(file_id,))
            del self._uploads[idempotency_key]
            return None
        async for message in self._fetch_history(address, time.time() - CATCH_UP_WINDOW_S):
            if message.metadata is not None and message.metadata.event_payload.get("key") == idempotency_key:
                return Receipt(platform_message_ids=(message.ts,))
        return None

    async def _is_shared(self, file_id: str, address: Address) -> bool:
        """Returns whether Slack has shared the file, which takes a while. Deletes one that is not shared yet, so that
        it
        does not appear besides its replacement."""
        try:
            shares = (await self._file_info(self._web_client, file_id)).shares
            if address.platform_id in (*shares.public, *shares.private):
                return True
            await _translated_errors(self._web_client.files_delete(file=file_id))
        except _SlackRejected as refused:
            if refused.error not in ("file_not_found", "file_deleted"):
                raise
        return False

    async def _fetch_history(self, address: Address, since: float) -> AsyncIterator[_HistoryMessage]:
        """Yields the messages of a chat outside of threads, the newest first; or of a thread, the oldest first. Raises
        Ambiguous if there are too many to read."""
        asked: dict[str, Any] = {"channel": address.platform_id, "oldest": f"{since:.6f}", "limit": PAGE_SIZE}
        asked |= {"include_all_metadata": True}
        for _ in range(MAX_PAGES):
            if address.thread_id is None:
                answer = await _translated_errors(self._web_client.conversations_history(**asked))
            else:
                answer = await _translated_errors(self._web_client.conversations_replies(ts=address.thread_id, **asked))
            try:
                page = _Page.model_validate(answer.data)
            except ValidationError:
                raise Ambiguous("Slack tells what stands there in a way that makes no sense") from None
            for said in page.messages:
                try:
                    message = _HistoryMessage.model_validate(said)
                except ValidationError:
                    continue  # skip an invalid one
                yield message
            if page.response_metadata is None or not page.response_metadata.next_cursor:
                return
            asked["cursor"] = page.response_metadata.next_cursor
        raise Ambiguous(f"more than {MAX_PAGES * PAGE_SIZE} messages stand there")

    async def react(self, address: Address, message_id: str, emoji: str) -> None:
        names = _NAMES_OF.get(emoji.replace("\ufe0f", ""))
        if names is None:
            raise RefusedHere(f"this channel does not know what Slack calls {emoji}")
        with _idempotent():
            try:
                await _translated_errors(
                    self._web_client.reactions_add(channel=address.platform_id, timestamp=message_id, name=names[0])
                )
            except _SlackRejected as refused:
                if refused.error != "already_reacted":
                    raise

    async def typing(self, address: Address) -> None:
        """Shows typing. Slack shows it only in threads, for two minutes or until the answer."""
        if address.thread_id is None:
            return
        await _translated_errors(
            self._web_client.assistant_threads_setStatus(
                channel_id=address.platform_id, thread_ts=address.thread_id, status="is thinking…"
            )
        )

    async def open_dm(self, handle: str) -> Address:
        with _idempotent():
            answer = await _translated_errors(self._web_client.conversations_open(users=handle))
        channel = (answer.get("channel") or {}).get("id")
        if not channel:
            raise Refused(f"Slack opens no DM with {handle}")
        return Address(platform_id=str(channel))

    # --- files of people ---

    async def fetch(self, attachment: Attachment, into: Path, *, most_bytes: int) -> None:
        client = self._web_client
        with _idempotent():
            info = await self._file_info(client, attachment.ref)
            url = info.url_private_download or info.url_private
            if info.is_external or not is_slack_url(url, self.settings.base_url):
                raise Refused("the file does not lie with Slack")
            if info.size is not None and info.size > most_bytes:
                raise Refused(f"the file has {info.size} bytes; {most_bytes} are taken")
            try:
                await self._download(client, url, info, into, most_bytes)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _to_ambiguous(error) from None

    async def _download(self, client: AsyncWebClient, url: str, info: _FileInfo, into: Path, most_bytes: int) -> None:
        """Downloads a file. Redirects are not followed: the only one leads to the login page."""
        assert client.session is not None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self.settings.timeout_s)
        headers = {"Authorization": f"Bearer {client.token}"}
        async with client.session.get(url, headers=headers, timeout=timeout, allow_redirects=False) as answer:
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
        answer = await _translated_errors(client.files_info(file=file_id))
        try:
            return _FileInfo.model_validate(answer.get("file"))
        except ValidationError:
            raise Refused("Slack describes the file in a way that makes no sense") from None

    # --- names and threads ---

    async def _fetch_person(self, user: str) -> str:
        person = (await _translated_errors(self._web_client.users_info(user=user))).get("user") or {}
        profile = person.get("profile") or {}
        return str(profile.get("display_name") or person.get("real_name") or person.get("name") or "")

    async def _fetch_chat(self, channel: str) -> str:
        answer = await _translated_errors(self._web_client.conversations_info(channel=channel))
        return str((answer.get("channel") or {}).get("name") or "")

    async def _fetch_thread(self, channel_and_ts: str) -> str:
        channel, _, ts = channel_and_ts.partition(" ")
        answer = await _translated_errors(self._web_client.conversations_replies(channel=channel, ts=ts, limit=1))
        messages = answer.get("messages") or [{}]
        return str(messages[0].get("thread_ts") or "")

    async def _fetch_thread_root(self, channel_and_ts: str) -> Part | None:
        """Fetches the first message of a thread."""
        channel, _, ts = channel_and_ts.partition(" ")
        answer = await _translated_errors(self._web_client.conversations_replies(channel=channel, ts=ts, limit=1))
        try:
            [message, *_] = [_Message.model_validate(one) for one in answer.get("messages") or ()]
        except ValueError:  # a ValidationError is one
            return None
        if self._me is None or message.ts != ts:
            return None
        if message.subtype == TOMBSTONE:
            return Part(kind=PartKind.QUOTED, text="[a message that was deleted]")
        taken = parse_content(message)
        files = [f"[file: {file.name or 'without a name'}]" for file in taken.attachments]
        words = "\n".join(filter(None, [taken.text, *map(_in_brackets, taken.parts), *files]))
        names = await self._names(self._me, words)
        author = (await self._sender(self._me, message)).name
        return Part(kind=PartKind.QUOTED, text=names.read(words, urls=True), author=author, sent_at=_time(ts))

    async def _fetch_message_exists(self, place: str) -> bool:
        """Returns whether a message still exists. `place`: its channel, ts and thread."""
        channel, ts, thread = place.split(" ")
        asked: dict[str, Any] = {"channel": channel, "oldest": ts, "latest": ts, "inclusive": True, "limit": 2}
        try:
            if thread:
                answer = await _translated_errors(self._web_client.conversations_replies(ts=thread, **asked))
            else:
                answer = await _translated_errors(self._web_client.conversations_history(**asked))
        except _SlackRejected as refused:
            return refused.error != "thread_not_found"
        found = _as_objects(answer.get("messages"))
        return any(one.get("ts") == ts and one.get("subtype") != TOMBSTONE for one in found)


async def _parsed_events(about: str, reading: Awaitable[Sequence[InboundEvent]]) -> Sequence[InboundEvent]:
    """Returns the parsed events; none if the input is invalid."""
    try:
        return await reading
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # a ValidationError is a ValueError
        _log.info("slack_event_ignored", type=about, error=type(error).__name__)
        return ()


def _parse_move(body: Mapping[str, object]) -> tuple[str, str] | None:
    """Which channel is called by which other id from now on: when it is shared with another organisation or no more
    (https://docs.slack.dev/reference/events/channel_id_changed)."""
    event = body.get("event")
    if not isinstance(event, dict) or event.get("type") != "channel_id_changed":
        return None
    old, new = event.get("old_channel_id"), event.get("new_channel_id")
    return (old, new) if isinstance(old, str) and isinstance(new, str) and old and new else None


def _deletion(chat: str, ts: str, thread: str | None, *, is_group: bool, at: datetime | None = None) -> InboundEvent:
    """Returns a deletion event without an author. `at`: when it was reported."""
    return InboundEvent(
        platform_id=chat,
        platform_message_id=ts,
        sender=Sender(handle="", name=""),
        text="",
        sent_at=at or datetime.now(UTC),
        kind=EventKind.DELETION,
        thread_id=thread or (ts if is_group else None),
        is_group=is_group,
        refers_to=ts,
    )


def _to_edit_event(made: InboundEvent, edited_ts: str) -> InboundEvent:
    """Converts a message event to an edit."""
    return replace(
        made,
        platform_message_id=f"{made.platform_message_id}:{edited_ts}",
        sent_at=_time(edited_ts),
        kind=EventKind.EDIT,
        refers_to=made.platform_message_id,
    )


_Known = TypeVar("_Known")


class _CachedLookup(Generic[_Known]):
    """Looks up data of an id with a cache; `keeps` decides what is cached. Returns `nothing`, uncached, if Slack does
    not answer in time. Never raises a ChannelError."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[_Known]],
        *,
        nothing: _Known,
        limit_s: float = LOOKUP_TIMEOUT_S,
        keeps: Callable[[_Known], bool] = lambda _: True,
    ) -> None:
        self._ask = ask
        self._default = nothing
        self._limit_s = limit_s
        self._should_cache = keeps
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._not_before = 0.0

    async def get(self, id: str) -> _Known:
        if id in self._known:
            return self._known[id]
        if time.monotonic() < self._not_before:
            return self._default
        found = self._default
        try:
            async with asyncio.timeout(self._limit_s):
                found = await self._ask(id)
        except Refused:
            pass
        except (ChannelError, TimeoutError, AttributeError, TypeError):
            self._not_before = time.monotonic() + 30
            return self._known.get(id, self._default)
        if self._should_cache(found):
            self.put(id, found)
        return found

    def put(self, id: str, value: _Known) -> None:
        self._known[id] = value
        if len(self._known) > MAX_CACHED:
            self._known.popitem(last=False)


# --- the socket ---


class SocketModeConnection:
    """One connection of Socket Mode. Events of one chat are taken one after the other, those of others beside them.

    Nothing is acknowledged before `take` returned. When `take` raised, nothing more is taken: what comes after the
    event that failed must not overtake it.
    """

    def __init__(
        self,
        web: AsyncWebClient,
        settings: SlackSettings,
        me: _BotIdentity,
        take: Callable[[Mapping[str, object]], Awaitable[None]],
        proxy: str | None,
    ) -> None:
        self._take = take
        self._proxy = proxy
        self._bolt = _create_bolt_app(web, me, self._listener)
        self._has_ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._chat_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._client = SocketModeClient(
            app_token=settings.app_token.strip(),
            logger=_library_logger,
            web_client=web,
            auto_reconnect_enabled=False,
            ping_interval=settings.ping_s,
            on_close_listeners=[self._on_close],
            on_error_listeners=[self._on_close],
        )
        self._client.proxy = None
        self._client.message_listeners.append(self._on_message)

    async def open(self, url: str) -> None:
        """Connects, with a time limit, because the library retries for ever without an error."""
        self._client.wss_uri = url
        await self._client.aiohttp_client_session.close()
        self._client.aiohttp_client_session = aiohttp.ClientSession(**aiohttp_options(self._proxy))
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._client.connect()  # type: ignore[no-untyped-call]
        except TimeoutError:
            raise ChannelDown(f"Slack's socket could not be opened within {CONNECT_TIMEOUT_S:g} s") from None

    async def wait_until_ended(self) -> None:
        """Waits for the end of the connection. When Slack requests a new one, the library replaces it, with a short
        gap."""
        missing = 0
        while missing < 2:
            done, _ = await asyncio.wait([self._has_ended], timeout=WATCH_INTERVAL_S)
            if done:
                return self._has_ended.result()
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
        if self._has_ended.done() and not self._has_ended.cancelled():
            self._has_ended.exception()

    async def _on_close(self, _: object) -> None:
        if not self._has_ended.done():
            self._has_ended.set_result(None)

    async def _on_message(self, client: Any, message: dict[str, Any], raw: str | None) -> None:
        """Handles a message. The library calls this in a separate task for each, in order of arrival up to the first
        await, where they queue for their chat."""
        envelope = message.get("envelope_id")
        if not isinstance(envelope, str):
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            chat = _payload_chat(message.get("payload"))
            turn = self._chat_locks.setdefault(chat, asyncio.Lock())
            async with turn:
                if not self._has_ended.done():
                    await self._handle(message, envelope)
        finally:
            self._tasks.discard(task)

    async def _handle(self, message: Mapping[str, object], envelope: str) -> None:
        payload = message.get("payload")
        request = SocketModeRequest(
            type=str(message.get("type")), envelope_id=envelope, payload=payload if isinstance(payload, dict) else {}
        )
        response = await run_async_bolt_app(self._bolt, request)
        if self._has_ended.done():
            return
        if response.status != 200:
            # An unhandled kind, or an invalid one. Without an answer Slack would send it again and again.
            response = BoltResponse(status=200)
        await send_async_response(self._client, request, response, time.time())

    async def _listener(self, body: Mapping[str, object]) -> None:
        try:
            await self._take(body)
        except Exception as error:
            if not self._has_ended.done():
                self._has_ended.set_exception(error)
            raise


def _create_bolt_app(
    web: AsyncWebClient, me: _BotIdentity, listener: Callable[[Mapping[str, object]], Awaitable[None]]
) -> AsyncApp:
    """Creates the app, which acknowledges after the listener has returned, and not if it raised."""

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
        logger=_library_logger,
        # Bolt sets the level of the loggers with this name; with "nanohost" it would change all of nanohost's.
        name=_library_logger.name,
        process_before_response=True,
        ignoring_self_events_enabled=False,
        ssl_check_enabled=False,
        attaching_conversation_kwargs_enabled=False,
    )
    app.event(re.compile(".*"))(on_event)
    app.action(re.compile(".*"))(on_action)
    return app


def _payload_chat(payload: object) -> str:
    """Returns the chat of a payload; "" if it has none."""
    if not isinstance(payload, dict):
        return ""
    event = payload.get("event", payload)
    if not isinstance(event, dict):
        return ""
    for where, key in ((event, "channel"), (event.get("item"), "channel"), (event.get("channel"), "id")):
        if isinstance(where, dict) and isinstance(where.get(key), str):
            return str(where[key])
    return ""


def is_slack_url(url: str, base_url: str) -> bool:
    """Returns whether the token may be sent to this address: only to Slack and encrypted, whatever an event claims."""
    there, ours = urlsplit(url), urlsplit(base_url)
    is_slack = there.scheme == "https" and (there.netloc == "slack.com" or there.netloc.endswith(".slack.com"))
    return is_slack or (there.scheme, there.netloc) == (ours.scheme, ours.netloc)


# --- what a message holds ---


@dataclass(frozen=True, slots=True, kw_only=True)
class RawContent:
    """The content of a message in Slack's own markup. `text`: the sender's own text."""

    text: str
    parts: tuple[Part, ...]
    attachments: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageContent(RawContent):
    """The same content in readable form."""

    mentions_bot: bool


_METADATA_FIELDS = frozenset(
    {
        *("app_id", "bot_profile", "channel", "channel_type", "client_msg_id", "display_as_bot", "event_ts", "hidden"),
        *("icons", "inviter", "is_locked", "is_starred", "last_read", "latest_reply", "metadata", "parent_user_id"),
        *("permalink", "pinned_to", "reactions", "reply_count", "reply_users", "reply_users_count", "root"),
        *("source_team", "subscribed", "team", "type", "unread_count", "upload", "user_team", "user_profile"),
        *("assistant_thread", "bot_link", "language", "parent", "replies", "trigger_id", "event_id", "event_time"),
    }
)
"""Fields of a message that are not part of its content."""
_MAX_FOUND_CHARS = 500
"""Characters of the texts that are collected from unknown objects."""
_NAME_FIELDS = ("title", "text", "name", "label", "subtitle", "description", "alt_text", "body", "url")
"""The keys of Slack's objects that contain text for people."""
_SECTIONS = {"rich_text_section", "rich_text_quote", "rich_text_preformatted", "rich_text_list"}


def parse_content(message: _Message) -> RawContent:
    """Parses the content; invalid parts become placeholders. Pure."""
    own, parts = _clean_text(message.text), list[Part]()
    words = _blocks(message.blocks, parts)
    files, others = _files(message.files)
    if words and not own.strip():
        own = words
    elif words and not _repeats_text(message.blocks):
        said = _strip_markup(own)
        more = "\n".join(line for line in words.split("\n") if _strip_markup(line) not in said)
        parts = [*([_shared("card", more)] if more else []), *parts]
    for attachment in _as_objects(message.attachments):
        parts += _attachment(attachment, files)
    parts += others
    wrong = [
        name for name in ("text", "blocks", "attachments", "files") if _is_unknown_field(name, getattr(message, name))
    ]
    if not (own.strip() or parts or files):
        wrong += [key for key, value in (message.model_extra or {}).items() if value and key not in _METADATA_FIELDS]
    parts += [
        _shared("not known here", f"[something that Slack calls {_escaped(name)}, {_NOT_SHOWN_SUFFIX}")
        for name in wrong
    ]
    return RawContent(text=own, parts=tuple(parts), attachments=tuple(files))


_NOT_SHOWN_SUFFIX = "which cannot be shown here]"


def _is_unknown_field(name: str, value: object) -> bool:
    if name == "text" or not value:
        return bool(value) and not isinstance(value, str)
    return not isinstance(value, list) or any(not isinstance(one, dict) for one in value)


def _shared(title: str, text: str, *, url: object = "", author: str = "") -> Part:
    return Part(kind=PartKind.SHARED, title=title, text=text, url=_clean_text(url), author=author)


def _in_brackets(part: Part) -> str:
    whose = f" of {part.author}" if part.author else ""
    return f"[{part.title or part.kind.value}{whose}: {' '.join(filter(None, [part.text, _escaped(part.url)]))}]"


def _strip_markup(words: str) -> str:
    return re.sub(r"\W+", "", words)


def _escape_literal(value: object) -> str:
    """Escapes a literal text for Slack's markup; it may be escaped already."""
    return _escaped(_unescaped(_clean_text(value)))


def _text_of(value: object) -> str:
    """Returns the text of a text object, or the value if it is a text itself."""
    said = _as_object(value)
    if said.get("type") == "mrkdwn":
        return _clean_text(said.get("text"))
    return _escape_literal(said.get("text") if said else value)


def _repeats_text(blocks: object) -> bool:
    """Slack makes the text of what a person writes from it."""
    return all(block.get("type") == "rich_text" for block in _as_objects(blocks))


def _blocks(blocks: object, parts: list[Part]) -> str:
    """Returns the text of blocks; adds other content to `parts`."""
    return "\n".join(filter(None, (_block(block, parts) for block in _as_objects(blocks))))


def _block(block: Mapping[str, object], parts: list[Part]) -> str:
    kind = _clean_text(block.get("type"))
    if (reads := _BLOCKS.get(kind)) is not None:
        return reads(block, parts)
    sentence = f"[a block that Slack calls {_escape_literal(kind)[:50]}, {_NOT_SHOWN_SUFFIX}"
    parts.append(_shared("not known here", f"{_collect_text(block)} {sentence}".strip()))
    return ""


def _section(block: Mapping[str, object], parts: list[Part]) -> str:
    if block.get("accessory"):
        _element(_as_object(block["accessory"]), parts)
    return "\n".join(filter(None, map(_text_of, [block.get("text"), *_as_objects(block.get("fields"))])))


def _context_block(block: Mapping[str, object], parts: list[Part]) -> str:
    return " ".join(filter(None, (_context_element(one, parts) for one in _as_objects(block.get("elements")))))


def _table(block: Mapping[str, object], _: list[Part]) -> str:
    rows = block.get("rows")
    return "\n".join(" | ".join(map(_cell, _as_objects(row))) for row in rows) if isinstance(rows, list) else ""


def _image(block: Mapping[str, object], parts: list[Part]) -> str:
    words = [_text_of(block.get("title")), _escape_literal(block.get("alt_text"))]
    parts.append(_shared("image", ": ".join(filter(None, words)), url=block.get("image_url")))
    return ""


def _video(block: Mapping[str, object], parts: list[Part]) -> str:
    words = [_text_of(block.get("title")), _text_of(block.get("description"))]
    url, author = block.get("title_url") or block.get("video_url"), _escape_literal(block.get("author_name"))
    parts.append(_shared("video", ": ".join(filter(None, words)), url=url, author=author))
    return ""


def _actions_of(block: Mapping[str, object], parts: list[Part]) -> str:
    for one in _as_objects(block.get("elements")):
        _element(one, parts)
    return ""


def _input(block: Mapping[str, object], parts: list[Part]) -> str:
    parts.append(_shared("question", _text_of(block.get("label"))))
    _element(_as_object(block.get("element")), parts)
    return ""


_BLOCKS: Mapping[str, Callable[[Mapping[str, object], list[Part]], str]] = {
    "section": _section,
    "header": lambda block, _: _text_of(block.get("text")),
    "markdown": lambda block, _: _clean_text(block.get("text")),
    "rich_text": lambda block, _: "\n".join(filter(None, map(_rich_text, _as_objects(block.get("elements"))))),
    "context": _context_block,
    "table": _table,
    "image": _image,
    "video": _video,
    "actions": _actions_of,
    "context_actions": _actions_of,
    "input": _input,
    "divider": lambda _, __: "",
}
"""What reads a block of this type: its words are returned, what is no words goes to the parts."""


def _context_element(one: Mapping[str, object], parts: list[Part]) -> str:
    if one.get("type") == "image":
        parts.append(_shared("image", _escape_literal(one.get("alt_text")), url=one.get("image_url")))
        return ""
    return _text_of(one)


def _element(one: Mapping[str, object], parts: list[Part]) -> None:
    """Something to press, to choose from or to fill in."""
    if one.get("type") == "image":
        parts.append(_shared("image", _escape_literal(one.get("alt_text")), url=one.get("image_url")))
        return
    choices = [_text_of(choice.get("text")) for choice in _as_objects(one.get("options"))]
    for group in _as_objects(one.get("option_groups")):
        choices += [_text_of(choice.get("text")) for choice in _as_objects(group.get("options"))]
    words = _text_of(one.get("text")) or _text_of(one.get("placeholder")) or _escape_literal(one.get("alt_text"))
    title = "button" if one.get("type") in ("button", "workflow_button", "icon_button") else "choice"
    if words or choices:
        parts.append(_shared(title, " ".join(filter(None, [words, " / ".join(choices)])), url=one.get("url")))


def _rich_text(one: Mapping[str, object]) -> str:
    """A part of rich text."""
    elements = _as_objects(one.get("elements"))
    match one.get("type"):
        case "rich_text_list":
            start, indent = one.get("offset") or 0, one.get("indent") or 0
            first = start + 1 if one.get("style") == "ordered" and isinstance(start, int) else None
            margin = "  " * indent if isinstance(indent, int) and 0 <= indent <= MAX_INDENT else ""
            items = [_rich_text(element) for element in elements]
            marks = [f"{first + at}. " if first is not None else "- " for at in range(len(items))]
            return "\n".join(f"{margin}{mark}{item}" for mark, item in zip(marks, items, strict=True))
        case "rich_text_quote":
            return "\n".join(f"&gt; {line}" for line in "".join(map(_inline, elements)).split("\n"))
        case "rich_text_preformatted":
            return f"```\n{''.join(map(_inline, elements))}\n```"
        case _:
            return "".join(map(_inline, elements)) or _escape_literal(one.get("text"))


def _inline(one: Mapping[str, object]) -> str:
    kind = _clean_text(one.get("type"))
    if kind in _TEXT_FIELD_BY_TYPE:
        return _escape_literal(one.get(_TEXT_FIELD_BY_TYPE[kind]))
    if kind in _ID_FIELD_BY_TYPE:
        begin, key = _ID_FIELD_BY_TYPE[kind]
        return f"<{begin}{_tag(one.get(key))}>"
    if kind == "link":
        url, words = _tag(_escape_literal(one.get("url"))), _escape_literal(one.get("text"))
        return f"<{url}|{words}>" if words else f"<{url}>"
    if kind == "emoji":
        return f":{_escape_literal(one.get('name'))}:"
    return _rich_text(one) if kind in _SECTIONS else _collect_text(one)


_TEXT_FIELD_BY_TYPE = {"text": "text", "date": "fallback", "color": "value"}
_ID_FIELD_BY_TYPE = {
    "user": ("@", "user_id"),
    "channel": ("#", "channel_id"),
    "usergroup": ("!subteam^", "usergroup_id"),
    "broadcast": ("!", "range"),
}
"""Pieces of rich text: the field that has their words, or the tag that Slack's own markup has for them."""


def _tag(value: object) -> str:
    """What stands inside of Slack's brackets, whatever an app puts there."""
    return re.sub(r"[<>|]", "", _clean_text(value))


def _cell(one: Mapping[str, object]) -> str:
    if one.get("type") == "rich_text":
        return " ".join(map(_rich_text, _as_objects(one.get("elements"))))
    value = one.get("value")
    return _escape_literal(one.get("text")) or (str(value) if isinstance(value, int | float) else "")


def _collect_text(value: object, depth: int = 0) -> str:
    """Returns the texts for people in an unknown object."""
    found = list[str]()
    if isinstance(value, dict) and depth < MAX_INDENT:
        found = [
            _escape_literal(value[key]) or _collect_text(value[key], depth + 1) for key in _NAME_FIELDS if key in value
        ]
        nested = [value[key] for key in ("elements", "blocks", "items", "fields") if isinstance(value.get(key), list)]
        found += [_collect_text(one, depth + 1) for each in nested for one in each]
    return ", ".join(filter(None, found))[:_MAX_FOUND_CHARS]


def _files(files: object) -> tuple[list[Attachment], list[Part]]:
    """Returns the files that can be fetched, and placeholders for the others."""
    fetched, others = list[Attachment](), list[Part]()
    for one in _as_objects(files):
        try:
            file = _File.model_validate(one)
        except ValidationError:
            others.append(_shared("file", " ".join(filter(None, [_collect_text(one), f"[a file {_NOT_SHOWN_SUFFIX}"]))))
            continue
        if file.mode == "tombstone":
            others.append(_shared("file", "[a file that was deleted]"))
        elif file.is_external or file.mode == "external":
            others.append(_shared("file of another service", _escape_literal(file.name), url=file.url_private))
        else:
            fetched.append(Attachment(ref=file.id, name=file.name, media_type=file.mimetype, size=file.size))
            if file.alt_txt:
                others.append(_shared(f"description of {file.name or 'a file'}", _escape_literal(file.alt_txt)))
    return fetched, others


def _attachment(one: Mapping[str, object], files: list[Attachment]) -> list[Part]:
    """Returns the parts of an attachment: a forwarded message, a link preview, or a card of an app."""
    inner = list[Part]()
    own, others = _files(one.get("files"))
    words = [_clean_text(one.get("text")) or _blocks(one.get("blocks"), inner)]
    if _is_forwarded(one):
        for message in _as_objects(one.get("message_blocks")):
            if not words[0]:
                words = [_blocks(_as_object(message.get("message")).get("blocks"), inner)]
        words += [f"[file: {_escape_literal(file.name) or 'without a name'}]" for file in own]
        words += map(_in_brackets, [*inner, *others])
        files += own
        text = (
            "\n".join(filter(None, words)) or _escape_literal(one.get("fallback")) or f"[a message {_NOT_SHOWN_SUFFIX}"
        )
        return [_forwarded_part(one, text)]
    is_preview = bool(one.get("from_url") or one.get("original_url"))
    files += own
    fields = [
        ": ".join(filter(None, [_text_of(field.get("title")), _text_of(field.get("value"))]))
        for field in _as_objects(one.get("fields"))
    ]
    buttons = [f"[button: {_text_of(button.get('text'))}]" for button in _as_objects(one.get("actions"))]
    lines = [
        _clean_text(one.get("pretext")),
        _clean_text(one.get("title")),
        *words,
        *fields,
        _clean_text(one.get("footer")),
        *buttons,
    ]
    if image := _clean_text(one.get("image_url")):
        lines.append(f"[image: {_escaped(image)}]")
    lines += map(_in_brackets, [*inner, *others])
    text = "\n".join(filter(None, lines)) or _clean_text(one.get("fallback")) or f"[an attachment {_NOT_SHOWN_SUFFIX}"
    author = _escape_literal(one.get("author_name")) or _escape_literal(one.get("service_name"))
    url = one.get("title_link") or one.get("from_url") or one.get("original_url")
    return [_shared("preview" if is_preview else "attachment", text, url=url, author=author)]


def _is_forwarded(one: Mapping[str, object]) -> bool:
    return bool(one.get("is_share") or one.get("is_msg_unfurl") or one.get("message_blocks"))


def _forwarded_part(one: Mapping[str, object], text: str) -> Part:
    name = _escape_literal(one.get("author_name")) or _escape_literal(one.get("author_subname"))
    author, chat = _tag(one.get("author_id")), _tag(one.get("channel_id"))
    sent = _seconds_of(_clean_text(one.get("ts")))
    return Part(
        kind=PartKind.FORWARDED,
        text=text,
        author=name or (f"<@{author}>" if author else ""),
        chat=f"<#{chat}>" if chat[:1] in ("C", "G") else "",
        sent_at=datetime.fromtimestamp(sent, UTC) if 0 < sent < 2**33 else None,
    )


# --- texts ---

_TAG_PATTERN = re.compile(r"<([^<>|]*)(?:\|([^<>]*))?>")
_MENTION = re.compile(r"<@([A-Za-z0-9]+)(?:\|[^<>]*)?>")
_CHANNEL = re.compile(r"<#([A-Za-z0-9]+)\|?>")
"""Of a channel whose name Slack does not tell."""


def _to_readable(
    text: str, people: Mapping[str, str], channels: Mapping[str, str] | None = None, *, urls: bool = False
) -> str:
    """Returns Slack's text in readable form. `people`, `channels`: names by id. `urls`: with the addresses of links."""

    def plain(found: re.Match[str]) -> str:
        what, label = found[1], found[2] or ""
        if what.startswith("@"):
            return "@" + (people.get(what[1:]) or label or what[1:])
        if what.startswith("#"):
            return "#" + (label or (channels or {}).get(what[1:]) or what[1:])
        if what.startswith("!"):
            return label or "@" + what[1:].partition("^")[0]
        address = what.removeprefix("mailto:")
        if not label or label == address:
            return address
        return f"{label} ({address})" if urls and _is_label_for(label, what) else label

    return _unescaped(_TAG_PATTERN.sub(plain, text))


def _links(text: str) -> list[tuple[str, str]]:
    """Returns the label and the address of each link whose label is not its address."""
    found = [(one[2], one[1]) for one in _TAG_PATTERN.finditer(text) if one[2] and one[1][:1] not in ("@", "#", "!")]
    return [(label, _unescaped(url)) for label, url in found if _is_label_for(label, url)]


def _is_label_for(label: str, url: str) -> bool:
    """Returns whether the label is the address itself, perhaps typed without its scheme."""
    return label.rstrip("/") not in (url.rstrip("/"), re.sub(r"\A(?:https?://|mailto:|tel:)", "", url).rstrip("/"))


def _strip_leading_mentions(text: str, me: str) -> str:
    """Removes mentions of the bot at the beginning."""
    rest = re.sub(rf"\A(?:\s*<@{re.escape(me)}(?:\|[^>]*)?>[:,]?)+\s*", "", text)
    return rest if rest.strip() else text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    people: Mapping[str, str]
    channels: Mapping[str, str]

    def read(self, text: str, *, urls: bool = False) -> str:
        return _to_readable(text, self.people, self.channels, urls=urls)

    def read_part(self, part: Part) -> Part:
        author = self.read(part.author).removeprefix("@") if part.author.startswith("<@") else self.read(part.author)
        return replace(part, text=self.read(part.text, urls=True), author=author, chat=self.read(part.chat))


def _all_words(part: Part) -> str:
    return part.text + part.author + part.chat


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _escaped(text: str) -> str:
    """Escapes text, so that Slack finds no tag in it and it pings nobody."""
    return _replace_surrogates(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


async def _with_plain_fallback(
    message: OutboundText | OutboundCard, say: Callable[[dict[str, Any]], Awaitable[AsyncSlackResponse]]
) -> AsyncSlackResponse:
    """Sends with markup, and without if Slack rejects the markup."""
    try:
        return await say(_content(message))
    except _SlackRejected as refused:
        if refused.error not in _MARKUP_ERRORS or message.plain is None:
            raise
        _log.warning("slack_markup_rejected", error=refused.error)
        return await say(_plain_content(message, message.plain))


def _content(message: OutboundText | OutboundCard) -> dict[str, Any]:
    words = message.text if message.plain is None else message.plain
    if not message.text.strip():
        raise RefusedHere("Slack takes no message without words")
    if len(message.text) > MAX_MARKDOWN_CHARS:
        raise _SlackRejected(
            f"Slack takes {MAX_MARKDOWN_CHARS} characters, not {len(message.text)}", "msg_blocks_too_long"
        )
    blocks: list[dict[str, object]] = [
        {"type": "markdown", "text": _replace_surrogates(message.text)},
        *_actions(message),
    ]
    return {"text": _escaped(words[:NOTIFICATION_LIMIT]) or " ", "blocks": blocks}


def _plain_content(message: OutboundText | OutboundCard, plain: str) -> dict[str, Any]:
    content: dict[str, Any] = {"text": _escaped(plain), "mrkdwn": False}
    if len(content["text"]) > MAX_PLAIN_CHARS:
        raise RefusedHere(f"Slack takes {MAX_PLAIN_CHARS} characters, not {len(plain)}")
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
    """Converts a ts. Raises ValueError if it is invalid."""
    return datetime.fromtimestamp(float(ts), UTC)


def _seconds_of(ts: str | None) -> float:
    """Converts a ts to a number; 0 if it is invalid."""
    try:
        seconds = float(ts or 0)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0


def _is_group(channel: str, channel_type: str | None) -> bool:
    return channel_type != "im" if channel_type else not channel.startswith("D")


# --- errors ---


class _SlackRejected(Refused):
    """`error`: Slack's error code."""

    def __init__(self, text: str, error: str, *, chat_closed: bool = False) -> None:
        super().__init__(text, chat_closed=chat_closed)
        self.error = error


_T = TypeVar("_T")


async def _translated_errors(call: Awaitable[_T]) -> _T:
    """Awaits a call and converts all its errors to ChannelError."""
    try:
        return await call
    except SlackApiError as error:
        raise _to_rejection(error.response) from None
    except SlackRequestError as error:
        raise RefusedHere(f"Slack's library refuses: {error}") from None
    except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
        raise _to_ambiguous(error) from None
    except (ValueError, AttributeError, TypeError) as error:  # the library fails on an answer of another shape
        raise Ambiguous(f"Slack's answer makes no sense ({type(error).__name__})") from None


def _to_ambiguous(error: Exception) -> ChannelError:
    """Converts an error to Ambiguous with only its type name: its text may contain an address with a secret."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ChannelDown(f"Slack cannot be reached{through_proxy(SLACK)}: it answers {error.status}")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        way = through_proxy(SLACK) if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
        return ChannelDown(f"Slack cannot be reached{way} ({type(error).__name__})")
    return Ambiguous(f"Slack's answer was lost ({type(error).__name__})")


def _to_rejection(response: object) -> ChannelError:
    status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0))
    headers: Mapping[str, str] = getattr(response, "headers", None) or {}
    data = getattr(response, "data", None)
    said: Mapping[str, object] = data if isinstance(data, dict) else {}
    error = str(said.get("error") or "")
    if status == 429 or error in ("ratelimited", "rate_limited"):
        return RateLimited("Slack asks to wait", retry_after_s=_parse_retry_after(headers.get("Retry-After")))
    if error in _AUTH_ERRORS or (not error and status in (401, 403)):
        return AuthFailed(f"Slack does not accept the credentials ({error or status})")
    if not error or status >= 500 or error in _SERVER_ERRORS:
        words = f"Slack failed: {error or f'it answers {status}, and not what its API answers'}"
        return Ambiguous(words, server_error=True)
    return _SlackRejected(f"Slack refuses: {_describe_error(error, said)}", error, chat_closed=error in _CHAT_CLOSED)


def _describe_error(error: str, said: Mapping[str, object]) -> str:
    about = said.get("response_metadata")
    messages = about.get("messages") if isinstance(about, dict) else None
    details = [str(one) for one in messages[:3]] if isinstance(messages, list) else []
    if error == "missing_scope":
        details.append(f"add the scope {said.get('needed')} and install the app again")
    if error in _REMEDIES:
        details.append(_REMEDIES[error])
    return "; ".join([error, *details])


def _parse_retry_after(header: str | None) -> float:
    """Returns the seconds to wait, at most an hour: Slack may ask to wait again."""
    try:
        return min(max(1.0, float(header or 1)), 3600.0)
    except ValueError:
        return 30.0


@contextmanager
def _idempotent() -> Iterator[None]:
    """Marks calls that are harmless to repeat: a lost answer counts as not sent."""
    try:
        yield
    except Ambiguous as error:
        raise NotSent(str(error), server_error=error.server_error) from None

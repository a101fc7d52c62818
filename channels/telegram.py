# /// script
# dependencies = ["httpx>=0.28", "pydantic>=2.14", "python-telegram-bot>=22.8", "socksio>=1.0", "structlog>=26.1"]
# [tool.nanohost]
# kind = "channel"
# name = "telegram"
# api = 1
# [[tool.nanohost.settings]]
# name = "token"
# help = "the bot's token, from @BotFather in Telegram (/newbot)"
# secret = true
# ///
"""Connects a Telegram bot by long polling.

An update is confirmed by requesting the next one, and only after all earlier updates were accepted: updates that a
killed host had not accepted are received again. No offset is stored.

A send is told apart by where it broke: without a connection it is surely not sent, with the answer lost it may have
been; Telegram knows no key by which it could tell a repeat. Nothing is retried here. Pauses are the host's too, except
between two polls.

Links get no preview: a preview would make Telegram's servers call any address that an agent writes down.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, ValidationError
from telegram import (
    Bot,
    BotCommand,
    BotCommandScopeAllGroupChats,
    BotCommandScopeAllPrivateChats,
    CallbackQuery,
    Chat,
    Checklist,
    Contact,
    ExternalReplyInfo,
    GiftInfo,
    Giveaway,
    GiveawayWinners,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputFile,
    Invoice,
    LinkPreviewOptions,
    Location,
    Message,
    MessageEntity,
    MessageOrigin,
    MessageOriginChannel,
    MessageOriginChat,
    MessageOriginHiddenUser,
    MessageOriginUser,
    MessageReactionUpdated,
    PaidMediaInfo,
    PaidMediaLivePhoto,
    PaidMediaPhoto,
    PaidMediaPreview,
    PaidMediaVideo,
    Poll,
    ReactionType,
    ReactionTypeEmoji,
    ReplyParameters,
    Update,
    User,
    UsersShared,
    Venue,
)
from telegram.constants import BotCommandLimit, ChatAction, MessageLimit, MessageType, ParseMode, ReactionEmoji
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
)
from telegram.request import HTTPXRequest

from nanohost.channel_api import (
    Address,
    Ambiguous,
    Attachment,
    AuthFailed,
    Button,
    Capabilities,
    Channel,
    ChannelContext,
    ChannelDown,
    ChannelError,
    ChatMoved,
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
    ThreadGone,
    Unit,
    is_this_machine,
    proxy_for,
    through_proxy,
    upload_answer_s,
)

FILE_OUT_BYTES = 50 * 1024 * 1024
PHOTO_BYTES = 10 * 1024 * 1024
PHOTO_MEDIA_TYPES = frozenset({"image/jpeg", "image/png", "image/webp"})
REACTIONS = frozenset(emoji.value for emoji in ReactionEmoji)
EMOJI_FALLBACKS = {
    "✅": "👍",
    "✔": "👍",
    "☑": "👍",
    "❌": "👎",
    "✖": "👎",
    "⏳": "🤔",
    "⌛": "🤔",
    "⚠": "😱",
    "😀": "😁",
    "🚀": "⚡",
}
"""Replacements for emoji that bots may not use as reactions."""
GENERAL_TOPIC = "1"
CAPABILITIES = Capabilities(
    threads=True,
    form=Form.TELEGRAM,
    text_limit=4096,
    text_unit=Unit.UTF16,
    counted_after_parsing=True,
    entities=MessageLimit.MESSAGE_ENTITIES,
    pace=Pace(between_s=1.0, a_minute_in_a_group=20, a_second=30),
    typing_every_s=4.0,
    buttons=100,
    button_label=40,
    file_bytes=FILE_OUT_BYTES,
    caption_limit=1024,
    reactions=REACTIONS | EMOJI_FALLBACKS.keys(),
)
SHORT_LABEL_CHARS = 12
"""If all labels are this short, there are three buttons in a row."""
_CHUNK = 256 * 1024
_MESSAGE_UPDATES = ("message", "edited_message", "channel_post", "edited_channel_post")
"""The types of updates to receive."""
_METADATA_FIELDS = frozenset(
    {"message_id", "date", "chat", "from", "sender_chat", "message_thread_id", "is_topic_message"}
)
_UNREAD_KEY = "nanohost_unread"
"""The key for fields of a message that the library cannot parse, among its unknown fields."""
_MAX_PLACEHOLDER_CHARS = 300
"""Characters of Telegram's error text that are passed on: an answer may be a whole page."""

# The library's own switch: durations are timedeltas, as they will be by default.
os.environ["PTB_TIMEDELTA"] = "true"

# These name the address of each call, and the token is in it.
for _chatty in ("httpx", "httpcore", "telegram"):
    logging.getLogger(_chatty).setLevel(logging.WARNING)

_log = structlog.get_logger()
_T = TypeVar("_T")


def create(context: ChannelContext) -> Channel:
    """Creates the channel. Raises ChannelError with a sentence for each missing or wrong setting."""
    return TelegramChannel(read_settings(context.settings, instance=context.instance))


# --- settings ---------------------------------------------------------------------------------------------------


def _token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"\d+:[\w-]{20,}", value.get_secret_value(), re.ASCII):
        raise ValueError("not a token")
    return value


def _address(value: str) -> str:
    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
        raise ValueError("not an address")
    return value.rstrip("/")


class TelegramSettings(BaseModel):
    """The table [channels.telegram]."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    token: Annotated[SecretStr, AfterValidator(_token)]
    base_url: Annotated[str, AfterValidator(_address)] = "https://api.telegram.org"
    base_file_url: Annotated[str, AfterValidator(_address)] | None = None


_SETTING_REMEDIES = {
    "token": "wanted is what @BotFather gave you (digits, a colon, letters), or env:NAME, a variable that holds it",
    "base_url": 'write an address such as "https://api.telegram.org", or leave it out',
    "base_file_url": "write the address that files are fetched from, or leave it out",
}


def read_settings(table: Mapping[str, object], *, instance: str = "default") -> TelegramSettings:
    """Reads the settings. Raises ChannelError, which never contains a value."""
    try:
        return TelegramSettings.model_validate(dict(table))
    except ValidationError as error:
        names = dict.fromkeys(str(one["loc"][0]) for one in error.errors(include_url=False, include_input=False))
    unknown = f"there is no such setting; there are {', '.join(_SETTING_REMEDIES)}"
    said = "; ".join(f"{name}: {_SETTING_REMEDIES.get(name, unknown)}" for name in names)
    key = "channels.telegram" if instance == "default" else f"channels.telegram.{instance}"
    raise ChannelError(f"[{key}] {said}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """The channel's waits, in seconds: for an answer; for updates, in one poll; and before the next poll after a
    failure, growing from `min_retry_delay_s` to `max_retry_delay_s`, or `conflict_delay_s` and `auth_retry_delay_s` for
    failures that do not end by themselves."""

    answer_timeout_s: float = 20.0
    poll_s: int = 20
    poll_grace_s: float = 10.0
    min_retry_delay_s: float = 0.5
    max_retry_delay_s: float = 15.0
    conflict_delay_s: float = 5.0
    auth_retry_delay_s: float = 30.0


# --- the library, made safe to wait for ---------------------------------------------------------------------------


class _Request(HTTPXRequest):
    """The library's HTTP requests. Errors do not contain an answer that cannot be parsed, such as a proxy's page."""

    @staticmethod
    def parse_json_payload(payload: bytes) -> dict[str, object]:
        try:
            answer = json.loads(payload.decode(errors="replace"))
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or ("result" not in answer and answer.get("ok") is not False):
            raise TelegramError("the answer was not Telegram's")
        return answer

    async def stream_file(self, url: str, into: Path, most_bytes: int, size: int | None) -> None:
        """Downloads a file in chunks, to save memory. `size`: its size, if known.

        Rejects a web page of a proxy in place of the file. Raises ChannelError.
        """
        try:
            async with self._client.stream("GET", url) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise NotSent(f"Telegram does not give the file now: it answers {answer.status_code}")
                if _is_page(answer) and not url.lower().endswith(_PAGE_SUFFIXES):
                    raise NotSent("Telegram does not give the file now: a page came in its place")
                got = 0
                with await asyncio.to_thread(into.open, "wb") as written:
                    async for chunk in answer.aiter_bytes(_CHUNK):
                        got += len(chunk)
                        if got > most_bytes:
                            raise Refused(f"the file is larger than the {most_bytes} bytes that are allowed")
                        await asyncio.to_thread(written.write, chunk)
        except httpx.HTTPError as error:
            raise NotSent(f"the file did not come ({type(error).__name__})") from None
        if size is not None and got != size:
            raise NotSent(f"Telegram does not give the file now: {got} bytes came, and it has {size}")


_PAGE_SUFFIXES = (".html", ".htm", ".xhtml")


def _is_page(answer: httpx.Response) -> bool:
    return str(answer.headers.get("Content-Type", "")).lower().startswith(("text/html", "application/xhtml"))


class _PollRequest(_Request):
    """Requests for updates. One update that the library cannot parse would block all of them for ever, so its invalid
    fields are moved aside."""

    @staticmethod
    def parse_json_payload(payload: bytes) -> dict[str, object]:
        answer = _Request.parse_json_payload(payload)
        if "result" in answer:
            answer["result"] = list(_readable_updates(answer["result"]))
        return answer


def _readable_updates(updates: object) -> Iterator[Mapping[str, object]]:
    if not isinstance(updates, list):
        raise TelegramError("the answer was not a list of updates")
    for update in updates:
        if not isinstance(update, dict) or not isinstance(id := update.get("update_id"), int):
            _log.warning("telegram_update_unnumbered")
            continue
        try:
            Update.de_json(update, None)
            problem = None if _has_text(update) else "words that are none, or no chat"
        except Exception as error:
            problem = type(error).__name__
        if problem is None and not update.keys().isdisjoint(Update.ALL_TYPES):
            yield update
            continue
        kinds = [str(kind)[:100] for kind in update if kind != "update_id"]
        _log.warning("telegram_update_unreadable", update=id, kinds=kinds, error=problem or "a kind that is not known")
        yield _readable_part(update)


def _readable_part(update: Mapping[str, object]) -> Mapping[str, object]:
    """Returns the update with the fields that the library can parse. An unknown kind of update by a person in a chat
    becomes a message that says so."""
    number = {"update_id": update["update_id"]}
    for kind, body in update.items():
        if kind in _MESSAGE_UPDATES and isinstance(body, dict) and (mended := _repaired_message(body)) is not None:
            return number | {kind: mended}
        if kind not in Update.ALL_TYPES and isinstance(body, dict) and "from" in body:
            basic = {key: value for key, value in body.items() if key in _METADATA_FIELDS}
            if (mended := _repaired_message(basic)) is not None:
                return number | {"message": mended | {_UNREAD_KEY: {kind: _without_field(body, basic)}}}
    return number


def _repaired_message(body: Mapping[str, object]) -> dict[str, object] | None:
    """Returns a message with its parsable fields, and the others moved aside; None if it is no message."""
    mended = {key: body[key] for key in ("message_id", "date", "chat") if key in body}
    if not _is_readable(mended):
        return None
    unread = {}
    for key, value in _without_field(body, mended).items():
        whole = _repaired_reply(value, body) if key == "reply_to_message" and isinstance(value, dict) else value
        if _is_readable(mended | {key: whole}):
            mended[key] = whole
        else:
            unread[key] = value
    return mended | ({_UNREAD_KEY: unread} if unread else {})


def _repaired_reply(answered: Mapping[str, object], body: Mapping[str, object]) -> Mapping[str, object]:
    """Returns the replied-to message with its parsable fields."""
    whole = {"chat": body["chat"], **answered}
    return _repaired_message(whole) or whole


def _is_readable(message: Mapping[str, object]) -> bool:
    try:
        Message.de_json(dict(message), None)
    except Exception:
        return False
    return _has_text({"message": message})


def _has_text(update: Mapping[str, object]) -> bool:
    """Returns whether texts are strings and in a chat, which the library does not check."""
    bodies = [body for kind in _MESSAGE_UPDATES if isinstance(body := update.get(kind), dict)]
    has_words = all(isinstance(body.get(key, ""), str) for body in bodies for key in ("text", "caption"))
    return has_words and all(body.get("chat") for body in bodies)


def _without_field(body: Mapping[str, object], other: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in body.items() if key not in other}


@cache
def _tls(trust_env: bool) -> ssl.SSLContext:
    """Returns the TLS context; cached, because reading all certificates is slow."""
    return httpx.create_ssl_context(trust_env=trust_env)


class _BotConnections:
    """The bot and its connections: one for polls, others for calls. Raises ChannelDown for an invalid proxy."""

    def __init__(self, settings: TelegramSettings, timeouts: Timeouts) -> None:
        proxy = proxy_for(settings.base_url)
        how = {"trust_env": False, "verify": _tls(not is_this_machine(urlsplit(settings.base_url).hostname or ""))}
        self._polls = _PollRequest(connection_pool_size=4, pool_timeout=5.0, proxy=proxy, httpx_kwargs=how)
        self._calls = _Request(
            connection_pool_size=64,
            pool_timeout=5.0,
            read_timeout=timeouts.answer_timeout_s,
            write_timeout=timeouts.answer_timeout_s,
            connect_timeout=min(10.0, timeouts.answer_timeout_s),
            proxy=proxy,
            httpx_kwargs=how,
        )
        self.bot = Bot(
            settings.token.get_secret_value(),
            base_url=f"{settings.base_url}/bot",
            base_file_url=f"{settings.base_file_url or settings.base_url + '/file'}/bot",
            request=self._calls,
            get_updates_request=self._polls,
        )

    async def download(self, path: str, into: Path, most_bytes: int, size: int | None) -> None:
        """Raises ChannelError. The library would read a file of this machine if there is one under that name."""
        base = self.bot.base_file_url
        await self._calls.stream_file(f"{base}/{quote(path.removeprefix(f'{base}/'))}", into, most_bytes, size)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Bot]:
        async with AsyncExitStack() as stack:
            for request in (self._polls, self._calls):
                await stack.enter_async_context(request)
            yield self.bot


# --- the channel --------------------------------------------------------------------------------------------------


class TelegramChannel:
    """One bot. Its identity and state are kept only in memory."""

    def __init__(self, settings: TelegramSettings, *, timeouts: Timeouts | None = None) -> None:
        self._settings = settings
        self._timeouts = timeouts or Timeouts()
        self._connections = _BotConnections(settings, self._timeouts)
        self._bot = self._connections.bot
        self._me: User | None = None
        self._failures = 0
        self._condition = (Condition.DOWN, "it has not reached Telegram yet")
        self._background_tasks: set[asyncio.Task[None]] = set()

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def condition(self) -> tuple[Condition, str]:
        return self._condition

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        async with self._connections.opened():
            try:
                yield
            finally:
                for errand in self._background_tasks:
                    errand.cancel()
                await asyncio.gather(*self._background_tasks, return_exceptions=True)

    # --- what people do ---

    async def receive(self, inbox: Inbox) -> None:
        """Receives updates, and continues after any failure of the network or of Telegram; raises what the inbox
        raises."""
        offset: int | None = None
        while True:
            try:
                updates = await self._poll(offset)
            except TelegramError as error:
                await self._wait_after_failure(error)
                continue
            self._failures, self._condition = 0, (Condition.UP, "")
            await self._hand_in(updates, inbox)
            if updates:
                offset = max(update.update_id for update in updates) + 1

    async def _poll(self, offset: int | None) -> Sequence[Update]:
        """Polls once. The first poll after a failure returns at once, which shows that the failure is over."""
        if self._me is None:
            self._me = await self._bot.get_me()
        return await self._bot.get_updates(
            offset=offset,
            timeout=self._timeouts.poll_s if self._condition[0] is Condition.UP else 0,
            read_timeout=self._timeouts.poll_grace_s,
            allowed_updates=Update.ALL_TYPES,
        )

    async def _wait_after_failure(self, error: TelegramError) -> None:
        self._failures += 1
        condition, words, pause_s = self._update_condition(error)
        if self._condition != (condition, words):
            _log.warning("telegram_condition_changed", condition=condition.value, detail=words)
        self._condition = (condition, words)
        await asyncio.sleep(pause_s)

    def _update_condition(self, error: TelegramError) -> tuple[Condition, str, float]:
        patience = self._timeouts
        pause_s = min(patience.min_retry_delay_s * 2 ** min(self._failures - 1, 10), patience.max_retry_delay_s)
        said = str(to_channel_error(error, self._error_text(error), self._settings.base_url))
        match error:
            case InvalidToken():
                return Condition.AUTH_FAILED, _BAD_TOKEN, patience.auth_retry_delay_s
            case Conflict() if "webhook" in str(error).lower():
                words = "the bot has a webhook, so it cannot be asked for updates: call deleteWebhook once"
                return Condition.CONFLICT, words, patience.conflict_delay_s
            case Conflict():
                words = "somebody else polls with the same token: stop the other one, or have the token replaced"
                return Condition.CONFLICT, words, patience.conflict_delay_s
            case RetryAfter():
                return Condition.DOWN, said, max(pause_s, min(_retry_after_s(error), 30.0))
            case _:
                return Condition.DOWN, said, pause_s

    async def _hand_in(self, updates: Sequence[Update], inbox: Inbox) -> None:
        """Passes updates to the inbox: first moved groups, then each chat's updates in order. If one cannot be
        committed, none of them is confirmed."""
        for update in updates:
            if (moved := parse_chat_move(update)) is not None:
                await inbox.moved(*moved)
        try:
            async with asyncio.TaskGroup() as group:
                for one in _group_by_chat(updates):
                    group.create_task(self._hand_in_chat(one, inbox), name="telegram chat")
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _hand_in_chat(self, updates: Sequence[Update], inbox: Inbox) -> None:
        assert self._me is not None, "nothing is polled before"
        for update in updates:
            if parse_chat_move(update) is not None:
                continue
            if (event := parse_update(update, self._me)) is not None:
                await inbox.accept(event)
            if update.callback_query is not None:
                self._schedule_answer(update.callback_query)

    def _schedule_answer(self, query: CallbackQuery) -> None:
        """Schedules the answer to a button press, so that no message waits for it."""
        errand = asyncio.create_task(self._answer_callback_query(query), name="telegram answer")
        self._background_tasks.add(errand)
        errand.add_done_callback(self._background_tasks.discard)

    async def _answer_callback_query(self, query: CallbackQuery) -> None:
        with suppress(TelegramError):  # being late is harmless
            await self._bot.answer_callback_query(query.id)

    async def deep_link(self, text: str) -> str | None:
        with self._translated_errors(is_idempotent=True):
            me = self._me or await self._bot.get_me()
        return f"https://t.me/{me.username}?start={text}"

    async def show_commands(self, commands: Sequence[MenuCommand]) -> None:
        """Registers the commands for each kind of chat. Commands that its menu cannot show can still be typed."""
        fitting = [one for one in commands if _COMMAND.fullmatch(one.name)]
        in_groups = [one for one in fitting if not one.is_private]
        with self._translated_errors(is_idempotent=True):
            await self._bot.set_my_commands(_to_bot_commands(fitting), scope=BotCommandScopeAllPrivateChats())
            await self._bot.set_my_commands(_to_bot_commands(in_groups), scope=BotCommandScopeAllGroupChats())

    async def fetch(self, attachment: Attachment, into: Path, *, most_bytes: int) -> None:
        with self._translated_errors(is_idempotent=True):
            file = await self._bot.get_file(attachment.ref)
            if (file.file_size or 0) > most_bytes:
                raise Refused(f"the file has {file.file_size} bytes, {most_bytes} are allowed")
            await self._connections.download(file.file_path or "", into, most_bytes, file.file_size)

    # --- what is said to people ---

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        return await self._send_text(address, message, None)

    async def send_card(self, address: Address, card: OutboundCard, *, idempotency_key: str) -> Receipt:
        return await self._send_text(address, card, _keyboard(card.buttons))

    async def _send_text(
        self, address: Address, message: OutboundText | OutboundCard, keyboard: InlineKeyboardMarkup | None
    ) -> Receipt:
        async def attempt(text: str, parse_mode: str | None) -> Message:
            return await self._bot.send_message(
                address.platform_id,
                text,
                parse_mode=parse_mode,
                message_thread_id=_thread(address),
                reply_parameters=_reply(address, message.reply_to),
                reply_markup=keyboard,
                link_preview_options=_NO_PREVIEW,
            )

        with self._translated_errors(), _translated_thread_errors(address):
            return _receipt(await self._with_plain_fallback(message, attempt))

    async def send_file(self, address: Address, file: OutboundFile, *, idempotency_key: str) -> Receipt:
        """Sends a file. Pictures are sent as photos, or as documents if Telegram rejects the photo."""
        with self._translated_errors(), _translated_thread_errors(address):
            if file.media_type in PHOTO_MEDIA_TYPES and file.size <= PHOTO_BYTES:
                try:
                    return await self._upload(address, file, as_photo=True)
                except BadRequest as error:
                    if _is_thread_error(error):
                        raise
                    _log.info("telegram_photo_rejected", error=self._error_text(error))  # it goes as a file
            return await self._upload(address, file, as_photo=False)

    async def _upload(self, address: Address, file: OutboundFile, *, as_photo: bool) -> Receipt:
        thread, reply = _thread(address), _reply(address, file.reply_to)

        async def attempt(text: str, parse_mode: str | None) -> Message:
            with await asyncio.to_thread(file.content.open, "rb") as content:
                given = InputFile(content, filename=file.name, read_file_handle=False)
                send = self._bot.send_photo if as_photo else self._bot.send_document
                return await send(
                    address.platform_id,
                    given,
                    caption=text or None,
                    parse_mode=parse_mode,
                    message_thread_id=thread,
                    reply_parameters=reply,
                    read_timeout=self._timeouts.answer_timeout_s + upload_answer_s(file.size),
                )

        return _receipt(await self._with_plain_fallback(file, attempt))

    async def edit(self, address: Address, message_id: str, message: OutboundText | OutboundCard) -> None:
        keyboard = _keyboard(message.buttons) if isinstance(message, OutboundCard) else None

        async def attempt(text: str, parse_mode: str | None) -> Message | bool:
            return await self._bot.edit_message_text(
                text,
                chat_id=address.platform_id,
                message_id=_message_number(message_id),
                parse_mode=parse_mode,
                reply_markup=keyboard,
                link_preview_options=_NO_PREVIEW,
            )

        with self._translated_errors(is_idempotent=True):
            try:
                await self._with_plain_fallback(message, attempt)
            except BadRequest as error:
                if "message is not modified" not in str(error).lower():
                    raise

    async def react(self, address: Address, message_id: str, emoji: str) -> None:
        with self._translated_errors(is_idempotent=True):
            await self._bot.set_message_reaction(
                address.platform_id, _message_number(message_id), reaction=ReactionTypeEmoji(nearest_reaction(emoji))
            )

    async def typing(self, address: Address) -> None:
        """Shows typing. This is the only call that needs the number of a forum's General topic."""
        thread = address.thread_id
        with suppress(TelegramError):
            await self._bot.send_chat_action(
                address.platform_id,
                ChatAction.TYPING,
                message_thread_id=int(thread) if thread is not None and _MESSAGE_NUMBER.fullmatch(thread) else None,
            )

    async def open_dm(self, handle: str) -> Address:
        """Returns the chat of a person, which has their id. A typing call shows whether they ever pressed Start."""
        with self._translated_errors(is_idempotent=True):
            await self._bot.send_chat_action(handle, ChatAction.TYPING)
        return Address(platform_id=handle)

    async def check(self) -> str:
        lines = _BotConnections(self._settings, self._timeouts)
        with self._translated_errors(is_idempotent=True):
            async with lines.opened() as bot:
                me, hook = await bot.get_me(), await bot.get_webhook_info()
        if hook.url:
            raise ChannelError(f"@{me.username} has a webhook, so it cannot be asked for updates: call deleteWebhook")
        reads = "every message" if me.can_read_all_group_messages else "only what is addressed to it (privacy mode)"
        return f"Telegram knows the bot as @{me.username} ({me.full_name}); in groups it is told of {reads}."

    # --- errors ---

    async def _with_plain_fallback(
        self,
        message: OutboundText | OutboundCard | OutboundFile,
        attempt: Callable[[str, str | None], Awaitable[_T]],
    ) -> _T:
        """Sends with markup, and once without if Telegram rejects the markup."""
        try:
            return await attempt(_well_formed(message.text), ParseMode.HTML)
        except BadRequest as error:
            if "can't parse entities" not in str(error).lower() or message.plain is None:
                raise
            _log.warning("telegram_markup_rejected", error=self._error_text(error))
        return await attempt(_well_formed(message.plain), None)

    @contextmanager
    def _translated_errors(self, *, is_idempotent: bool = False) -> Iterator[None]:
        """Converts the library's errors to ChannelError. `is_idempotent`: the call may be repeated, so never
        Ambiguous."""
        try:
            yield
        except ChannelError:
            raise
        except Exception as error:
            told = to_channel_error(error, self._error_text(error), self._settings.base_url)
            if is_idempotent and isinstance(told, Ambiguous):
                told = NotSent(str(told), server_error=told.server_error)
            raise told from None  # the chain would contain the address with the token

    def _error_text(self, error: Exception) -> str:
        said = str(error).partition(_LIBRARY_ERROR_PREFIX)[0].rstrip(": ") or type(error).__name__
        return said.replace(self._settings.token.get_secret_value(), "…")[:_MAX_PLACEHOLDER_CHARS]


_BAD_TOKEN = "Telegram does not accept the bot's token: ask @BotFather for it (/token) and set it again"  # noqa: S105
_LIBRARY_ERROR_PREFIX = ". Parsing the server response "
"""The library's text before the page that a proxy sent in place of an answer."""
_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
_NO_THREAD = ("thread not found", "topic_closed", "topic_deleted")
"""Telegram's errors for a topic that accepts no messages: it was deleted, or closed for the bot."""
_CHAT_CLOSED = ("chat not found", "chat_write_forbidden", "not enough rights to send text messages")
"""Telegram's errors, without a 403, for a chat in which the bot may not write."""
_CONNECT_ERRORS = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


def to_channel_error(error: Exception, words: str, url: str) -> ChannelError:
    """Converts an error of the library to a ChannelError. `words`: its text without secrets."""
    match error:
        case RetryAfter():
            return RateLimited(f"Telegram asks to wait: {words}", retry_after_s=_retry_after_s(error))
        case ChatMigrated():
            return ChatMoved("the group became a supergroup", to=str(error.new_chat_id))
        case InvalidToken():
            return AuthFailed(_BAD_TOKEN)
        case BadRequest() | Forbidden():
            is_closed = isinstance(error, Forbidden) or any(one in words.lower() for one in _CHAT_CLOSED)
            return Refused(f"Telegram refused it: {words}", chat_closed=is_closed)
        case NetworkError() if isinstance(error.__cause__, _CONNECT_ERRORS):
            return ChannelDown(f"Telegram cannot be reached{through_proxy(url)}: {words}")
        case NetworkError() if isinstance(error.__cause__, httpx.PoolTimeout):
            return NotSent("too many calls to Telegram are under way")
        case NetworkError() if "entity too large" in words.lower():
            return Refused("Telegram refused it: it is too large")
        case OSError() if not isinstance(error, TelegramError):
            return NotSent(f"the file cannot be read: {error.strerror}")
        case TelegramError() if not isinstance(error.__cause__, httpx.HTTPError):
            return Ambiguous(f"Telegram failed: {words}", server_error=True)
        case _:
            return Ambiguous(f"Telegram's answer was lost: {words}")


def _is_thread_error(error: BadRequest) -> bool:
    return any(words in str(error).lower() for words in _NO_THREAD)


@contextmanager
def _translated_thread_errors(address: Address) -> Iterator[None]:
    """Raises ThreadGone if the topic accepts no messages. Errors outside of topics stay refusals."""
    try:
        yield
    except BadRequest as error:
        if _thread(address) is not None and _is_thread_error(error):
            raise ThreadGone("the topic was deleted or closed") from None
        raise


def _retry_after_s(error: RetryAfter) -> float:
    wait = error.retry_after
    return wait.total_seconds() if isinstance(wait, timedelta) else float(wait)


# --- from Telegram's words to ours --------------------------------------------------------------------------------


def _group_by_chat(updates: Sequence[Update]) -> Iterable[Sequence[Update]]:
    chats: defaultdict[str, list[Update]] = defaultdict(list)
    for update in updates:
        chat = update.effective_chat
        chats[str(chat.id) if chat is not None else ""].append(update)
    return chats.values()


def parse_update(update: Update, me: User) -> InboundEvent | None:
    """Converts an update to an event, and never raises: one invalid update must not block all."""
    for reader in (to_inbound_event, unreadable_event):
        try:
            return reader(update, me)
        except Exception as error:
            _log.warning("telegram_update_unreadable", update=update.update_id, error=type(error).__name__)
    return None


def to_inbound_event(update: Update, me: User) -> InboundEvent | None:
    """Converts an update to an event; returns None if it does not concern the host."""
    if update.callback_query is not None:
        return _click(update.callback_query)
    if update.message_reaction is not None:
        return _reaction(update.message_reaction, update.update_id)
    if (edited := update.edited_message or update.edited_channel_post) is not None:
        return _message(edited, me, edit=update.update_id)
    if (written := update.message or update.channel_post) is not None:
        return _message(written, me)
    if (member := update.my_chat_member) is not None:
        status = member.new_chat_member.status
        _log.info("telegram_membership_changed", chat=member.chat.id, status=status, by=member.from_user.id)
    else:
        kinds = [kind for kind in Update.ALL_TYPES if getattr(update, kind, None) is not None]
        _log.info("telegram_update_ignored", update=update.update_id, kinds=kinds)
    return None


def parse_chat_move(update: Update) -> tuple[str, str] | None:
    """Returns the old and the new id of a group that became a supergroup; both chats report it once."""
    message = update.message
    if message is not None and message.migrate_to_chat_id is not None:
        return str(message.chat.id), str(message.migrate_to_chat_id)
    if message is not None and message.migrate_from_chat_id is not None:
        return str(message.migrate_from_chat_id), str(message.chat.id)
    return None


def unreadable_event(update: Update, me: User) -> InboundEvent | None:
    """Returns an event for a message that cannot be parsed; None if it is no message, or has no sender."""
    message = update.message or update.channel_post
    sender = _sender(message, me) if message is not None else None
    if message is None or sender is None:
        return None
    return _event(message, sender, _MessageContent(parts=(_shared("message", UNREADABLE_TEXT),)))


def _message(message: Message, me: User, *, edit: int | None = None) -> InboundEvent | None:
    """Converts a message. `edit`: the number of the edit's update, which distinguishes two edits within a second."""
    sender, said = _sender(message, me), _read_content(message, me)
    if edit is not None and message.location is not None:
        return None  # updates of a live location, every few seconds
    if sender is None:
        _log.warning("telegram_sender_missing", chat=message.chat.id, message=message.message_id)
        return None
    if not (said.text or said.attachments or said.parts):
        if ticks := tuple(_checklist_changes(message)):
            return replace(_event(message, sender, _MessageContent(parts=ticks)), kind=EventKind.NOTICE)
        kinds = [kind.value for kind in MessageType if getattr(message, kind.value, None)]
        _log.info("telegram_service_message_ignored", chat=message.chat.id, kinds=kinds)
        return None
    return _event(message, sender, said, edit=edit)


def _event(message: Message, sender: Sender, said: _MessageContent, *, edit: int | None = None) -> InboundEvent:
    id = str(message.message_id)
    return InboundEvent(
        platform_id=str(message.chat.id),
        platform_message_id=id if edit is None else f"{id}:{edit}",
        sender=sender,
        text=said.text,
        sent_at=message.date if edit is None else message.edit_date or message.date,
        kind=EventKind.MESSAGE if edit is None else EventKind.EDIT,
        thread_id=_thread_id(message),
        is_group=_is_group(message.chat),
        mentions_bot=said.mentions_bot,
        refers_to=_replied_message_id(message) if edit is None else id,
        chat_name=_full_name(message.chat),
        attachments=said.attachments,
        parts=said.parts,
        album=_well_formed(str(message.media_group_id)) if message.media_group_id and edit is None else None,
    )


def _click(query: CallbackQuery) -> InboundEvent | None:
    message = query.message
    if message is None or query.data is None:
        return None
    seen = message if isinstance(message, Message) else None
    return InboundEvent(
        platform_id=str(message.chat.id),
        platform_message_id=query.id,
        sender=_sender_from_user(query.from_user),
        text=_well_formed(_label(seen, query.data)),
        sent_at=message.date,
        kind=EventKind.CLICK,
        thread_id=_thread_id(seen) if seen is not None else None,
        is_group=_is_group(message.chat),
        mentions_bot=True,
        refers_to=str(message.message_id),
        chat_name=_full_name(message.chat),
        value=query.data,
    )


def _reaction(change: MessageReactionUpdated, number: int) -> InboundEvent | None:
    """Converts an added or else a removed reaction. Telegram does not report the topic."""
    before, after = ([_emoji(one) for one in some] for some in (change.old_reaction, change.new_reaction))
    added = [emoji for emoji in after if emoji not in before]
    removed = [emoji for emoji in before if emoji not in after]
    who = change.user or change.actor_chat
    if not (added or removed) or who is None:
        return None
    return InboundEvent(
        platform_id=str(change.chat.id),
        platform_message_id=f"{change.message_id}:{number}",
        sender=_sender_from_user(who),
        text=" ".join(added or removed),
        parts=(_shared("in the place of", " ".join(removed)),) if added and removed else (),
        sent_at=change.date,
        kind=EventKind.REACTION if added else EventKind.REACTION_REMOVED,
        is_group=_is_group(change.chat),
        refers_to=str(change.message_id),
        chat_name=_full_name(change.chat),
    )


def _strip_bot_name(words: str, entities: Sequence[MessageEntity], me: User) -> tuple[str, bool]:
    """Returns the text without the bot's name at the beginning, and whether it mentions the bot, also in a command."""
    named = [entity for entity in entities if _is_bot_named(entity, words, me)]
    text = _with_markup(words, entities)
    for entity in named:
        first = _utf16_slice(words, entity)
        if entity.offset == 0 and text.startswith(first):
            command = first.partition("@")[0] if entity.type == MessageEntity.BOT_COMMAND else ""
            rest = text[len(first) :]
            text = command + rest if command else rest.lstrip(" ,:\n") or text
            break
    return text, bool(named)


def _is_reply_to_bot(message: Message, me: User) -> bool:
    answered = message.reply_to_message
    replies = answered is not None and answered.from_user is not None and answered.from_user.id == me.id
    return replies and _replied_message_id(message) is not None


def _replied_message_id(message: Message) -> str | None:
    """Returns the id of the replied-to message. In a topic, every message replies to its first one, which is
    ignored."""
    answered = message.reply_to_message
    if answered is None or answered.forum_topic_created is not None or not isinstance(answered.message_id, int):
        return None
    return str(answered.message_id)


def _is_bot_named(entity: MessageEntity, text: str, me: User) -> bool:
    part, name = _utf16_slice(text, entity).lower(), f"@{me.username}".lower()
    match entity.type:
        case MessageEntity.MENTION:
            return part == name
        case MessageEntity.BOT_COMMAND:
            return part.endswith(name)
        case MessageEntity.TEXT_MENTION:
            return entity.user is not None and entity.user.id == me.id
        case _:
            return False


def _utf16_slice(text: str, entity: MessageEntity) -> str:
    """Returns the text of an entity; Telegram counts in UTF-16."""
    units = text.encode("utf-16-le")
    return units[2 * entity.offset : 2 * (entity.offset + entity.length)].decode("utf-16-le", "replace")


def _sender(message: Message, me: User) -> Sender | None:
    """Returns the sender. A message in the name of a chat (a channel, an anonymous admin) is from that chat: Telegram's
    user for it is a placeholder."""
    if message.sender_chat is not None:
        return _sender_from_user(message.sender_chat)
    return _sender_from_user(message.from_user, me) if message.from_user is not None else None


def _sender_from_user(who: User | Chat, me: User | None = None) -> Sender:
    return Sender(
        handle=str(who.id),
        name=_full_name(who) or str(who.id),
        is_bot=isinstance(who, User) and who.is_bot,
        is_self=me is not None and who.id == me.id,
    )


def _full_name(who: User | Chat) -> str:
    """Returns the full name; empty if there is none or it is no string, which the library does not check."""
    name = who.full_name if isinstance(who, User) else who.effective_name
    return _well_formed(name) if isinstance(name, str) else ""


def _chat_name(chat: Chat) -> str:
    return _full_name(chat) or str(chat.id)


def _is_group(chat: Chat) -> bool:
    return chat.type != Chat.PRIVATE


def _thread_id(message: Message) -> str | None:
    """Returns the topic's id. Outside of forums, Telegram's number only groups replies. The General topic has none."""
    number = message.message_thread_id
    return str(number) if message.is_topic_message and isinstance(number, int) else None


def _label(message: Message | None, value: str) -> str:
    rows = message.reply_markup.inline_keyboard if message is not None and message.reply_markup is not None else ()
    return next((button.text for row in rows for button in row if button.callback_data == value), value)


def _emoji(reaction: ReactionType) -> str:
    return reaction.emoji if isinstance(reaction, ReactionTypeEmoji) else "[an emoji of their own]"


# --- what a message holds ----------------------------------------------------------------------------------------


UNREADABLE_TEXT = "[something that was sent on Telegram and cannot be read here]"
_MAX_FOUND_CHARS = 500
"""Characters of the texts that are collected from unknown objects."""
_NAME_FIELDS = (
    "title",
    "name",
    "first_name",
    "last_name",
    "question",
    "text",
    "caption",
    "description",
    "address",
    "url",
)
"""The keys of Telegram's objects that contain text for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _MessageContent:
    """The content of a message. `text`: the sender's own text."""

    text: str = ""
    mentions_bot: bool = False
    parts: tuple[Part, ...] = ()
    attachments: tuple[Attachment, ...] = ()


def _read_content(message: Message, me: User) -> _MessageContent:
    """Separates the sender's own content from forwarded content and content of another bot that they used."""
    answers_bot = _is_reply_to_bot(message, me)
    quoted, files = tuple(_quoted_part(message)), tuple(_attachments(message))
    if (passed_on := _forwarded_part(message)) is not None:
        return _MessageContent(mentions_bot=answers_bot, parts=(*quoted, passed_on), attachments=files)
    words, entities = _text_of(message)
    text, names_bot = _strip_bot_name(words, entities, me)
    rich = _rich_blocks(message)
    if rich:
        text, names_bot = _rich_text(rich, me)
    is_addressed = names_bot or answers_bot
    shared = tuple(_non_text_parts(message))
    is_caption = bool(message.caption) and not (files or shared)  # the caption of an unknown object
    if (text or files or shared) and not is_caption:
        shared += tuple(
            _placeholder(name, value) for name, value in _unread_fields(message).items() if name in _CONTENT
        )
    else:
        shared = tuple(_unknown_parts(message))
    return _MessageContent(
        text=text,
        mentions_bot=is_addressed,
        parts=(*quoted, *_links(words, entities, me), *shared),
        attachments=files + (tuple(_quoted_files(message, me)) if is_addressed and _is_group(message.chat) else ()),
    )


def _text_of(message: Message) -> tuple[str, Sequence[MessageEntity]]:
    return _well_formed(message.text or message.caption or ""), message.entities or message.caption_entities


def _links(text: str, entities: Sequence[MessageEntity], me: User) -> Iterator[Part]:
    for entity in entities:
        if (url := _entity_url(entity)) and not _is_bot_named(entity, text, me):
            yield Part(kind=PartKind.LINK, text=_utf16_slice(text, entity), url=_well_formed(url))


def _entity_url(entity: MessageEntity) -> str:
    """Returns the address behind a text: a page, or a person without a username."""
    if entity.type == MessageEntity.TEXT_MENTION and entity.user is not None:
        return f"tg://user?id={entity.user.id}"
    return entity.url or "" if entity.type == MessageEntity.TEXT_LINK else ""


_QUOTE_ENTITIES = (MessageEntity.BLOCKQUOTE, MessageEntity.EXPANDABLE_BLOCKQUOTE)


def _with_markup(text: str, entities: Sequence[MessageEntity], *, with_addresses: bool = False) -> str:
    """Returns the text with marks that change its meaning: quotes and strikethrough. `with_addresses`: adds the address
    of each link. Works from the end, so that offsets stay valid."""
    units = text.encode("utf-16-le")
    marks = [mark for entity in entities for mark in _entity_marks(entity, units, with_addresses=with_addresses)]
    for at, _, mark in sorted(marks, reverse=True):
        units = units[: 2 * at] + mark.encode("utf-16-le", "replace") + units[2 * at :]
    return units.decode("utf-16-le", "replace")


def _entity_marks(entity: MessageEntity, units: bytes, *, with_addresses: bool) -> Iterator[tuple[int, int, str]]:
    """Yields the position, the order at that position, and the mark: ends before beginnings."""
    begin, end = entity.offset, entity.offset + entity.length
    if entity.type in _QUOTE_ENTITIES:
        inside = units[2 * begin : 2 * end].decode("utf-16-le", "replace")
        lines = [begin] + [begin + _utf16_units(inside[: one.end()]) for one in re.finditer("\n", inside)]
        yield from ((at, 2, "> ") for at in lines if at < end)
    elif entity.type == MessageEntity.STRIKETHROUGH:
        yield from ((begin, 3, "~~"), (end, 1, "~~"))
    elif with_addresses and (url := _entity_url(entity)):
        yield end, 0, f" ({url})"


def _utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _forwarded_part(message: Message) -> Part | None:
    """Returns the whole message as a part if it is forwarded, also if its origin is unknown. A post that Telegram
    itself
    forwards from a channel to its discussion group counts as the channel's own."""
    text, unread, origin = _content_text(message), _unread_fields(message), message.forward_origin
    if "forward_origin" in unread or (origin is not None and not message.is_automatic_forward):
        author, chat = _forward_source(origin)
        sent_at = None if origin is None else origin.date
        return Part(kind=PartKind.FORWARDED, text=text, author=author, chat=chat, sent_at=sent_at)
    buttons = tuple(_buttons(message))
    if "via_bot" in unread or (message.via_bot is not None and (message.text or message.caption or buttons)):
        author = "" if message.via_bot is None else f"@{message.via_bot.username or message.via_bot.id}"
        whole = "\n".join(filter(None, [text, *buttons]))
        return Part(kind=PartKind.SHARED, title="made by another bot", text=whole, author=_well_formed(author))
    return None


def _buttons(message: Message) -> Iterator[str]:
    """Yields the buttons of another bot's message, which only a person can press."""
    rows = message.reply_markup.inline_keyboard if message.reply_markup is not None else ()
    for button in (one for row in rows for one in row):
        yield _well_formed(f"[button: {button.text} {button.url}]" if button.url else f"[button: {button.text}]")


def _forward_source(origin: MessageOrigin | None) -> tuple[str, str]:
    """Returns the original author and chat, as far as Telegram reports them."""
    match origin:
        case MessageOriginUser():
            return _full_name(origin.sender_user), ""
        case MessageOriginHiddenUser():
            return _well_formed(origin.sender_user_name), ""
        case MessageOriginChat():
            return _well_formed(origin.author_signature or ""), _chat_name(origin.sender_chat)
        case MessageOriginChannel():
            return _well_formed(origin.author_signature or ""), _chat_name(origin.chat)
        case _:
            return "", ""


def _quoted_part(message: Message) -> Iterator[Part]:
    """Yields the quoted message. For a message of another chat, Telegram reports only its kind and a passage."""
    passage = _well_formed(message.quote.text) if message.quote is not None else ""
    answered, elsewhere, story = message.reply_to_message, message.external_reply, message.reply_to_story
    if answered is not None and _replied_message_id(message) is not None:
        yield Part(
            kind=PartKind.QUOTED,
            text=_content_text(answered),
            author=_author(answered),
            sent_at=answered.date if answered.date.timestamp() else None,  # zero for a deleted message
            marked=_quoted_item(message) or (passage if message.quote is not None and message.quote.is_manual else ""),
        )
    elif elsewhere is not None:
        author, chat = _forward_source(elsewhere.origin)
        yield Part(
            kind=PartKind.QUOTED,
            text="\n".join(_in_brackets(elsewhere)),
            author=author,
            chat=chat or (_chat_name(elsewhere.chat) if elsewhere.chat is not None else ""),
            sent_at=elsewhere.origin.date,
            marked=passage,
        )
    elif story is not None:
        yield Part(kind=PartKind.QUOTED, text="[a story, which bots are not shown]", author=_chat_name(story.chat))


def _quoted_item(message: Message) -> str:
    """Returns the task of a checklist, or the option of a poll, that a reply refers to."""
    answered = message.reply_to_message
    if answered is not None and answered.checklist is not None and message.reply_to_checklist_task_id is not None:
        tasks = answered.checklist.tasks
        return next((_well_formed(one.text) for one in tasks if one.id == message.reply_to_checklist_task_id), "")
    if answered is not None and answered.poll is not None and message.reply_to_poll_option_id is not None:
        options = answered.poll.options
        return next(
            (_well_formed(one.text) for one in options if one.persistent_id == message.reply_to_poll_option_id), ""
        )
    return ""


def _author(message: Message) -> str:
    who = message.sender_chat or message.from_user
    return "" if who is None else _sender_from_user(who).name


def _quoted_files(message: Message, me: User) -> Iterator[Attachment]:
    """Yields the files of another person's quoted message in a group, which the bot may not have received."""
    answered = message.reply_to_message
    if answered is not None and _replied_message_id(message) is not None and not _is_reply_to_bot(message, me):
        yield from (replace(one, name=f"quoted-{one.name or 'file'}") for one in _attachments(answered))
    if message.external_reply is not None:
        yield from (replace(one, name=f"quoted-{one.name or 'file'}") for one in _attachments(message.external_reply))


def _content_text(message: Message) -> str:
    """Returns the whole content of a quoted or forwarded message as text."""
    words, entities = _text_of(message)
    own = _with_markup(words, entities, with_addresses=True)
    lines = [own, "\n".join(_block_lines(_rich_blocks(message))), *_in_brackets(message)]
    shown = "\n".join(line for line in lines if line) or "\n".join(part.text for part in _unknown_parts(message))
    return shown or "[something that cannot be shown here]"


def _in_brackets(thing: Message | ExternalReplyInfo) -> Iterator[str]:
    for part in _non_text_parts(thing):
        yield f"[{part.title}: {part.text}]" if part.text else f"[{part.title}]"
    for file in _attachments(thing):
        yield f"[file: {file.name or file.media_type or 'without a name'}]"


def _attachments(thing: Message | ExternalReplyInfo) -> Iterator[Attachment]:
    """Yields the files: of a photo the largest size, and an animation as a document."""
    paid = thing.paid_media.paid_media if thing.paid_media is not None else ()
    for sizes in (thing.photo, *(one.photo for one in paid if isinstance(one, PaidMediaPhoto))):
        yield from _file(sizes[-1] if sizes else None, "photo.jpg", "image/jpeg")
    films = [one.video for one in paid if isinstance(one, PaidMediaVideo)]
    for file in (thing.document or thing.animation, thing.audio, thing.video, *films):
        if file is not None:
            yield from _file(file, file.file_name or "", file.mime_type or "")
    if thing.voice is not None:
        yield from _file(thing.voice, "voice.ogg", thing.voice.mime_type or "audio/ogg")
    for short in (
        thing.video_note,
        thing.live_photo,
        *(one.live_photo for one in paid if isinstance(one, PaidMediaLivePhoto)),
    ):
        yield from _file(short, "video.mp4", "video/mp4")


class _Fetchable(Protocol):
    """The common attributes of the library's file types."""

    @property
    def file_id(self) -> str: ...

    @property
    def file_size(self) -> int | None: ...


def _file(file: _Fetchable | None, name: str, media_type: str) -> Iterator[Attachment]:
    """Yields the file as an attachment; nothing if it has no id."""
    if file is not None and isinstance(file.file_id, str):
        size = file.file_size if isinstance(file.file_size, int) else None
        yield Attachment(ref=_well_formed(file.file_id), name=_well_formed(name), media_type=media_type, size=size)


def _shared(title: str, text: str) -> Part:
    return Part(kind=PartKind.SHARED, title=title, text=_well_formed(text).strip())


def _non_text_parts(thing: Message | ExternalReplyInfo) -> Iterator[Part]:
    """Yields content that is neither text nor a file, as text."""
    for kind, in_words in _DESCRIPTIONS.items():
        value = getattr(thing, kind, None)
        if value is not None and not (kind == "location" and thing.venue is not None):
            yield _shared(*in_words(value))


def _poll(poll: Poll) -> tuple[str, str]:
    votes = {one.text: f" ({one.voter_count})" if one.voter_count else "" for one in poll.options}
    options = " / ".join(f"{one.text}{votes[one.text]}" for one in poll.options)
    notes = [poll.description or "", poll.explanation or "", "It is closed." if poll.is_closed else ""]
    return poll.type if poll.type == Poll.QUIZ else "poll", " ".join([poll.question, options, *filter(None, notes)])


def _venue(venue: Venue) -> tuple[str, str]:
    called = ", ".join(filter(None, (venue.title, venue.address)))
    return "venue", f"{called} ({venue.location.latitude}, {venue.location.longitude})"


def _place(place: Location) -> tuple[str, str]:
    where = f"{place.latitude}, {place.longitude}"
    return ("place", where) if place.live_period is None else ("live place", f"{where}; later moves are not shown")


def _contact(contact: Contact) -> tuple[str, str]:
    names = [contact.first_name, contact.last_name or "", contact.phone_number]
    return "contact", " ".join(filter(None, names))


def _checklist(checklist: Checklist) -> tuple[str, str]:
    done = [one.completion_date is not None or one.completed_by_user is not None for one in checklist.tasks]
    tasks = [f"[{'x' if is_done else ' '}] {one.text}" for one, is_done in zip(checklist.tasks, done, strict=True)]
    return "checklist", "\n".join([checklist.title, *tasks])


def _checklist_changes(message: Message) -> Iterator[Part]:
    """Yields changes of a checklist, which Telegram reports like service messages."""
    done, added = message.checklist_tasks_done, message.checklist_tasks_added
    if done is not None:
        of = done.checklist_message.checklist if done.checklist_message is not None else None
        names = {one.id: one.text for one in of.tasks} if of is not None else {}
        for what, ids in (("done", done.marked_as_done_task_ids), ("not done", done.marked_as_not_done_task_ids)):
            if ids:
                words = ", ".join(names.get(id, f"task {id}") for id in ids)
                yield _shared(_named("checklist", of), f"{what}: {words}")
    if added is not None:
        of = added.checklist_message.checklist if added.checklist_message is not None else None
        yield _shared(_named("checklist", of), f"added: {', '.join(one.text for one in added.tasks)}")


def _named(what: str, checklist: Checklist | None) -> str:
    return f"{what} {_well_formed(checklist.title)}" if checklist is not None else what


def _paid_media(paid: PaidMediaInfo) -> tuple[str, str]:
    hidden = sum(isinstance(one, PaidMediaPreview) for one in paid.paid_media)
    unseen = f", {hidden} of them not shown to bots" if hidden else ""
    return "paid media", f"{len(paid.paid_media)} pictures or films for {paid.star_count} stars{unseen}"


def _invoice(invoice: Invoice) -> tuple[str, str]:
    price = f"{invoice.total_amount} {invoice.currency}, in its smallest units"
    return "invoice", f"{invoice.title}: {invoice.description} ({price})"


def _giveaway(giveaway: Giveaway) -> tuple[str, str]:
    chats = ", ".join(map(_chat_name, giveaway.chats))
    prize = giveaway.prize_description or "Telegram's own prizes"
    return "giveaway", f"{prize}, {giveaway.winner_count} winners, {giveaway.winners_selection_date:%Y-%m-%d}, {chats}"


def _giveaway_winners(giveaway: GiveawayWinners) -> tuple[str, str]:
    names = ", ".join(one.full_name for one in giveaway.winners)
    prize = giveaway.prize_description or "Telegram's own prizes"
    return "winners of a giveaway", f"{names} ({giveaway.winner_count} in all): {prize}, {_chat_name(giveaway.chat)}"


def _shared_users(shared: UsersShared) -> tuple[str, str]:
    names = [
        [one.first_name or "", one.last_name or "", f"@{one.username}" if one.username else ""] for one in shared.users
    ]
    return "people", ", ".join(
        f"{' '.join(filter(None, name))} (user {one.user_id})" for name, one in zip(names, shared.users, strict=True)
    )


def _gift(info: GiftInfo) -> tuple[str, str]:
    worth = f"worth {info.gift.star_count} stars"
    return "gift", f"{worth}: {info.text}" if info.text else worth


_DESCRIPTIONS: Mapping[str, Callable[[Any], tuple[str, str]]] = {
    "sticker": lambda sticker: ("sticker", " ".join(filter(None, [sticker.emoji, sticker.set_name]))),
    "venue": _venue,
    "location": _place,
    "contact": _contact,
    "poll": _poll,
    "dice": lambda dice: ("dice", f"{dice.emoji} {dice.value}"),
    "checklist": _checklist,
    "story": lambda story: ("story", f"a story of {_chat_name(story.chat)}, which bots are not shown"),
    "paid_media": _paid_media,
    "game": lambda game: ("game", f"{game.title}: {game.description}"),
    "invoice": _invoice,
    "giveaway": _giveaway,
    "giveaway_winners": _giveaway_winners,
    "gift": _gift,
    "unique_gift": lambda info: ("gift", f"{info.gift.base_name} {info.gift.number}"),
    "users_shared": _shared_users,
    "chat_shared": lambda chat: ("chat", f"{chat.title or 'without a name'} (chat {chat.chat_id})"),
    "web_app_data": lambda sent: ("data of a web app", f"{sent.button_text}: {sent.data}"),
    "successful_payment": lambda paid: ("payment", f"{paid.total_amount} {paid.currency}, in its smallest units"),
    "passport_data": lambda _: ("Telegram Passport", "documents, encrypted for somebody else"),
}
"""By the field of a message: its name, and the function that describes it."""
_CONTENT = frozenset(
    {*_DESCRIPTIONS, "photo", "voice", "audio", "video", "video_note", "animation", "document", "rich_message"}
)
"""The fields that people fill. Fields that Telegram adds itself need not be shown."""


# --- what the library does not know -------------------------------------------------------------------------------


def _unknown_parts(message: Message) -> Iterator[Part]:
    """Yields placeholders for fields that the library does not know or could not parse, with the text in them."""
    aside = {key: value for key, value in message.api_kwargs.items() if key != _UNREAD_KEY}
    for name, value in {**aside, **_unread_fields(message)}.items():
        yield _placeholder(name, value)


def _placeholder(name: str, value: object) -> Part:
    """Returns a part with the field's name and the text in it."""
    found = "; ".join(_collect_text(value))[:_MAX_FOUND_CHARS]
    words = f"something that Telegram calls {name[:100]}, which cannot be shown here"
    return _shared("not known here", f"[{words}{f': {found}' if found else ''}]")


def _unread_fields(message: Message) -> Mapping[str, object]:
    """The fields that the library could not read."""
    unread = message.api_kwargs.get(_UNREAD_KEY)
    return unread if isinstance(unread, dict) else {}


def _collect_text(value: object, depth: int = 5) -> Iterator[str]:
    """Yields the texts for people in an object of Telegram, in order."""
    if depth == 0:
        return
    for one in value if isinstance(value, list) else ():
        yield from _collect_text(one, depth - 1)
    for key, one in value.items() if isinstance(value, dict) else ():
        if key in _NAME_FIELDS and isinstance(one, str):
            yield _well_formed(one)
        else:
            yield from _collect_text(one, depth - 1)


def _rich_blocks(message: Message) -> Sequence[object]:
    """Returns the blocks of the sender's own text with headings, lists and tables."""
    rich = message.api_kwargs.get("rich_message")
    blocks = rich.get("blocks") if isinstance(rich, dict) else None
    return blocks if isinstance(blocks, list) else ()


def _rich_text(blocks: Sequence[object], me: User) -> tuple[str, bool]:
    """Returns the text, one line per block, and whether it mentions the bot."""
    text, name = "\n".join(_block_lines(blocks)), f"@{me.username}"
    named = name.lower() in (one.lower() for one in re.findall(r"@\w+", text))
    rest = text[len(name) :].lstrip(" ,:\n") if named and text.lower().startswith(name.lower()) else text
    return rest or text, named


def _block_lines(blocks: Sequence[object]) -> list[str]:
    return [line for block in blocks if (line := "".join(_inline_text(block)).strip())]


def _inline_text(value: object, depth: int = 12) -> Iterator[str]:
    """Yields texts in reading order; each block or item of a list is on its own line."""
    if isinstance(value, str):
        yield _well_formed(value)
    elif isinstance(value, list) and depth:
        for one in value:
            yield from _inline_text(one, depth - 1)
    elif isinstance(value, dict) and depth:
        for key in ("label", "text", "url", "summary", "caption", "blocks", "items", "cells", "rows"):
            if key in value:
                separate = key in ("blocks", "items", "cells", "rows", "caption")
                yield "\n" if separate else ""
                yield from (f" ({value[key]})",) if key == "url" else _inline_text(value[key], depth - 1)


# --- from our words to Telegram's ---------------------------------------------------------------------------------


_MESSAGE_NUMBER = re.compile(r"[0-9]{1,18}")


def nearest_reaction(emoji: str) -> str:
    """Returns the allowed reaction that is nearest to the emoji."""
    plain = emoji.replace("\ufe0f", "")
    return emoji if emoji in REACTIONS else EMOJI_FALLBACKS.get(plain, plain)


_COMMAND = re.compile(r"[a-z0-9_]{1,32}")


def _to_bot_commands(commands: Sequence[MenuCommand]) -> list[BotCommand]:
    """Returns the commands for Telegram's menu, which has no field for arguments."""
    said = [(one.name, f"{one.help}: /{one.name} {one.arguments}" if one.arguments else one.help) for one in commands]
    return [BotCommand(name, words[: BotCommandLimit.MAX_DESCRIPTION]) for name, words in said]


def _receipt(message: Message) -> Receipt:
    return Receipt(platform_message_ids=(str(message.message_id),))


def _thread(address: Address) -> int | None:
    thread = address.thread_id
    if thread is None or thread == GENERAL_TOPIC or not _MESSAGE_NUMBER.fullmatch(thread):
        return None
    return int(thread)


def _reply(address: Address, reply_to: str | None) -> ReplyParameters | None:
    """Returns the reply parameters, only for groups: in a direct chat a quote in each answer is noise."""
    if (
        reply_to is None
        or not address.platform_id.startswith("-")
        or not _MESSAGE_NUMBER.fullmatch(reply_to.partition(":")[0])
    ):
        return None
    return ReplyParameters(_message_number(reply_to), allow_sending_without_reply=True)


def _message_number(message_id: str) -> int:
    """Returns the message number in an event id; ids of edits and reactions have a second part. Raises Refused."""
    number = message_id.partition(":")[0]
    if not _MESSAGE_NUMBER.fullmatch(number):
        raise RefusedHere(f"Telegram has no message {message_id}")
    return int(number)


def _keyboard(buttons: Sequence[Button]) -> InlineKeyboardMarkup:
    in_a_row = 3 if all(len(button.label) <= SHORT_LABEL_CHARS for button in buttons) else 1
    keys = [InlineKeyboardButton(_well_formed(button.label), callback_data=button.value) for button in buttons]
    return InlineKeyboardMarkup([keys[at : at + in_a_row] for at in range(0, len(keys), in_a_row)])


def _well_formed(text: str) -> str:
    """Replaces unpaired surrogates, which JSON can contain and UTF-8 cannot encode."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

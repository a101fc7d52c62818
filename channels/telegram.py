# /// script
# dependencies = ["httpx>=0.28", "pydantic>=2.14", "python-telegram-bot>=22.8", "structlog>=26.1"]
# [tool.nanohost]
# kind = "channel"
# name = "telegram"
# api = 1
# [[tool.nanohost.settings]]
# name = "token"
# help = "the bot's token, from @BotFather in Telegram (/newbot)"
# secret = true
# ///
"""Telegram as a channel: a bot that asks for its updates by long polling.

An update is confirmed by asking for the one behind it, and that is done only when every update before has been
accepted: what a host that died had not accepted comes again. No offset is kept, here or on disk.

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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, ValidationError
from telegram import (
    Bot,
    CallbackQuery,
    Chat,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputFile,
    LinkPreviewOptions,
    Message,
    MessageEntity,
    MessageReactionUpdated,
    ReactionType,
    ReactionTypeEmoji,
    ReplyParameters,
    Update,
    User,
)
from telegram.constants import ChatAction, MessageLimit, ParseMode, ReactionEmoji
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
    Unit,
    upload_answer_s,
)

FILE_OUT_BYTES = 50 * 1024 * 1024
PHOTO_BYTES = 10 * 1024 * 1024
PICTURES = frozenset({"image/jpeg", "image/png", "image/webp"})
REACTIONS = frozenset(emoji.value for emoji in ReactionEmoji)
NEAREST = {
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
"""What stands for an emoji that bots may not set."""
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
    reactions=REACTIONS | NEAREST.keys(),
)
SHORT_LABEL = 12
"""Buttons whose labels are all this short stand three in a row."""
_CHUNK = 256 * 1024
_WORDS = 300
"""Characters of what Telegram says that are passed on: an answer may be a whole page."""

# The library's own switch: durations are timedeltas, as they will be by default.
os.environ["PTB_TIMEDELTA"] = "true"

# These name the address of each call, and the token is in it.
for _chatty in ("httpx", "httpcore", "telegram"):
    logging.getLogger(_chatty).setLevel(logging.WARNING)

_log = structlog.get_logger()
_T = TypeVar("_T")


def create(context: ChannelContext) -> Channel:
    """Raises ChannelError with a sentence for each setting that is missing or wrong."""
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


_WRITE = {
    "token": 'write token = "env:TELEGRAM_TOKEN", or the token that @BotFather gave you: digits, a colon, letters',
    "base_url": 'write an address such as "https://api.telegram.org", or leave it out',
    "base_file_url": "write the address that files are fetched from, or leave it out",
}


def read_settings(table: Mapping[str, object], *, instance: str = "default") -> TelegramSettings:
    """Raises ChannelError, which never repeats a value."""
    try:
        return TelegramSettings.model_validate(dict(table))
    except ValidationError as error:
        names = dict.fromkeys(str(one["loc"][0]) for one in error.errors(include_url=False, include_input=False))
    unknown = f"there is no such setting; there are {', '.join(_WRITE)}"
    said = "; ".join(f"{name}: {_WRITE.get(name, unknown)}" for name in names)
    key = "channels.telegram" if instance == "default" else f"channels.telegram.{instance}"
    raise ChannelError(f"[{key}] {said}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the channel waits, in seconds: for an answer; for updates, in one poll; and before it polls again after
    a failure, growing from `pause_s` to `most_pause_s`, or `conflict_s` and `auth_s` where time alone heals nothing."""

    answer_s: float = 20.0
    poll_s: int = 20
    poll_grace_s: float = 10.0
    pause_s: float = 0.5
    most_pause_s: float = 15.0
    conflict_s: float = 5.0
    auth_s: float = 30.0


# --- the library, made safe to wait for ---------------------------------------------------------------------------


class _Request(HTTPXRequest):
    """Says nothing of what it could not read: the page of a broken proxy does not belong into a log."""

    @staticmethod
    def parse_json_payload(payload: bytes) -> dict[str, object]:
        try:
            answer = json.loads(payload.decode(errors="replace"))
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict) or ("result" not in answer and answer.get("ok") is not False):
            raise TelegramError("the answer was not Telegram's")
        return answer

    async def pour(self, url: str, into: Path, most_bytes: int, size: int | None) -> None:
        """A file's bytes as they come: all of them at once would be the host's memory. `size`: how many there are, if
        that is known. What comes instead of them, a page of whatever stands in between, is no file of the person's.
        Raises ChannelError."""
        try:
            async with self._client.stream("GET", url) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise NotSent(f"Telegram does not give the file now: it answers {answer.status_code}")
                if _is_page(answer) and not url.lower().endswith(_PAGES):
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


_PAGES = (".html", ".htm", ".xhtml")


def _is_page(answer: httpx.Response) -> bool:
    return str(answer.headers.get("Content-Type", "")).lower().startswith(("text/html", "application/xhtml"))


class _PollRequest(_Request):
    """Among updates, one that the library cannot read would keep back all of them, for ever: it is emptied."""

    @staticmethod
    def parse_json_payload(payload: bytes) -> dict[str, object]:
        answer = _Request.parse_json_payload(payload)
        if "result" in answer:
            answer["result"] = list(_readable(answer["result"]))
        return answer


def _readable(updates: object) -> Iterator[Mapping[str, object]]:
    if not isinstance(updates, list):
        raise TelegramError("the answer was not a list of updates")
    for update in updates:
        if not isinstance(update, dict) or not isinstance(id := update.get("update_id"), int):
            _log.warning("telegram_update_without_number")
            continue
        try:
            Update.de_json(update, None)
            yield update
        except Exception as error:
            _log.warning("telegram_update_unreadable", update=id, error=type(error).__name__)
            yield {"update_id": id}


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


@cache
def _tls(trust_env: bool) -> ssl.SSLContext:
    """Reading all the certificates takes a while: once is enough."""
    return httpx.create_ssl_context(trust_env=trust_env)


class _Lines:
    """The bot, and its connections: one for polls, others for calls. A proxy named by the environment (HTTPS_PROXY) is
    used, except for a server on this machine."""

    def __init__(self, settings: TelegramSettings, patience: Patience) -> None:
        trust_env = not _is_loopback(settings.base_url)
        how = {"trust_env": trust_env, "verify": _tls(trust_env)}
        self._polls = _PollRequest(connection_pool_size=4, pool_timeout=5.0, httpx_kwargs=how)
        self._calls = _Request(
            connection_pool_size=64,
            pool_timeout=5.0,
            read_timeout=patience.answer_s,
            write_timeout=patience.answer_s,
            connect_timeout=min(10.0, patience.answer_s),
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
        await self._calls.pour(f"{base}/{quote(path.removeprefix(f'{base}/'))}", into, most_bytes, size)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Bot]:
        async with AsyncExitStack() as stack:
            for request in (self._polls, self._calls):
                await stack.enter_async_context(request)
            yield self.bot


# --- the channel --------------------------------------------------------------------------------------------------


class TelegramChannel:
    """One bot. What it remembers (who it is, how it stands) lasts as long as the object."""

    def __init__(self, settings: TelegramSettings, *, patience: Patience | None = None) -> None:
        self._settings = settings
        self._patience = patience or Patience()
        self._lines = _Lines(settings, self._patience)
        self._bot = self._lines.bot
        self._me: User | None = None
        self._failures = 0
        self._condition = (Condition.DOWN, "it has not reached Telegram yet")
        self._errands: set[asyncio.Task[None]] = set()

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    def condition(self) -> tuple[Condition, str]:
        return self._condition

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        async with self._lines.opened():
            try:
                yield
            finally:
                for errand in self._errands:
                    errand.cancel()
                await asyncio.gather(*self._errands, return_exceptions=True)

    # --- what people do ---

    async def receive(self, inbox: Inbox) -> None:
        """Goes on through every failure of the network and of Telegram; raises what the inbox raises."""
        offset: int | None = None
        while True:
            try:
                updates = await self._poll(offset)
            except TelegramError as error:
                await self._pause_after(error)
                continue
            self._failures, self._condition = 0, (Condition.UP, "")
            await self._hand_in(updates, inbox)
            if updates:
                offset = max(update.update_id for update in updates) + 1

    async def _poll(self, offset: int | None) -> Sequence[Update]:
        """The first poll after a failure does not wait: its answer tells that the failure is over."""
        if self._me is None:
            self._me = await self._bot.get_me()
        return await self._bot.get_updates(
            offset=offset,
            timeout=self._patience.poll_s if self._condition[0] is Condition.UP else 0,
            read_timeout=self._patience.poll_grace_s,
            allowed_updates=Update.ALL_TYPES,
        )

    async def _pause_after(self, error: TelegramError) -> None:
        self._failures += 1
        condition, words, pause_s = self._judge(error)
        if self._condition != (condition, words):
            _log.warning("telegram_condition", condition=condition.value, detail=words)
        self._condition = (condition, words)
        await asyncio.sleep(pause_s)

    def _judge(self, error: TelegramError) -> tuple[Condition, str, float]:
        patience = self._patience
        pause_s = min(patience.pause_s * 2 ** min(self._failures - 1, 10), patience.most_pause_s)
        said = str(channel_error(error, self._words(error)))
        match error:
            case InvalidToken():
                return Condition.AUTH_FAILED, _BAD_TOKEN, patience.auth_s
            case Conflict() if "webhook" in str(error).lower():
                words = "the bot has a webhook, so it cannot be asked for updates: call deleteWebhook once"
                return Condition.CONFLICT, words, patience.conflict_s
            case Conflict():
                words = "somebody else polls with the same token: stop the other one, or have the token replaced"
                return Condition.CONFLICT, words, patience.conflict_s
            case RetryAfter():
                return Condition.DOWN, said, max(pause_s, min(_retry_after_s(error), 30.0))
            case _:
                return Condition.DOWN, said, pause_s

    async def _hand_in(self, updates: Sequence[Update], inbox: Inbox) -> None:
        """Chat by chat, each in order. One that cannot be committed keeps all of them from being confirmed."""
        chats: defaultdict[object, list[Update]] = defaultdict(list)
        for update in updates:
            chat = update.effective_chat
            chats[chat.id if chat is not None else None].append(update)
        try:
            async with asyncio.TaskGroup() as group:
                for one in chats.values():
                    group.create_task(self._hand_in_chat(one, inbox), name="telegram chat")
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _hand_in_chat(self, updates: Sequence[Update], inbox: Inbox) -> None:
        assert self._me is not None, "nothing is polled before"
        for update in updates:
            try:
                event = event_of(update, self._me)
            except Exception as error:
                _log.warning("telegram_update_unreadable", update=update.update_id, error=type(error).__name__)
                continue
            if event is not None:
                await inbox.accept(event)
            if update.callback_query is not None:
                self._answer_soon(update.callback_query)

    def _answer_soon(self, query: CallbackQuery) -> None:
        """No message waits until the button has stopped to spin."""
        errand = asyncio.create_task(self._answer(query), name="telegram answer")
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)

    async def _answer(self, query: CallbackQuery) -> None:
        with suppress(TelegramError):  # too late is no harm
            await self._bot.answer_callback_query(query.id)

    async def deep_link(self, text: str) -> str | None:
        with self._told(harmless=True):
            me = self._me or await self._bot.get_me()
        return f"https://t.me/{me.username}?start={text}"

    async def fetch(self, attachment: Attachment, into: Path, *, most_bytes: int) -> None:
        with self._told(harmless=True):
            file = await self._bot.get_file(attachment.ref)
            if (file.file_size or 0) > most_bytes:
                raise Refused(f"the file has {file.file_size} bytes, {most_bytes} are allowed")
            await self._lines.download(file.file_path or "", into, most_bytes, file.file_size)

    # --- what is said to people ---

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        return await self._send_words(address, message, None)

    async def send_card(self, address: Address, card: OutboundCard, *, idempotency_key: str) -> Receipt:
        return await self._send_words(address, card, _keyboard(card.buttons))

    async def _send_words(
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

        with self._told():
            return _receipt(await self._marked_up(message, attempt))

    async def send_file(self, address: Address, file: OutboundFile, *, idempotency_key: str) -> Receipt:
        """Pictures are shown; one that Telegram cannot read as a picture goes as any other file."""
        with self._told():
            if file.media_type in PICTURES and file.size <= PHOTO_BYTES:
                try:
                    return await self._upload(address, file, as_photo=True)
                except BadRequest as error:
                    _log.info("telegram_refuses_picture", error=self._words(error))  # it goes as a file
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
                    read_timeout=self._patience.answer_s + upload_answer_s(file.size),
                )

        return _receipt(await self._marked_up(file, attempt))

    async def edit(self, address: Address, message_id: str, message: OutboundText | OutboundCard) -> None:
        keyboard = _keyboard(message.buttons) if isinstance(message, OutboundCard) else None

        async def attempt(text: str, parse_mode: str | None) -> Message | bool:
            return await self._bot.edit_message_text(
                text,
                chat_id=address.platform_id,
                message_id=_number(message_id),
                parse_mode=parse_mode,
                reply_markup=keyboard,
                link_preview_options=_NO_PREVIEW,
            )

        with self._told(harmless=True):
            try:
                await self._marked_up(message, attempt)
            except BadRequest as error:
                if "message is not modified" not in str(error).lower():
                    raise

    async def react(self, address: Address, message_id: str, emoji: str) -> None:
        with self._told(harmless=True):
            await self._bot.set_message_reaction(
                address.platform_id, _number(message_id), reaction=ReactionTypeEmoji(nearest(emoji))
            )

    async def typing(self, address: Address) -> None:
        """The one call that wants the number of a forum's General topic."""
        thread = address.thread_id
        with suppress(TelegramError):
            await self._bot.send_chat_action(
                address.platform_id,
                ChatAction.TYPING,
                message_thread_id=int(thread) if thread is not None and _NUMBER.fullmatch(thread) else None,
            )

    async def open_dm(self, handle: str) -> Address:
        """A person's chat has their own id. Showing them typing tells whether they ever pressed Start."""
        with self._told(harmless=True):
            await self._bot.send_chat_action(handle, ChatAction.TYPING)
        return Address(platform_id=handle)

    async def check(self) -> str:
        lines = _Lines(self._settings, self._patience)
        with self._told(harmless=True):
            async with lines.opened() as bot:
                me, hook = await bot.get_me(), await bot.get_webhook_info()
        if hook.url:
            raise ChannelError(f"@{me.username} has a webhook, so it cannot be asked for updates: call deleteWebhook")
        reads = "every message" if me.can_read_all_group_messages else "only what is addressed to it (privacy mode)"
        return f"Telegram knows the bot as @{me.username} ({me.full_name}); in groups it is told of {reads}."

    # --- errors ---

    async def _marked_up(
        self,
        message: OutboundText | OutboundCard | OutboundFile,
        attempt: Callable[[str, str | None], Awaitable[_T]],
    ) -> _T:
        """With markup, and once without if Telegram refuses the markup: rather plain words than none."""
        try:
            return await attempt(_well_formed(message.text), ParseMode.HTML)
        except BadRequest as error:
            if "can't parse entities" not in str(error).lower() or message.plain is None:
                raise
            _log.warning("telegram_refuses_markup", error=self._words(error))
        return await attempt(_well_formed(message.plain), None)

    @contextmanager
    def _told(self, *, harmless: bool = False) -> Iterator[None]:
        """Whatever the library raises, as a ChannelError. What is `harmless` may be done twice: never Ambiguous."""
        try:
            yield
        except ChannelError:
            raise
        except Exception as error:
            told = channel_error(error, self._words(error))
            if harmless and isinstance(told, Ambiguous):
                told = NotSent(str(told), server_error=told.server_error)
            raise told from None  # the chain would carry the address, and with it the token

    def _words(self, error: Exception) -> str:
        said = str(error) or type(error).__name__
        return said.replace(self._settings.token.get_secret_value(), "…")[:_WORDS]


_BAD_TOKEN = "Telegram does not accept the bot's token: ask @BotFather for it (/token) and set it again"  # noqa: S105
_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
_NOT_REACHED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


def channel_error(error: Exception, words: str) -> ChannelError:
    """What an error of the library says about a send. `words` is its text, fit to be read."""
    match error:
        case RetryAfter():
            return RateLimited(f"Telegram asks to wait: {words}", retry_after_s=_retry_after_s(error))
        case ChatMigrated():
            new = error.new_chat_id
            return Refused(f"the group became a supergroup, and its chat is now {new}: wire {new} instead")
        case InvalidToken():
            return AuthFailed(_BAD_TOKEN)
        case BadRequest() | Forbidden():
            return Refused(f"Telegram refused it: {words}")
        case NetworkError() if isinstance(error.__cause__, _NOT_REACHED):
            return ChannelDown(f"Telegram cannot be reached: {words}")
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


def _retry_after_s(error: RetryAfter) -> float:
    wait = error.retry_after
    return wait.total_seconds() if isinstance(wait, timedelta) else float(wait)


# --- from Telegram's words to ours --------------------------------------------------------------------------------


def event_of(update: Update, me: User) -> InboundEvent | None:
    """What an update means to the host; None when nothing was said or done that concerns it."""
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
        _log.info("telegram_membership", chat=member.chat.id, status=status, by=member.from_user.id)
    return None


def _message(message: Message, me: User, *, edit: int | None = None) -> InboundEvent | None:
    """`edit`: the number of the update that says so; two edits of one second are told apart by it."""
    if message.migrate_to_chat_id is not None:
        _log.warning("telegram_group_moved", chat=message.chat.id, to=message.migrate_to_chat_id)
    text, mentions_bot = _addressed(message, me)
    attachments = tuple(_attachments(message))
    text = text or _in_words(message)
    sender = _sender(message, me)
    if sender is None or not (text or attachments) or (edit is not None and message.location is not None):
        return None  # the last: somebody who walks about, told every few seconds
    id = str(message.message_id)
    return InboundEvent(
        platform_id=str(message.chat.id),
        platform_message_id=id if edit is None else f"{id}:{edit}",
        sender=sender,
        text=text,
        sent_at=message.date if edit is None else message.edit_date or message.date,
        kind=EventKind.MESSAGE if edit is None else EventKind.EDIT,
        thread_id=_topic(message),
        is_group=_is_group(message.chat),
        mentions_bot=mentions_bot,
        refers_to=_answered(message) if edit is None else id,
        chat_name=_well_formed(message.chat.effective_name or ""),
        attachments=attachments,
    )


def _click(query: CallbackQuery) -> InboundEvent | None:
    message = query.message
    if message is None or query.data is None:
        return None
    seen = message if isinstance(message, Message) else None
    return InboundEvent(
        platform_id=str(message.chat.id),
        platform_message_id=query.id,
        sender=_person(query.from_user),
        text=_well_formed(_label(seen, query.data)),
        sent_at=message.date,
        kind=EventKind.CLICK,
        thread_id=_topic(seen) if seen is not None else None,
        is_group=_is_group(message.chat),
        mentions_bot=True,
        refers_to=str(message.message_id),
        chat_name=_well_formed(message.chat.effective_name or ""),
        value=query.data,
    )


def _reaction(change: MessageReactionUpdated, number: int) -> InboundEvent | None:
    """What was added; one that is taken back says nothing. Telegram does not tell the topic."""
    before = {_emoji(one) for one in change.old_reaction}
    added = [emoji for one in change.new_reaction if (emoji := _emoji(one)) not in before]
    who = change.user or change.actor_chat
    if not added or who is None:
        return None
    return InboundEvent(
        platform_id=str(change.chat.id),
        platform_message_id=f"{change.message_id}:{number}",
        sender=_person(who),
        text=" ".join(added),
        sent_at=change.date,
        kind=EventKind.REACTION,
        is_group=_is_group(change.chat),
        refers_to=str(change.message_id),
        chat_name=_well_formed(change.chat.effective_name or ""),
    )


def _addressed(message: Message, me: User) -> tuple[str, bool]:
    """The text without the bot's name in front, and whether the bot is meant: by name, by command, by a reply."""
    text = _well_formed(message.text or message.caption or "")
    named = [entity for entity in message.entities or message.caption_entities if _names(entity, text, me)]
    for entity in named:
        if entity.offset == 0:
            first = _part(text, entity)
            command = first.partition("@")[0] if entity.type == MessageEntity.BOT_COMMAND else ""
            rest = text[len(first) :]
            text = command + rest if command else rest.lstrip(" ,:\n") or text
            break
    answered = message.reply_to_message
    replies = answered is not None and answered.from_user is not None and answered.from_user.id == me.id
    return text, bool(named) or (replies and _answered(message) is not None)


def _answered(message: Message) -> str | None:
    """The message that this one replies to. In a topic every message answers the one that opened it: that is none."""
    answered = message.reply_to_message
    return None if answered is None or answered.forum_topic_created is not None else str(answered.message_id)


def _names(entity: MessageEntity, text: str, me: User) -> bool:
    part, name = _part(text, entity).lower(), f"@{me.username}".lower()
    match entity.type:
        case MessageEntity.MENTION:
            return part == name
        case MessageEntity.BOT_COMMAND:
            return part.endswith(name)
        case MessageEntity.TEXT_MENTION:
            return entity.user is not None and entity.user.id == me.id
        case _:
            return False


def _part(text: str, entity: MessageEntity) -> str:
    """Telegram counts in UTF-16."""
    units = text.encode("utf-16-le")
    return units[2 * entity.offset : 2 * (entity.offset + entity.length)].decode("utf-16-le", "replace")


def _attachments(message: Message) -> Iterator[Attachment]:
    """The largest of a photo's sizes. An animation is a document too, and comes as that."""
    if message.photo:
        photo = message.photo[-1]
        yield Attachment(ref=photo.file_id, name="photo.jpg", media_type="image/jpeg", size=photo.file_size)
    for file in (message.document, message.audio, message.video):
        if file is not None:
            name = _well_formed(file.file_name or "")
            yield Attachment(ref=file.file_id, name=name, media_type=file.mime_type or "", size=file.file_size)
    if (voice := message.voice) is not None:
        media_type = voice.mime_type or "audio/ogg"
        yield Attachment(ref=voice.file_id, name="voice.ogg", media_type=media_type, size=voice.file_size)
    if (note := message.video_note) is not None:
        yield Attachment(ref=note.file_id, name="video.mp4", media_type="video/mp4", size=note.file_size)


def _in_words(message: Message) -> str:
    """What a person sent that is neither text nor a file."""
    if message.sticker is not None:
        return f"[sticker {message.sticker.emoji or ''}]"
    if message.location is not None:
        return f"[location {message.location.latitude}, {message.location.longitude}]"
    if message.contact is not None:
        return _well_formed(f"[contact {message.contact.first_name} {message.contact.phone_number}]")
    if message.poll is not None:
        return _well_formed(f"[poll {message.poll.question}]")
    if message.dice is not None:
        return f"[{message.dice.emoji} {message.dice.value}]"
    return ""


def _sender(message: Message, me: User) -> Sender | None:
    """Who writes in the name of a chat (a channel, an anonymous admin) is that chat: the user beside it is made up."""
    if message.sender_chat is not None:
        return _person(message.sender_chat)
    return _person(message.from_user, me) if message.from_user is not None else None


def _person(who: User | Chat, me: User | None = None) -> Sender:
    name = who.full_name if isinstance(who, User) else who.effective_name
    return Sender(
        handle=str(who.id),
        name=_well_formed(name or str(who.id)),
        is_bot=isinstance(who, User) and who.is_bot,
        is_self=me is not None and who.id == me.id,
    )


def _is_group(chat: Chat) -> bool:
    return chat.type != Chat.PRIVATE


def _topic(message: Message) -> str | None:
    """Outside of forums the number only ties replies together. The General topic has none."""
    number = message.message_thread_id
    return str(number) if message.is_topic_message and number is not None else None


def _label(message: Message | None, value: str) -> str:
    rows = message.reply_markup.inline_keyboard if message is not None and message.reply_markup is not None else ()
    return next((button.text for row in rows for button in row if button.callback_data == value), value)


def _emoji(reaction: ReactionType) -> str:
    return reaction.emoji if isinstance(reaction, ReactionTypeEmoji) else "[an emoji of their own]"


# --- from our words to Telegram's ---------------------------------------------------------------------------------


_NUMBER = re.compile(r"[0-9]{1,18}")


def nearest(emoji: str) -> str:
    """The reaction that a bot may set and that says most nearly the same."""
    plain = emoji.replace("\ufe0f", "")
    return emoji if emoji in REACTIONS else NEAREST.get(plain, plain)


def _receipt(message: Message) -> Receipt:
    return Receipt(platform_message_ids=(str(message.message_id),))


def _thread(address: Address) -> int | None:
    thread = address.thread_id
    if thread is None or thread == GENERAL_TOPIC or not _NUMBER.fullmatch(thread):
        return None
    return int(thread)


def _reply(address: Address, reply_to: str | None) -> ReplyParameters | None:
    """Only where several people talk: between two, a quote in each answer is noise."""
    if reply_to is None or not address.platform_id.startswith("-") or not _NUMBER.fullmatch(reply_to.partition(":")[0]):
        return None
    return ReplyParameters(_number(reply_to), allow_sending_without_reply=True)


def _number(message_id: str) -> int:
    """The message that an id of ours concerns: that of an edit or a reaction has a second part. Raises Refused."""
    number = message_id.partition(":")[0]
    if not _NUMBER.fullmatch(number):
        raise Refused(f"Telegram has no message {message_id}")
    return int(number)


def _keyboard(buttons: Sequence[Button]) -> InlineKeyboardMarkup:
    in_a_row = 3 if all(len(button.label) <= SHORT_LABEL for button in buttons) else 1
    keys = [InlineKeyboardButton(_well_formed(button.label), callback_data=button.value) for button in buttons]
    return InlineKeyboardMarkup([keys[at : at + in_a_row] for at in range(0, len(keys), in_a_row)])


def _well_formed(text: str) -> str:
    """Without lone surrogates, which JSON can carry and UTF-8 cannot."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

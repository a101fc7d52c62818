# /// script
# dependencies = ["aiohttp>=3.14", "httpx>=0.28", "pydantic>=2.14", "socksio>=1.0", "structlog>=26.1"]
# [tool.nanohost]
# kind = "channel"
# name = "whatsapp"
# api = 1
# [[tool.nanohost.settings]]
# name = "backend"
# help = "cloud: Meta's official API, or linked: a device of your own number, which WhatsApp's terms forbid"
# default = "cloud"
# [[tool.nanohost.settings]]
# name = "phone_number_id"
# help = "the Phone number ID of your number (WhatsApp > API Setup of your Meta app); digits, not the number itself"
# only_if = "backend=cloud"
# [[tool.nanohost.settings]]
# name = "access_token"
# help = "a permanent token of a system user with whatsapp_business_messaging and whatsapp_business_management"
# secret = true
# only_if = "backend=cloud"
# [[tool.nanohost.settings]]
# name = "app_secret"
# help = "the App secret of your Meta app (App settings > Basic); webhooks are signed with it"
# secret = true
# only_if = "backend=cloud"
# [[tool.nanohost.settings]]
# name = "verify_token"
# help = "words of your own choice; Meta asks for them when you enter the webhook's address"
# secret = true
# only_if = "backend=cloud"
# [[tool.nanohost.settings]]
# name = "listen"
# help = "host:port where webhooks come in; your tunnel or reverse proxy leads there"
# default = "127.0.0.1:8085"
# only_if = "backend=cloud"
# [[tool.nanohost.settings]]
# name = "path"
# help = "the path of the webhook"
# default = "/whatsapp"
# only_if = "backend=cloud"
# [[tool.nanohost.settings]]
# name = "graph_url"
# help = "where Meta's Graph API is, with its version"
# default = "https://graph.facebook.com/v23.0"
# only_if = "backend=cloud"
# [[tool.nanohost.settings]]
# name = "consent"
# help = "WhatsApp may ban a number that is used so; if you accept that, write: I accept the risk"
# only_if = "backend=linked"
# [[tool.nanohost.settings]]
# name = "phone"
# help = "the number to link, with its country code, to be shown a code to type instead of one to scan"
# default = ""
# only_if = "backend=linked"
# ///
"""Connects WhatsApp by Meta's Cloud API, with httpx and webhooks by aiohttp. `backend = "linked"` is another file.

A webhook is answered with 200 after all its events are committed, never before: Meta sends it again otherwise. One
without the signature of the app's secret is refused unread. Each sent message carries the host's key, which Meta
returns with the message's statuses within seconds. So a lost answer is looked up among the statuses before the send
counts as ambiguous, and without a status within `STATUS_TIMEOUT_S` it counts as not sent. A later failure status is
reported by that key. Data about sends, statuses, chats and messages is kept only in memory, and bounded.

A chat with one person is named by their id: Meta's business-scoped one where it is told, else their number. WhatsApp
takes any marks in a text and never refuses it for them, so nothing is ever sent as `plain`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import importlib.util
import json
import logging
import re
import secrets
import socket
import ssl
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from weakref import WeakValueDictionary

import httpx
import structlog
from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

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
    proxy_for,
    through_proxy,
    upload_answer_s,
)

STATUS_TIMEOUT_S = 10.0
"""Seconds. Meta reports the status of a message within a few seconds."""
ANSWER_TIMEOUT_S = 20.0
MAX_WEBHOOK_BYTES = 4 * 1024 * 1024
"""Meta's own limit for one webhook is 3 MB."""
MAX_READING_BYTES = 32 * 1024 * 1024
"""Bytes of all webhooks that are being read: unverified clients must not fill the memory."""
SMALL_WEBHOOK_BYTES = 64 * 1024
"""Bytes. A webhook of this size is always read, whatever other clients send."""
BAD_SIGNATURE_LOG_INTERVAL_S = 60.0
"""Seconds between log lines about webhooks with a bad signature."""
MAX_BUTTON_BODY_CHARS = 1024
"""Characters of a message with reply buttons; a list takes as many as a text."""
TEXT_LIMIT = 4096
CAPTION_KEY_SUFFIX = ".words"
"""The suffix of the key for the caption of an audio file, which is sent before it as a separate message."""
MAX_QUOTED_CHARS = 4096
"""Characters of a message that are cached, in case somebody replies to it."""
UNKNOWN_QUOTE = "[an earlier message; WhatsApp does not tell its words again]"
"""What a reply is to: Meta tells which message, and we may not have seen it since we started."""
MAX_NAME_CHARS = 100
MAX_ROWS = 50
"""Of a form or an order that are told."""
MAX_CONTACT_CARDS = 30
"""Contacts that are a part each; WhatsApp lets people send 257, and the rest is one part, a line each."""

_MB = 1024 * 1024
_MAX_REMEMBERED = 2_000
_PAIR_RATE_DELAY_S = 6.0
"""Meta allows one message in six seconds to one person in the long run."""
_NUMBER_RATE_DELAY_S = 30.0
_CHUNK_BYTES = 64 * 1024
_ENVELOPE_FIELDS = ("id", "timestamp", "from", "from_user_id", "to", "to_user_id", "group_id", "type")

JsonObject = dict[str, object]
_Model = TypeVar("_Model", bound=BaseModel)
_Value = TypeVar("_Value")

_log = structlog.get_logger()


def create(context: ChannelContext) -> Channel:
    """Creates the backend that the settings choose. Raises ChannelError that says what is missing in them."""
    backend = context.settings.get("backend", "cloud")
    if backend == "linked":
        return _create_linked(context)
    if backend != "cloud":
        raise ChannelError(
            f'[{_settings_table(context.instance)}] backend is "{backend}"; it can be "cloud" or "linked"'
        )
    return WhatsAppChannel(read_settings(context.settings, instance=context.instance))


def _settings_table(instance: str) -> str:
    return "channels.whatsapp" if instance == "default" else f"channels.whatsapp.{instance}"


def _create_linked(context: ChannelContext) -> Channel:
    """The file beside this one: it is not listed as a channel of its own, and is read only where it is wanted."""
    name = "_nanohost_channel__whatsapp_linked"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("_whatsapp_linked.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    channel: Channel = module.create(context)
    return channel


class WhatsAppSettings(BaseModel):
    """[channels.whatsapp] with the Cloud API."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, coerce_numbers_to_str=True)

    backend: Literal["cloud"] = "cloud"
    phone_number_id: Annotated[str, StringConstraints(pattern=r"\A\d+\z")]
    access_token: Annotated[SecretStr, Field(min_length=1)]
    app_secret: Annotated[SecretStr, Field(min_length=1)]
    verify_token: Annotated[SecretStr, Field(min_length=1)]
    graph_url: Annotated[str, StringConstraints(pattern=r"\Ahttps?://\S+\z")] = "https://graph.facebook.com/v23.0"
    listen: Annotated[str, StringConstraints(pattern=r"\A\S+:\d{1,5}\z")] = "127.0.0.1:8085"
    path: Annotated[str, StringConstraints(pattern=r"\A/[A-Za-z0-9/_.-]*\z")] = "/whatsapp"


def read_settings(table: Mapping[str, object], *, instance: str = "default") -> WhatsAppSettings:
    """Reads the settings. Raises ChannelError that names missing or wrong keys, and never contains a value."""
    try:
        return WhatsAppSettings.model_validate(table)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    missing = [str(one["loc"][0]) for one in problems if one["type"] == "missing"]
    if missing:
        raise ChannelError(f"[{_settings_table(instance)}] lacks {', '.join(missing)}; see docs/channels/whatsapp.md")
    wrong = "; ".join(f"{one['loc'][0]}: {one['msg']}" for one in problems)
    raise ChannelError(f"[{_settings_table(instance)}] {wrong}")


# --- what Meta says -----------------------------------------------------------------------------------------------


class _Payload(BaseModel):
    """A part of Meta's JSON; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


class _Text(_Payload):
    body: str


class _Media(_Payload):
    id: str
    mime_type: str = ""
    filename: str = ""
    caption: str = ""


class _Choice(_Payload):
    id: str
    title: str = ""


class _FormAnswer(_Payload):
    response_json: str = ""


class _Interactive(_Payload):
    type: str = ""
    button_reply: _Choice | None = None
    list_reply: _Choice | None = None
    nfm_reply: _FormAnswer | None = None
    call_permission_reply: Mapping[str, object] | None = None


class _TemplateButton(_Payload):
    text: str


class _Reaction(_Payload):
    message_id: str
    emoji: str = ""
    """A reaction; empty when it was removed."""


class _Place(_Payload):
    latitude: float
    longitude: float
    name: str = ""
    address: str = ""
    url: str = ""


class _CardName(_Payload):
    formatted_name: str = ""


class _ContactCard(_Payload):
    """Its lists have objects of words: numbers, addresses, links, with what they are for."""

    name: _CardName = _CardName()
    phones: list[Mapping[str, object]] = []
    emails: list[Mapping[str, object]] = []
    urls: list[Mapping[str, object]] = []
    addresses: list[Mapping[str, object]] = []
    org: Mapping[str, object] = {}
    birthday: str = ""


class _OrderItem(_Payload):
    product_retailer_id: str
    quantity: float = 1
    item_price: float | None = None
    currency: str = ""


class _Order(_Payload):
    text: str = ""
    product_items: list[_OrderItem] = []


class _Referral(_Payload):
    """The advertisement or post that a person came from."""

    source_url: str = ""
    source_type: str = ""
    headline: str = ""
    body: str = ""


class _System(_Payload):
    """The new ids of who changed their number; `new_wa_id` in the place of `wa_id` before 2022."""

    body: str = ""
    type: str = ""
    wa_id: str = ""
    new_wa_id: str = ""
    user_id: str = ""
    previous_user_id: str = ""


class _Unsupported(_Payload):
    type: str = ""


class _Product(_Payload):
    catalog_id: str = ""
    product_retailer_id: str = ""


class _Context(_Payload):
    id: str | None = None
    from_: Annotated[str, Field(alias="from")] = ""
    forwarded: bool = False
    frequently_forwarded: bool = False
    referred_product: _Product | None = None


class _Content(_Payload):
    """The content of a message: `type` names the field that is filled."""

    type: str = "of a new kind"
    text: _Text | None = None
    image: _Media | None = None
    video: _Media | None = None
    audio: _Media | None = None
    document: _Media | None = None
    sticker: _Media | None = None
    interactive: _Interactive | None = None
    button: _TemplateButton | None = None
    reaction: _Reaction | None = None
    location: _Place | None = None
    contacts: list[_ContactCard] | None = None
    order: _Order | None = None
    system: _System | None = None
    unsupported: _Unsupported | None = None
    errors: list[_Problem] = []
    edit: _Edit | None = None
    revoke: _Revoke | None = None


class _Edit(_Payload):
    original_message_id: str
    message: _Content


class _Revoke(_Payload):
    original_message_id: str


class _Message(_Content):
    id: Annotated[str, Field(min_length=1)]
    timestamp: AwareDatetime
    from_: Annotated[str, Field(alias="from")] = ""
    from_user_id: str = ""
    to: str = ""
    to_user_id: str = ""
    group_id: str = ""
    context: _Context = _Context()
    referral: _Referral | None = None


class _Profile(_Payload):
    name: str = ""


class _Contact(_Payload):
    wa_id: str = ""
    user_id: str = ""
    profile: _Profile = _Profile()


class _Problem(_Payload):
    code: int = -1
    title: str = ""
    message: str = ""
    error_data: Mapping[str, object] = {}

    def description(self) -> str:
        """Returns Meta's description of the problem, without repetitions."""
        said = [self.message or self.title, str(self.error_data.get("details") or "")]
        return ": ".join(dict.fromkeys(one for one in said if one)) or "no reason given"


class _Status(_Payload):
    id: str
    status: str
    recipient_id: str = ""
    biz_opaque_callback_data: str = ""
    errors: list[_Problem] = []


class _Metadata(_Payload):
    phone_number_id: str
    display_phone_number: str = ""


class _Change(_Payload):
    """The `value` of one change. Its lists are read one by one: what is wrong with one says nothing of the others."""

    metadata: _Metadata
    contacts: list[object] = []
    messages: list[object] = []
    message_echoes: list[object] = []
    """What our own number sent from a phone, where it is used on one as well."""
    statuses: list[object] = []


def signature(secret: str, raw: bytes) -> str:
    """Returns the value of X-Hub-Signature-256."""
    return "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()


class MessageCache:
    """Caches people's names and texts of messages, which Meta does not send again. Bounded."""

    def __init__(self) -> None:
        self.names: OrderedDict[str, str] = OrderedDict()
        self._messages: OrderedDict[str, tuple[str, str, str]] = OrderedDict()

    def record_names(self, people: Mapping[str, str]) -> None:
        for id, name in people.items():
            if name:
                _remember(self.names, id, name[:MAX_NAME_CHARS])

    def record_message(self, chat: str, id: str, author: str, words: str) -> None:
        _remember(self._messages, id, (chat, author, words[:MAX_QUOTED_CHARS]))

    def find_message(self, chat: str, id: str) -> tuple[str, str] | None:
        """Returns the author and text of a message of this chat."""
        where, author, words = self._messages.get(id, ("", "", ""))
        return (author, words) if where == chat else None


def parse_webhook(
    raw: bytes, phone_number_id: str, cache: MessageCache | None = None
) -> tuple[list[InboundEvent], list[_Status], list[tuple[str, str]]]:
    """Returns the events and statuses of a webhook for this number, in order, and the chats with new ids. Invalid items
    are left out and logged."""
    events: list[InboundEvent] = []
    statuses: list[_Status] = []
    moves: list[tuple[str, str]] = []
    cache = cache or MessageCache()
    for change in _parse_changes(raw):
        if change.metadata.phone_number_id != phone_number_id:
            _log.info("whatsapp_number_unknown", phone_number_id=change.metadata.phone_number_id)
            continue
        cache.record_names(_contact_names(_parse_each(_Contact, change.contacts)))
        number = re.sub(r"\D", "", change.metadata.display_phone_number)
        messages = list(_parse_messages(change.messages))
        events += [_to_inbound_event(message, cache, number) for message in messages]
        moves += [move for message in messages for move in _chat_moves(message)]
        events += [
            _to_inbound_event(message, cache, number, is_echo=True)
            for message in _parse_messages(change.message_echoes)
        ]
        statuses += _parse_each(_Status, change.statuses)
    return events, statuses, moves


def _parse_messages(payloads: Iterable[object]) -> Iterator[_Message]:
    """Yields messages. One with invalid content is yielded without it, with its sender, chat and time."""
    for value in payloads:
        try:
            yield _Message.model_validate(value)
        except ValidationError as error:
            _log.warning("whatsapp_payload_invalid", what="message", place=_place_of(error))
            if isinstance(value, dict):
                kept = {key: value[key] for key in _ENVELOPE_FIELDS if key in value}
                kind = kept.get("type")
                yield from _parse_each(_Message, [{**kept, "type": kind if isinstance(kind, str) else "of a new kind"}])


def _place_of(error: ValidationError) -> str:
    return ".".join(map(str, error.errors(include_input=False)[0]["loc"]))


def _parse_changes(raw: bytes) -> Iterator[_Change]:
    try:
        # Written and read once more, because an escape can hide half a pair.
        said = _without_nulls(json.loads(_replace_surrogates(json.dumps(json.loads(raw), ensure_ascii=False))))
    except (ValueError, RecursionError):
        said = None
    entries = said.get("entry") if isinstance(said, dict) else None
    if not isinstance(entries, list):
        _log.warning("whatsapp_payload_invalid", what="a webhook")
        return
    changes = [one.get("changes") for one in entries if isinstance(one, dict)]
    values = [one.get("value") for some in changes if isinstance(some, list) for one in some if isinstance(one, dict)]
    yield from _parse_each(_Change, values)


def _without_nulls(value: object) -> object:
    """Removes null values. Raises RecursionError."""
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_nulls(one) for one in value if one is not None]
    return value


def _parse_each(model: type[_Model], values: Iterable[object]) -> Iterator[_Model]:
    for value in values:
        try:
            yield model.model_validate(value)
        except ValidationError as error:
            _log.warning("whatsapp_payload_invalid", what=model.__name__.lstrip("_").lower(), place=_place_of(error))


def _replace_surrogates(text: str) -> str:
    """Replaces unpaired surrogates, which JSON can contain and UTF-8 cannot encode."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _contact_names(contacts: Iterable[_Contact]) -> dict[str, str]:
    return {id: contact.profile.name for contact in contacts for id in (contact.wa_id, contact.user_id) if id}


_NUMBER_CHANGE_TYPES = frozenset({"user_changed_number", "customer_changed_number", "user_changed_user_id"})


def _chat_moves(message: _Message) -> Iterator[tuple[str, str]]:
    """The chats of whoever changed their number, or were given another id, and what they are called now: a chat is
    known by the id where WhatsApp tells it, else by the number. Nothing of groups, whose ids are their own."""
    system = message.system
    if message.type != "system" or system is None or system.type not in _NUMBER_CHANGE_TYPES or message.group_id:
        return
    new = system.user_id or system.wa_id or system.new_wa_id
    for old in dict.fromkeys((system.previous_user_id, message.from_user_id, message.from_)):
        if old and new and old != new:
            yield old, new


def _to_inbound_event(message: _Message, cache: MessageCache, number: str, *, is_echo: bool = False) -> InboundEvent:
    meaning = _parse_content(message)
    sender = message.from_user_id or message.from_ or (message.system.previous_user_id if message.system else "")
    name = cache.names.get(message.from_user_id) or cache.names.get(message.from_) or sender
    partner = (message.to_user_id or message.to) if is_echo else sender
    is_ours = is_echo or _is_own_message(message.from_, number)
    # Names are put into a group's texts only: in a chat of two nobody else is mentioned.
    text = _replace_mentions(meaning.text, cache, number) if message.group_id else meaning.text
    chat = message.group_id or partner
    meaning = replace(meaning, text=text)
    if meaning.kind in (EventKind.MESSAGE, EventKind.EDIT):
        cache.record_message(chat, meaning.refers_to or message.id, "you" if is_ours else name, _to_text(meaning))
    is_forwarded = message.context.forwarded or message.context.frequently_forwarded
    own = "" if is_forwarded and meaning.kind is EventKind.MESSAGE else text
    return InboundEvent(
        platform_id=chat,
        platform_message_id=message.id,
        sender=Sender(handle=sender, name=name, is_self=is_ours),
        text=_strip_leading_mention(own, number) if message.group_id else own,
        sent_at=message.timestamp,
        kind=meaning.kind,
        is_group=bool(message.group_id),
        mentions_bot=_is_own_message(message.context.from_, number) or _is_mentioned(number, own),
        refers_to=meaning.refers_to or message.context.id,
        value=meaning.value,
        attachments=meaning.attachments,
        parts=tuple(_content_parts(message, meaning, chat, cache, number)),
    )


def _is_mentioned(number: str, text: str) -> bool:
    """Returns whether the text mentions the number; another number may begin with it."""
    return bool(number) and re.search(rf"@{number}(?!\d)", text) is not None


def _content_parts(
    message: _Message, meaning: _ParsedContent, chat: str, cache: MessageCache, number: str
) -> Iterator[Part]:
    """Yields the parts before and after the sender's own text."""
    context = message.context
    if meaning.kind is not EventKind.MESSAGE:
        yield from meaning.parts
        return
    if context.id:
        named = (
            "you"
            if _is_own_message(context.from_, number)
            else cache.names.get(context.from_) or _to_phone_number(context.from_)
        )
        author, words = cache.find_message(chat, context.id) or (named, UNKNOWN_QUOTE)
        yield Part(kind=PartKind.QUOTED, text=words, author=author)
    if context.forwarded or context.frequently_forwarded:
        author = "somebody, passed on many times" if context.frequently_forwarded else ""
        yield Part(kind=PartKind.FORWARDED, text=_to_text(meaning), author=author)
    else:
        yield from meaning.parts
    if (product := context.referred_product) is not None:
        yield _shared("product that is asked about", product.product_retailer_id)
    if (ad := message.referral) is not None:
        yield _shared("what they came from", _lines(ad.source_type, ad.headline, ad.body), url=ad.source_url)


def _to_phone_number(id: str) -> str:
    return f"+{id}" if id.isdecimal() else id


def _to_text(meaning: _ParsedContent) -> str:
    """Returns a message as text, for quotes."""
    files = [
        f"[{_MEDIA_DESCRIPTIONS.get(one.media_type.partition('/')[0], 'a document')}]" for one in meaning.attachments
    ]
    beside = [": ".join(filter(None, (part.title, part.text))) for part in meaning.parts]
    return _lines(*files, meaning.text, *(f"[{words}]" for words in beside))


def _replace_mentions(text: str, cache: MessageCache, number: str) -> str:
    """Replaces mentions such as `@4917…` by known names; keeps mentions of the bot."""

    def called(found: re.Match[str]) -> str:
        name = "" if found[1] == number else " ".join(cache.names.get(found[1], "").split())
        return f"@{name[:MAX_NAME_CHARS] or found[1]}"

    return re.sub(r"@(\d+)", called, text)


def _strip_leading_mention(text: str, number: str) -> str:
    """Removes a mention of the bot at the beginning, as a command may follow; keeps a mention alone."""
    first, *rest = text.split(maxsplit=1) or [""]
    return rest[0] if number and rest and first.rstrip(",:") == f"@{number}" else text


def _is_own_message(writer: str, number: str) -> bool:
    return bool(number) and writer == number


@dataclass(frozen=True, slots=True, kw_only=True)
class _ParsedContent:
    text: str = ""
    kind: EventKind = EventKind.MESSAGE
    refers_to: str | None = None
    value: str | None = None
    attachments: tuple[Attachment, ...] = ()
    parts: tuple[Part, ...] = ()


def _parse_content(said: _Content) -> _ParsedContent:
    """Parses the content. Unknown, incomplete or empty content becomes a sentence."""
    reader = _READERS.get(said.type)
    try:
        meaning = reader(said) if reader else _unknown_content(said.type)
    except ValueError:
        return _unknown_content(said.type)
    is_message = meaning.kind is EventKind.MESSAGE and said.type != "text"
    is_empty = not (meaning.text.strip() or meaning.attachments or meaning.parts)
    return _unknown_content(said.type) if is_message and is_empty else meaning


def _unknown_content(kind: str) -> _ParsedContent:
    return _captioned_part("", f"a message that cannot be shown here: {kind[:MAX_NAME_CHARS]}")


def _captioned_part(title: str, *words: str, url: str = "", text: str = "") -> _ParsedContent:
    """Returns a part with its caption."""
    return _ParsedContent(text=text, parts=(_shared(title, _lines(*words), url=url),))


def _shared(title: str, text: str, *, url: str = "") -> Part:
    return Part(kind=PartKind.SHARED, title=title, text=text, url=url)


def _lines(*words: str) -> str:
    return "\n".join(one for one in words if one)


def _non_empty(value: _Value | None) -> _Value:
    if value is None:
        raise ValueError
    return value


def _read_media(said: _Content) -> _ParsedContent:
    media = _non_empty(said.image or said.video or said.audio or said.document or said.sticker)
    file = Attachment(ref=media.id, name=media.filename, media_type=media.mime_type.partition(";")[0])
    return _ParsedContent(text=media.caption, attachments=(file,))


def _read_choice(said: _Content) -> _ParsedContent:
    answer = _non_empty(said.interactive)
    if chosen := answer.button_reply or answer.list_reply:
        return _ParsedContent(text=chosen.title, kind=EventKind.CLICK, value=chosen.id)
    if answer.nfm_reply is not None:
        return _captioned_part("answer to a form", _form_text(answer.nfm_reply.response_json))
    if answer.call_permission_reply is not None:
        return _captioned_part("answer about calls", _fields(answer.call_permission_reply))
    return _unknown_content(f"{said.type} {answer.type}".strip())


def _form_text(document: str) -> str:
    """The fields of a form, a line each, without what is the program's own."""
    try:
        form = json.loads(document)
    except (ValueError, RecursionError):
        form = None
    if not isinstance(form, dict):
        return "[it cannot be read]"
    return _fields({key: value for key, value in form.items() if key != "flow_token"})


def _fields(form: Mapping[str, object]) -> str:
    rows = [
        f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in form.items()
    ]
    return "\n".join(_limited_rows(rows))


def _limited_rows(rows: Sequence[str]) -> list[str]:
    """The first rows, and how many more there are."""
    more = len(rows) - MAX_ROWS
    return [*rows[:MAX_ROWS], *([f"[cut: {more} more]"] if more > 0 else [])]


def _read_reaction(said: _Content) -> _ParsedContent:
    reaction = _non_empty(said.reaction)
    kind = EventKind.REACTION if reaction.emoji else EventKind.REACTION_REMOVED
    return _ParsedContent(text=reaction.emoji, kind=kind, refers_to=reaction.message_id)


def _read_edit(said: _Content) -> _ParsedContent:
    edit = _non_empty(said.edit)
    now = (
        _parse_content(edit.message)
        if edit.message.type not in ("edit", "revoke")
        else _unknown_content(edit.message.type)
    )
    return _ParsedContent(text=now.text, parts=now.parts, kind=EventKind.EDIT, refers_to=edit.original_message_id)


def _read_revoke(said: _Content) -> _ParsedContent:
    return _ParsedContent(kind=EventKind.DELETION, refers_to=_non_empty(said.revoke).original_message_id)


def _read_place(said: _Content) -> _ParsedContent:
    place = _non_empty(said.location)
    where = ", ".join(f"{one:.6f}".rstrip("0").rstrip(".") for one in (place.latitude, place.longitude))
    return _captioned_part("place", ", ".join(filter(None, (place.name, place.address, where))), url=place.url)


def _read_cards(said: _Content) -> _ParsedContent:
    cards = [_contact_text(card) for card in _non_empty(said.contacts)]
    alone, together = cards[:MAX_CONTACT_CARDS], cards[MAX_CONTACT_CARDS:]
    some = [_shared("contact", card) for card in alone]
    return _ParsedContent(parts=(*some, *([_shared("contacts", "\n".join(together))] if together else [])))


def _contact_text(card: _ContactCard) -> str:
    """Of each number, address or link the words; not what it is for, nor WhatsApp's own ids."""
    some = [*card.phones, *card.emails, *card.urls, *card.addresses, card.org]
    told = [str(one[key]) for one in some[:MAX_ROWS] for key in _CONTACT_FIELDS if one.get(key)]
    words = [card.name.formatted_name, *told, f"born {card.birthday}" if card.birthday else ""]
    return ", ".join(dict.fromkeys(filter(None, words))) or "without a name"


def _read_order(said: _Content) -> _ParsedContent:
    order = _non_empty(said.order)
    return _captioned_part(
        "order", *_limited_rows([_order_item_text(one) for one in order.product_items]), text=order.text
    )


def _order_item_text(item: _OrderItem) -> str:
    words = f"{item.quantity:g} x {item.product_retailer_id}"
    return words if item.item_price is None else f"{words} ({f'{item.item_price:.2f} {item.currency}'.strip()})"


def _read_unsupported(said: _Content) -> _ParsedContent:
    kind = said.unsupported.type if said.unsupported else ""
    why = str(said.errors[0].error_data.get("details") or said.errors[0].title) if said.errors else ""
    return _captioned_part(
        "", f"a message that WhatsApp does not pass on: {', '.join(filter(None, (kind, why))) or 'no reason'}"
    )


def _read_system(said: _Content) -> _ParsedContent:
    system = _non_empty(said.system)
    return _notice("WhatsApp says", system.body or system.type)


def _notice(title: str, words: str) -> _ParsedContent:
    """Returns a notice of WhatsApp, which no person wrote."""
    return _ParsedContent(kind=EventKind.NOTICE, parts=(_shared(title, words),))


_CONTACT_FIELDS = (
    "phone",
    "email",
    "url",
    "company",
    "department",
    "title",
    "street",
    "city",
    "state",
    "zip",
    "country",
)
_MEDIA_DESCRIPTIONS = {"image": "a picture", "video": "a video", "audio": "a voice message or sound"}


_READERS: Mapping[str, Callable[[_Content], _ParsedContent]] = {
    "text": lambda said: _ParsedContent(text=_non_empty(said.text).body),
    **dict.fromkeys(("image", "video", "audio", "document", "sticker"), _read_media),
    "interactive": _read_choice,
    "button": lambda said: _ParsedContent(text=_non_empty(said.button).text),
    "reaction": _read_reaction,
    "edit": _read_edit,
    "revoke": _read_revoke,
    "location": _read_place,
    "contacts": _read_cards,
    "order": _read_order,
    "unsupported": _read_unsupported,
    "system": _read_system,
    "request_welcome": lambda _: _notice("", "they opened this chat for the first time, and wrote nothing yet"),
}


# --- what is said to Meta -----------------------------------------------------------------------------------------


class ResponseLost(Exception):
    """The answer to a request was lost or is empty: the request may have taken effect. `server_error`: as in
    ChannelError."""

    def __init__(self, text: str, *, server_error: bool = False) -> None:
        super().__init__(text)
        self.server_error = server_error


_TEMPORARY_CODES = frozenset({2, 131016, 131057})
_ACCOUNT_CODES = frozenset({0, 10, 190, 368, 131005, 131031, 131042, 131045, 133010})
_PAIR_LIMIT_CODE = 131056
_NUMBER_LIMIT_CODES = frozenset({4, 80007, 130429, 131048, 131064})
_HINTS = {  # all of them about the person, and nothing about the message
    131026: "they may not have WhatsApp, or not have agreed to its terms",
    131030: "add the number to the list of recipients of your test number, or use a number of your own",
    131047: "more than 24 hours have passed since they last wrote; they have to write first",
}


def to_channel_error(status: int, answer: object, retry_after: str = "") -> Exception:
    """Converts an error answer by Meta's own code, or by the HTTP status without one."""
    said = answer.get("error") if isinstance(answer, dict) else None
    try:
        problem = _Problem.model_validate(said)
    except ValidationError:
        return _error_from_status(status, retry_after)
    code = problem.code
    words = f"WhatsApp says: {problem.description()} (code {code})"
    if code == _PAIR_LIMIT_CODE:
        return RateLimited(words, retry_after_s=_parse_retry_after(retry_after, _PAIR_RATE_DELAY_S))
    if code in _NUMBER_LIMIT_CODES or status == 429:
        return RateLimited(
            words, retry_after_s=_parse_retry_after(retry_after, _NUMBER_RATE_DELAY_S), whole_channel=True
        )
    if code in _ACCOUNT_CODES or 200 <= code < 300 or status == 401:
        return AuthFailed(f"{words}; look at the access token, its permissions and the number's state")
    if code in _TEMPORARY_CODES:
        return NotSent(words, server_error=True)
    if status >= 500:
        return ResponseLost(words, server_error=True)
    return Refused(f"{words}; {_HINTS[code]}", chat_closed=True) if code in _HINTS else Refused(words)


def failure_reason(status: _Status) -> str:
    """Returns why an accepted message failed; empty if the status reports no failure."""
    if status.status != "failed":
        return ""
    said = status.errors[0] if status.errors else _Problem()
    hint = f"; {_HINTS[said.code]}" if said.code in _HINTS else ""
    return f"WhatsApp took the message and could not deliver it: {said.description()} (code {said.code}){hint}"


def _error_from_status(status: int, retry_after: str) -> Exception:
    words = f"WhatsApp's server answered {status} and nothing that can be read"
    if status == 429:
        return RateLimited(
            words, retry_after_s=_parse_retry_after(retry_after, _NUMBER_RATE_DELAY_S), whole_channel=True
        )
    if status == 401:
        return AuthFailed(words)
    if 300 <= status < 500:
        return NotSent(f"{words}; is graph_url right?")
    return ResponseLost(words, server_error=True)


def _parse_retry_after(header: str, otherwise: float) -> float:
    return float(header) if header.isdecimal() else otherwise


_PAGE_MEDIA_TYPE = "text/html"


class _GraphClient:
    """Calls Meta's Graph API with the token. Raises ChannelError or ResponseLost; never retries."""

    def __init__(self, client: httpx.AsyncClient, settings: WhatsAppSettings) -> None:
        self._client = client
        self._url = settings.graph_url.rstrip("/")
        self._token = settings.access_token.get_secret_value()
        self.condition = (Condition.UP, "")

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> JsonObject:
        return await self._request("GET", path, params=dict(params or {}))

    async def post(self, path: str, body: JsonObject) -> JsonObject:
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        return await self._request("POST", path, content=content, headers={"Content-Type": "application/json"})

    async def upload(self, path: str, file: OutboundFile, media_type: str) -> str:
        """Uploads a file and returns its id."""
        boundary = secrets.token_hex(16)
        head, tail = _multipart_boundaries(file.name, media_type, boundary)
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + file.size + len(tail)),
        }
        answer_s = upload_answer_s(file.size)
        answer = await self._request(
            "POST", path, content=_multipart_body(head, file.content, tail), headers=headers, extra_s=answer_s
        )
        id = answer.get("id")
        if not isinstance(id, str):
            raise ResponseLost("WhatsApp took the file and gave it no id")
        return id

    async def download(self, url: str, into: Path, *, most_bytes: int, is_page: bool) -> None:
        """`is_page`: what is fetched is a page of HTML itself; another one is whatever stands before Meta."""
        try:
            async with self._client.stream("GET", url, headers=self._authorization()) as response:
                if not response.is_success:
                    raise _download_error(response.status_code)
                if response.headers.get("Content-Type", "").startswith(_PAGE_MEDIA_TYPE) and not is_page:
                    raise NotSent("WhatsApp does not give the file now: a page came in its place")
                file = await asyncio.to_thread(into.open, "wb")
                try:
                    await _stream_to(response, file.write, most_bytes)
                finally:
                    await asyncio.to_thread(file.close)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise NotSent(f"the file could not be fetched: {type(error).__name__}") from None

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        extra_s: float = 0.0,
    ) -> JsonObject:
        """Sends a request. `extra_s`: additional seconds to wait for the answer."""
        try:
            told = {**self._authorization(), **(headers or {})}
            answer = await self._request_once(method, path, params, content, told, extra_s)
        except (ChannelDown, ResponseLost) as error:
            self.condition = (Condition.DOWN, str(error))
            raise
        except AuthFailed as error:
            self.condition = (Condition.AUTH_FAILED, str(error))
            raise
        except ChannelError:
            self.condition = (Condition.UP, "")
            raise
        self.condition = (Condition.UP, "")
        return answer

    async def _request_once(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None,
        content: bytes | AsyncIterator[bytes] | None,
        headers: Mapping[str, str],
        extra_s: float,
    ) -> JsonObject:
        usual = self._client.timeout
        read_s = None if usual.read is None else usual.read + extra_s
        timeout = httpx.Timeout(connect=usual.connect, read=read_s, write=usual.write, pool=usual.pool)
        try:
            response = await self._client.request(
                method, f"{self._url}/{path}", params=params, content=content, headers=headers, timeout=timeout
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            raise ChannelDown(f"WhatsApp cannot be reached{through_proxy(self._url)}: {type(error).__name__}") from None
        except httpx.HTTPError as error:
            raise ResponseLost(f"WhatsApp's answer was lost: {type(error).__name__}") from None
        answer = _json_of(response)
        if not response.is_success:
            problem = to_channel_error(response.status_code, answer, response.headers.get("Retry-After", ""))
            problem.args = tuple(str(arg).replace(self._token, "…") for arg in problem.args)
            raise problem
        if not isinstance(answer, dict):
            raise ResponseLost("WhatsApp's server answered something that is not JSON", server_error=True)
        return answer

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}


def _json_of(response: httpx.Response) -> object:
    try:
        answer: object = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return answer


def _multipart_boundaries(name: str, media_type: str, boundary: str) -> tuple[bytes, bytes]:
    """Returns the bytes before and after a file in the multipart body."""
    quoted = name.translate({ord('"'): "%22", ord("\r"): "%0D", ord("\n"): "%0A"})
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in (("messaging_product", "whatsapp"), ("type", media_type))
    )
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
    head += f"Content-Type: {media_type}\r\n\r\n"
    return head.encode("utf-8", "replace"), f"\r\n--{boundary}--\r\n".encode()


async def _multipart_body(head: bytes, content: Path, tail: bytes) -> AsyncIterator[bytes]:
    yield head
    file = await asyncio.to_thread(content.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk
    finally:
        await asyncio.to_thread(file.close)
    yield tail


async def _stream_to(response: httpx.Response, write: Callable[[bytes], int], max_bytes: int) -> None:
    size = 0
    async for chunk in response.aiter_bytes(_CHUNK_BYTES):
        size += len(chunk)
        if size > max_bytes:
            raise Refused(f"the file is larger than {max_bytes} bytes")
        await asyncio.to_thread(write, chunk)


def _download_error(status: int) -> ChannelError:
    if status in (404, 410):
        return Refused("WhatsApp does not have the file any more")
    if status == 401:
        return AuthFailed("WhatsApp does not let our access token fetch the file")
    return NotSent(f"WhatsApp answered {status} when it was asked for the file")


class _MediaInfo(_Payload):
    """Meta's data about a received file."""

    url: str
    file_size: int | None = None
    mime_type: str | None = None


class _SentMessage(_Payload):
    id: Annotated[str, Field(min_length=1)]


class _SendResponse(_Payload):
    messages: Annotated[list[_SentMessage], Field(min_length=1)]


@cache
def _ssl_context() -> ssl.SSLContext:
    """Returns the TLS context; cached, because reading the certificates is slow."""
    return httpx.create_ssl_context()


def _recipient(chat: str) -> JsonObject:
    """Numbers and business-scoped ids (US.13491…) are people, anything else is a group."""
    if re.fullmatch(r"[A-Z]{2}\.\S+", chat):
        return {"recipient_type": "individual", "recipient": chat}
    is_number = re.fullmatch(r"\+?\d+", chat) is not None
    return {"recipient_type": "individual" if is_number else "group", "to": chat}


def _interactive_payload(text: str, card: OutboundCard) -> JsonObject:
    """Returns reply buttons, or a list if the text is too long for them."""
    choices = [{"id": button.value, "title": button.label} for button in card.buttons]
    if len(text) <= MAX_BUTTON_BODY_CHARS:
        action: JsonObject = {"buttons": [{"type": "reply", "reply": choice} for choice in choices]}
    else:
        action = {"button": "Choose", "sections": [{"rows": choices}]}
    kind = "button" if len(text) <= MAX_BUTTON_BODY_CHARS else "list"
    return {"type": "interactive", "interactive": {"type": kind, "body": {"text": text}, "action": action}}


def _sent_text(content: JsonObject) -> str:
    """Returns the text of a sent message, for replies to it."""
    said = content.get(str(content["type"]))
    inner = said.get("body", said.get("caption", "")) if isinstance(said, dict) else ""
    words = str(inner.get("text", "") if isinstance(inner, dict) else inner)
    return words or f"[{_SENT_DESCRIPTIONS.get(str(content['type']), 'a message')}]"


_SENT_DESCRIPTIONS = {"image": "a picture", "video": "a video", "audio": "a sound", "document": "a document"}
_OFFICE_PREFIX = "application/vnd.openxmlformats-officedocument."
_DOCUMENTS = frozenset(
    {
        "application/pdf",
        "application/msword",
        "application/vnd.ms-excel",
        "application/vnd.ms-powerpoint",
        f"{_OFFICE_PREFIX}wordprocessingml.document",
        f"{_OFFICE_PREFIX}spreadsheetml.sheet",
        f"{_OFFICE_PREFIX}presentationml.presentation",
    }
)
_MEDIA: Mapping[str, tuple[frozenset[str], int]] = {
    "image": (frozenset({"image/jpeg", "image/png"}), 5 * _MB),
    "video": (frozenset({"video/mp4", "video/3gpp"}), 16 * _MB),
    "audio": (frozenset({"audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg", "audio/opus"}), 16 * _MB),
    "document": (_DOCUMENTS, 100 * _MB),
}
_TEXT_MEDIA_TYPES = re.compile(r"text/.*|application/(.*[+-])?(json|xml|yaml|toml|javascript|sql)")


def media_of(file: OutboundFile) -> tuple[str, str]:
    """Returns the kind and media type for sending a file. Raises Refused if WhatsApp accepts it in no form."""
    media_type = file.media_type.partition(";")[0].strip().lower()
    if _TEXT_MEDIA_TYPES.fullmatch(media_type):
        return "document", "text/plain"
    for kind, (types, most_bytes) in _MEDIA.items():
        if media_type in types:
            if file.size > most_bytes:
                raise RefusedHere(f"{file.name} is too large: WhatsApp takes {most_bytes // _MB} MB of {kind}")
            return kind, media_type
    raise RefusedHere(f"{file.name}: WhatsApp takes no files of type {media_type or 'unknown'}")


# --- the channel --------------------------------------------------------------------------------------------------


class _SendTracker:
    """Tracks sent messages by the host's key, from answers and statuses, whichever arrives first."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, str] = OrderedDict()
        self._failures: OrderedDict[str, str] = OrderedDict()
        self._lost_at: OrderedDict[str, float] = OrderedDict()
        self._waiting: dict[str, asyncio.Event] = {}

    def message_id(self, key: str) -> str | None:
        """Returns the id of a message that WhatsApp accepted and that has not failed."""
        return None if key in self._failures else self._ids.get(key)

    def failure(self, key: str) -> str | None:
        return self._failures.get(key)

    def forget(self, key: str) -> None:
        """Forgets a key, because its message is sent again."""
        for table in (self._ids, self._failures, self._lost_at):
            table.pop(key, None)

    def record_lost(self, key: str) -> None:
        _remember(self._lost_at, key, time.monotonic())

    def record_status(self, key: str, id: str, *, failure: str = "") -> None:
        _remember(self._ids, key, id)
        if failure:
            _remember(self._failures, key, failure)
        if key in self._waiting:
            self._waiting[key].set()

    async def wait_for_id(self, key: str, wait_s: float) -> str | None:
        """Waits for the id, until `wait_s` after the answer was lost."""
        left_s = self._lost_at.get(key, time.monotonic()) + wait_s - time.monotonic()
        if key not in self._ids and left_s > 0:
            try:
                async with asyncio.timeout(left_s):
                    await self._waiting.setdefault(key, asyncio.Event()).wait()
            except TimeoutError:
                pass
            finally:
                self._waiting.pop(key, None)
        return self._ids.get(key)


def _listen(where: str) -> socket.socket:
    host, _, port = where.rpartition(":")
    host = host.strip("[]")
    try:
        return socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        words = getattr(error, "strerror", None) or error
        raise ChannelError(f"whatsapp: webhooks cannot be taken on {where}: {words}") from error


def _remember(table: OrderedDict[str, _Value], key: str, value: _Value) -> None:
    table[key] = value
    table.move_to_end(key)
    while len(table) > _MAX_REMEMBERED:
        table.popitem(last=False)


class WhatsAppChannel:
    """One business number. Webhooks are answered while it is connected, with 503 while nobody receives."""

    def __init__(
        self,
        settings: WhatsAppSettings,
        *,
        status_wait_s: float = STATUS_TIMEOUT_S,
        answer_limit_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        for chatty in ("httpx", "httpcore"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._settings = settings
        self._status_timeout_s = status_wait_s
        self._answer_timeout_s = answer_limit_s
        self._proxy = proxy_for(settings.graph_url)
        self._connection: _GraphClient | None = None
        self._receiving: tuple[Inbox, asyncio.TaskGroup] | None = None
        self._chat_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._latest: OrderedDict[str, str] = OrderedDict()
        self._send_tracker = _SendTracker()
        self._cache = MessageCache()
        self._undelivered = ""
        self._reading = 0
        self._bad_signature_muted_until = 0.0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            form=Form.WHATSAPP,
            text_limit=TEXT_LIMIT,
            pace=Pace(between_s=1.0, a_second=80),
            typing_every_s=20.0,
            buttons=3,
            button_label=20,
            file_bytes=100 * _MB,
            caption_limit=1024,
            reactions=None,
            fails_later=True,
        )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Listen for webhooks while entered. Raises ChannelError when the port cannot be had."""
        async with await self._client() as client:
            self._connection = _GraphClient(client, self._settings)
            try:
                async with self._listening():
                    yield
            finally:
                self._connection = None

    async def receive(self, inbox: Inbox) -> None:
        """Passes webhooks to the inbox until cancelled."""
        for chat, id in (await inbox.latest()).items():
            _remember(self._latest, chat, id)
        async with asyncio.TaskGroup() as tasks:
            self._receiving = (inbox, tasks)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._receiving = None

    def condition(self) -> tuple[Condition, str]:
        if self._connection is None:
            return Condition.DOWN, "it is not connected"
        condition, words = self._connection.condition
        return condition, words or self._undelivered

    async def check(self) -> str:
        """Checks the settings, also the app's secret, which Meta compares with the token."""
        secret, token = (one.get_secret_value() for one in (self._settings.app_secret, self._settings.access_token))
        proof = hmac.new(secret.encode(), token.encode(), hashlib.sha256).hexdigest()
        fields = "display_phone_number,verified_name,quality_rating"
        async with await self._client() as client:
            graph = _GraphClient(client, self._settings)
            try:
                said = await graph.get(self._settings.phone_number_id, {"fields": fields, "appsecret_proof": proof})
            except ResponseLost as lost:
                raise NotSent(str(lost)) from None
            except Refused as error:
                raise AuthFailed(f"{error}; look at phone_number_id and app_secret") from None
        number, name, quality = (said.get(key, "unknown") for key in fields.split(","))
        return (
            f"This is {number} ({name}), quality {quality}. Webhooks come to {self._settings.path} on "
            f"{self._settings.listen}: your public https address has to lead there."
        )

    # What is sent

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        content: JsonObject = {"type": "text", "text": {"body": message.text, "preview_url": False}}
        return await self._post(address, content, message.reply_to, idempotency_key)

    async def send_card(self, address: Address, card: OutboundCard, *, idempotency_key: str) -> Receipt:
        return await self._post(address, _interactive_payload(card.text, card), card.reply_to, idempotency_key)

    async def send_file(self, address: Address, file: OutboundFile, *, idempotency_key: str) -> Receipt:
        """Sends a file. Audio has no caption: the text is sent before it, with its own key."""
        kind, media_type = media_of(file)
        ids: tuple[str, ...] = ()
        if kind == "audio" and file.text:
            words = OutboundText(text=file.text, reply_to=file.reply_to)
            ids = (
                await self.send(address, words, idempotency_key=idempotency_key + CAPTION_KEY_SUFFIX)
            ).platform_message_ids
        try:
            id = await self._graph.upload(f"{self._settings.phone_number_id}/media", file, media_type)
        except ResponseLost as lost:
            raise NotSent(f"the file was not uploaded: {lost}", server_error=lost.server_error) from None
        media: JsonObject = {"id": id}
        if kind != "audio" and file.text:
            media["caption"] = file.text
        if kind == "document":
            media["filename"] = file.name
        content: JsonObject = {"type": kind, kind: media}
        receipt = await self._post(address, content, None if ids else file.reply_to, idempotency_key)
        return Receipt(platform_message_ids=(*ids, *receipt.platform_message_ids))

    async def find_sent(self, address: Address, *, idempotency_key: str) -> Receipt | None:
        """Finds a sent message by its statuses. One that failed after it was accepted counts as sent: its failure is
        recorded."""
        id = await self._send_tracker.wait_for_id(idempotency_key, self._status_timeout_s)
        return None if id is None else Receipt(platform_message_ids=(id,))

    async def react(self, address: Address, message_id: str, emoji: str) -> None:
        body = {**_recipient(address.platform_id), "type": "reaction"}
        await self._post_idempotent({**body, "reaction": {"message_id": message_id, "emoji": emoji}})

    async def typing(self, address: Address) -> None:
        """Shows typing under the newest message of the chat, which this also marks as read."""
        if id := self._latest.get(address.platform_id):
            await self._post_idempotent({"status": "read", "message_id": id, "typing_indicator": {"type": "text"}})

    async def open_dm(self, handle: str) -> Address:
        """Returns the chat of a person, which has their id; only `send` shows whether WhatsApp permits writing
        there."""
        return Address(platform_id=handle)

    async def deep_link(self, text: str) -> str | None:
        try:
            said = await self._graph.get(self._settings.phone_number_id, {"fields": "display_phone_number"})
        except ResponseLost as lost:
            raise NotSent(str(lost)) from None
        number = re.sub(r"\D", "", str(said.get("display_phone_number", "")))
        return f"https://wa.me/{number}?text={text}" if number else None

    async def fetch(self, attachment: Attachment, into: Path, *, most_bytes: int) -> None:
        try:
            file = _MediaInfo.model_validate(await self._graph.get(attachment.ref))
        except ResponseLost as lost:
            raise NotSent(str(lost)) from None
        except ValidationError:
            raise NotSent("WhatsApp does not say where the file is") from None
        if file.file_size is not None and file.file_size > most_bytes:
            raise Refused(f"the file has {file.file_size} bytes; at most {most_bytes} are taken")
        is_page = (file.mime_type or "").startswith(_PAGE_MEDIA_TYPE)
        await self._graph.download(file.url, into, most_bytes=most_bytes, is_page=is_page)

    async def _post(self, address: Address, content: JsonObject, reply_to: str | None, key: str) -> Receipt:
        if (known := self._send_tracker.message_id(key)) is not None:
            return Receipt(platform_message_ids=(known,))
        self._send_tracker.forget(key)
        body = {"messaging_product": "whatsapp", **_recipient(address.platform_id), **content}
        if reply_to:
            body["context"] = {"message_id": reply_to}
        try:
            said = await self._graph.post(self._messages, {**body, "biz_opaque_callback_data": key})
            id = _SendResponse.model_validate(said).messages[0].id
        except ResponseLost as lost:
            id = await self._find_lost_send(key, str(lost), server_error=lost.server_error)
        except ValidationError:
            id = await self._find_lost_send(key, "WhatsApp's answer names no message")
        self._send_tracker.record_status(key, id)
        self._cache.record_message(address.platform_id, id, "you", _sent_text(content))
        return Receipt(platform_message_ids=(id,))

    async def _find_lost_send(self, key: str, why: str, *, server_error: bool = False) -> str:
        """Returns the id of a message whose answer was lost, if a status reports it in time."""
        self._send_tracker.record_lost(key)
        id = await self._send_tracker.wait_for_id(key, self._status_timeout_s)
        if id is None:
            why = f"{why}; no status of the message came within {self._status_timeout_s:g} s"
            raise Ambiguous(why, server_error=server_error)
        self._graph.condition = (Condition.UP, "")
        if (failure := self._send_tracker.failure(key)) is not None:
            raise Refused(failure)
        return id

    async def _post_idempotent(self, body: JsonObject) -> None:
        """Sends a request that is harmless to repeat."""
        try:
            await self._graph.post(self._messages, {"messaging_product": "whatsapp", **body})
        except ResponseLost as lost:
            raise NotSent(str(lost), server_error=lost.server_error) from None

    @property
    def _messages(self) -> str:
        return f"{self._settings.phone_number_id}/messages"

    @property
    def _graph(self) -> _GraphClient:
        if self._connection is None:
            raise ChannelDown("WhatsApp is not connected")
        return self._connection

    async def _client(self) -> httpx.AsyncClient:
        verify = await asyncio.to_thread(_ssl_context)
        return httpx.AsyncClient(timeout=self._answer_timeout_s, verify=verify, proxy=self._proxy, trust_env=False)

    # What comes in

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        listener = _listen(self._settings.listen)
        app = web.Application(client_max_size=MAX_WEBHOOK_BYTES)
        app.router.add_get(self._settings.path, self._verify_webhook)
        app.router.add_post(self._settings.path, self._handle_webhook)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            yield
            # Until Python 3.12 a connection is left open that is being accepted when its server closes.
            asyncio.get_running_loop().remove_reader(listener)
            await asyncio.sleep(0.01)
        finally:
            await runner.cleanup()
            listener.close()

    async def _verify_webhook(self, request: web.Request) -> web.Response:
        """Answers Meta's check, which is sent once when the webhook's address is entered."""
        ours = self._settings.verify_token.get_secret_value()
        is_ours = hmac.compare_digest(request.query.get("hub.verify_token", "").encode(), ours.encode())
        if request.query.get("hub.mode") != "subscribe" or not is_ours:
            return web.Response(status=403)
        return web.Response(text=request.query.get("hub.challenge", ""))

    async def _handle_webhook(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                raw = await self._read_body(request)
        except (TimeoutError, OSError, web.RequestPayloadError):
            return web.Response(status=408)
        if raw is None:
            return web.Response(status=503)
        given = request.headers.get("X-Hub-Signature-256", "")
        expected = signature(self._settings.app_secret.get_secret_value(), raw)
        if not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
            if time.monotonic() >= self._bad_signature_muted_until:
                self._bad_signature_muted_until = time.monotonic() + BAD_SIGNATURE_LOG_INTERVAL_S
                _log.warning("whatsapp_signature_invalid", remote=request.remote or "")
            return web.Response(status=403)
        events, statuses, moves = parse_webhook(raw, self._settings.phone_number_id, self._cache)
        failed = [status for status in statuses if self._handle_status(status) and status.biz_opaque_callback_data]
        is_kept = (not events and not failed) or await self._hand_in(events, failed, moves)
        return web.Response(status=200 if is_kept else 503)

    async def _read_body(self, request: web.Request) -> bytes | None:
        """Reads the body; returns None for a large one if too much is being read already. Raises HTTPException for one
        above the limit."""
        body = bytearray()
        try:
            async for chunk in request.content.iter_any():
                body += chunk
                self._reading += len(chunk)
                if len(body) > MAX_WEBHOOK_BYTES:
                    raise web.HTTPRequestEntityTooLarge(max_size=MAX_WEBHOOK_BYTES, actual_size=len(body))
                if len(body) > SMALL_WEBHOOK_BYTES and self._reading > MAX_READING_BYTES:
                    return None
            return bytes(body)
        finally:
            self._reading -= len(body)

    def _handle_status(self, status: _Status) -> bool:
        """Returns whether the status reports a failure. One without the host's key only changes the condition, and is
        logged."""
        failure = failure_reason(status)
        if status.biz_opaque_callback_data:
            self._send_tracker.record_status(status.biz_opaque_callback_data, status.id, failure=failure)
        elif failure:
            self._undelivered = failure
        if failure:
            _log.warning("whatsapp_delivery_failed", to=status.recipient_id, message=status.id, error=failure)
        elif status.status in ("delivered", "read"):
            self._undelivered = ""
        return bool(failure)

    async def _hand_in(self, events: list[InboundEvent], failed: list[_Status], moves: list[tuple[str, str]]) -> bool:
        """Passes events, failures and moves to the inbox; returns whether all were committed. Tasks of `receive` do it,
        so that it ends with them."""
        if self._receiving is None:
            return False
        inbox, tasks = self._receiving
        chats: dict[str, list[InboundEvent]] = {}
        for event in events:
            chats.setdefault(event.platform_id, []).append(event)
        moving = tasks.create_task(self._move_chats(inbox, moves))
        handed = [tasks.create_task(self._accept_events(inbox, chat, some, moving)) for chat, some in chats.items()]
        handed.append(moving)
        handed += [tasks.create_task(self._report_failure(inbox, status)) for status in failed]
        await asyncio.wait(handed)
        return all(not task.cancelled() and task.result() for task in handed)

    async def _move_chats(self, inbox: Inbox, moves: list[tuple[str, str]]) -> bool:
        try:
            for old, new in moves:
                await inbox.moved(old, new)
        except Exception as error:
            _log.warning("whatsapp_commit_failed", what="a changed number", error=str(error))
            return False
        return True

    async def _report_failure(self, inbox: Inbox, status: _Status) -> bool:
        """Reports an accepted message that failed. The text before an audio file has its own key."""
        key = status.biz_opaque_callback_data.removesuffix(CAPTION_KEY_SUFFIX)
        try:
            await inbox.failed_later(key, status.id, failure_reason(status))
        except Exception as error:
            _log.warning("whatsapp_commit_failed", message=status.id, error=str(error))
            return False
        return True

    async def _accept_events(
        self, inbox: Inbox, chat: str, events: list[InboundEvent], moving: asyncio.Task[bool]
    ) -> bool:
        """Passes one chat's events in order, independently of other chats, after chat moves are recorded."""
        if not await moving:
            return False
        turn = self._chat_locks.setdefault(chat, asyncio.Lock())
        async with turn:
            for event in events:
                try:
                    await inbox.accept(event)
                except Exception as error:
                    _log.warning("whatsapp_commit_failed", message=event.platform_message_id, error=str(error))
                    return False
                if event.kind is EventKind.MESSAGE and not event.sender.is_self:
                    _remember(self._latest, chat, event.platform_message_id)
        return True

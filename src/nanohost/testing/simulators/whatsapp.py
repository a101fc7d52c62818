"""WhatsApp's Cloud API on loopback: the Graph API for one business number, and its webhooks, with Meta's rules.

A webhook that is not answered 200 comes again, sooner than Meta would; those of one chat keep their order, and statuses
do not wait for messages. A person is known by their number, or by their business-scoped id alone (`hides_numbers`).
Another business cannot write to one: what a bot writes stays on its own screen.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
from aiohttp import web

from nanohost.testing.content import ContentKind
from nanohost.testing.reserved_port import ReservedPort
from nanohost.testing.simulator import (
    ADA,
    BOT,
    Fault,
    Person,
    ScreenMessage,
    Simulator,
    make_edit,
    make_reaction,
    make_reaction_removal,
)
from nanohost.testing.simulators._unavailable import unavailable
from nanohost.testing.simulators._whatsapp_kinds import CLOUD, CLOUD_CONTENTS

ACCESS_TOKEN = "EAAsimulated4242"  # noqa: S105 - of a platform that is none
APP_SECRET = "simulated-app-secret-4242"  # noqa: S105
VERIFY_TOKEN = "simulated-verify-4242"  # noqa: S105
NUMBER_ID, NUMBER = "555000111", "15550001111"
VERSION = "v23.0"
PATH = "/whatsapp"

TEXT_LIMIT, BUTTON_BODY, LIST_BODY, CAPTION_LIMIT, CALLBACK_LIMIT = 4096, 1024, 4096, 1024, 512
MOST_BUTTONS, BUTTON_TITLE, BUTTON_ID, MOST_ROWS, ROW_TITLE, ROW_ID = 3, 20, 256, 10, 24, 200
_OFFICE = "application/vnd.openxmlformats-officedocument."
MEDIA_TYPES = frozenset(
    [
        *("audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg", "audio/opus"),
        *("image/jpeg", "image/png", "image/webp", "video/mp4", "video/3gpp", "text/plain", "application/pdf"),
        *("application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"),
        *(f"{_OFFICE}{one}" for one in ("wordprocessingml.document", "spreadsheetml.sheet")),
        f"{_OFFICE}presentationml.presentation",
    ]
)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.3
_LOGIN_PAGE = "<!DOCTYPE html><html><title>Error</title><p>Sorry, something went wrong.</p></html>"

Json = dict[str, object]


class GraphError(Exception):
    """Meta says no."""

    def __init__(self, code: int, message: str, *, details: str = "", status: int = 400, retry_after: str = "") -> None:
        super().__init__(message)
        self.code, self.details, self.status, self.retry_after = code, details, status, retry_after

    def response(self) -> web.Response:
        error: Json = {"message": f"(#{self.code}) {self}", "type": "OAuthException", "code": self.code}
        if self.details:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.details}
        error["fbtrace_id"] = "Asimulated"
        headers = {"Retry-After": self.retry_after} if self.retry_after else {}
        return web.json_response({"error": error}, status=self.status, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMedia:
    id: str
    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Something that Meta has to tell. `about`: the person's message it tells of."""

    body: bytes
    about: str | None = None


class WhatsAppSimulator(Simulator):
    """One business number and the people who write to it."""

    name = "whatsapp"

    def __init__(self) -> None:
        super().__init__()
        self.tells_ids = False
        """People's business-scoped ids are told beside their numbers."""
        self.hides_numbers = False
        """People have usernames: their business-scoped ids are told, and no numbers."""
        self.closed_windows: set[str] = set()
        """Chats in which more than 24 hours have passed since the person wrote."""
        self.keeps_windows_closed = False
        """A window is closed again before anything is answered: the answer took a day."""
        self.fails_later: set[str] = set()
        """Chats whose messages are taken, and then a status says that they failed."""
        self.keeps_statuses = True
        """Off: nobody is told what happens to a message."""
        self.refused_webhooks: list[int] = []
        """How the host answered what it did not take."""
        self.reads: list[str] = []
        """The ids of the messages that were marked as read."""
        self._ids = itertools.count(1)
        self._media: dict[str, StoredMedia] = {}
        self._choices: dict[str, dict[str, str]] = {}
        self._kinds: dict[str, str] = {}
        self._callbacks: dict[str, object] = {}
        """What each message of ours carried, to be told with its statuses."""
        self._webhooks: dict[str, Webhook] = {}
        self._acknowledged: list[str] = []
        self._groups: set[str] = set()
        self._queues: dict[str, asyncio.Queue[Webhook]] = {}
        self._couriers: list[asyncio.Task[None]] = []
        self._up = asyncio.Event()
        self._port = ReservedPort()
        self._webhook_port = ReservedPort()
        """Where the host listens, of which Meta is told beforehand."""
        self._runner: web.AppRunner | None = None

    # --- life ---

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.end_outage()
        try:
            yield
        finally:
            await self.start_outage()
            for courier in self._couriers:
                courier.cancel()
            await asyncio.gather(*self._couriers, return_exceptions=True)
            self._couriers.clear()
            self._queues.clear()
            await asyncio.sleep(0.01)  # for the host's end of what was cut to be closed

    def settings(self) -> Mapping[str, str]:
        return {
            "phone_number_id": NUMBER_ID,
            "access_token": ACCESS_TOKEN,
            "app_secret": APP_SECRET,
            "verify_token": VERIFY_TOKEN,
            "graph_url": f"http://127.0.0.1:{self._port.number}/{VERSION}",
            "listen": f"127.0.0.1:{self._webhook_port.number}",
            "path": PATH,
        }

    async def start_outage(self) -> None:
        self._up.clear()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            for connection in list(runner.server.connections if runner.server else ()):
                if connection.transport is not None:
                    connection.transport.abort()
            await runner.cleanup()

    async def end_outage(self) -> None:
        if self._runner is not None:
            return
        app = web.Application(client_max_size=128 * 1024 * 1024)
        app.router.add_post(f"/{VERSION}/{NUMBER_ID}/messages", self._post_message)
        app.router.add_post(f"/{VERSION}/{NUMBER_ID}/media", self._post_media)
        app.router.add_get(f"/{VERSION}/{NUMBER_ID}", self._get_number)
        app.router.add_get(f"/{VERSION}/{{media}}", self._get_media)
        app.router.add_get("/download/{media}", self._download)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port.number).start()
        self._up.set()

    @property
    def webhook_url(self) -> str:
        return f"http://127.0.0.1:{self._webhook_port.number}{PATH}"

    # --- people ---

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
        if message_id is not None and message_id in self._webhooks:
            self._tell(chat, self._webhooks[message_id])
            return message_id
        id = message_id or self.next_id()
        wire = f"@{NUMBER} {text}" if mention else text
        shown = ScreenMessage(id=id, chat=chat, text=text, raw=wire, sender=person.id)
        content: Json = {"type": "text", "text": {"body": wire}}
        if file is not None:
            stored = self.store_media(file[0], "application/octet-stream", file[1])
            shown = replace(shown, file_name=stored.name, file_bytes=stored.content)
            content = {
                "type": "document",
                "document": {
                    "id": stored.id,
                    "filename": stored.name,
                    "mime_type": stored.media_type,
                    "sha256": hashlib.sha256(stored.content).hexdigest(),
                    "caption": wire,
                },
            }
        await self.add_message(shown)
        if not person.is_bot:
            self.closed_windows.discard(chat)
            if self.keeps_windows_closed:
                self.closed_windows.add(chat)
            await self.say(chat, content, person=person, group=group, message_id=id)
        return id

    async def say(
        self,
        chat: str,
        content: Json,
        *,
        person: Person = ADA,
        group: bool = False,
        message_id: str | None = None,
        refers_to: str | None = None,
    ) -> str:
        """A message of a person with this content goes out as a webhook."""
        id = message_id or self.next_id()
        message: Json = {"id": id, "timestamp": str(int(time.time())), **self._author(person), **content}
        if group:
            self._groups.add(chat)
        if chat in self._groups:
            message["group_id"] = chat
        if refers_to is not None:
            message["context"] = {"from": NUMBER, "id": refers_to}
        webhook = Webhook(body=self.payload(messages=[message], contacts=[self._contact(person)]), about=id)
        self._webhooks[id] = webhook
        self._tell(chat, webhook)
        return id

    def examples(self) -> Mapping[ContentKind, Sequence[str]]:
        return CLOUD_CONTENTS

    async def send_example(self, name: str, chat: str, *, person: Person, group: bool) -> Sequence[str]:
        ids = [await self.say(chat, self._stored_in(one), person=person, group=group) for one in CLOUD[name]]
        await self.add_message(ScreenMessage(id=ids[0], chat=chat, text=f"[{name}]", raw="", sender=person.id))
        return ids

    async def delete(self, message_id: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody deletes a message of theirs."""
        self._screen_messages = [one for one in self._screen_messages if (one.id, one.chat) != (message_id, chat)]
        await self.notify_changed()
        await self.say(chat, {"type": "revoke", "revoke": {"original_message_id": message_id}}, person=person)

    def _stored_in(self, content: Json) -> Json:
        """The example, with a file that is there."""
        media = content.get(str(content["type"]))
        if not isinstance(media, dict) or "mime_type" not in media:
            return content
        stored = self.store_media("example", str(media["mime_type"]), b"example")
        return {**content, str(content["type"]): {**media, "id": stored.id}}

    async def press(self, message: ScreenMessage, label: str, *, person: Person = ADA) -> None:
        kind = self._kinds[message.id]
        reply = {"id": self._choices[message.id][label], "title": label}
        await self.say(
            message.chat,
            {"type": "interactive", "interactive": {"type": kind, kind: reply}},
            person=person,
            refers_to=message.id,
        )

    async def remove_reaction(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody takes back their reaction: WhatsApp tells of one without an emoji."""
        await self.update_message(message_id, make_reaction_removal(emoji), chat=chat)
        await self.say(chat, {"type": "reaction", "reaction": {"message_id": message_id}}, person=person)

    async def react(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        await self.update_message(message_id, make_reaction(emoji), chat=chat)
        reaction: Json = {"message_id": message_id, "emoji": emoji}
        await self.say(chat, {"type": "reaction", "reaction": reaction}, person=person)

    async def edit(self, message_id: str, text: str, *, chat: str, person: Person = ADA, mention: bool = False) -> None:
        text = f"@{NUMBER} {text}" if mention else text
        await self.update_message(message_id, make_edit(text, text), chat=chat)
        change: Json = {"original_message_id": message_id, "message": {"type": "text", "text": {"body": text}}}
        await self.say(chat, {"type": "edit", "edit": change}, person=person)

    async def send_garbage(self) -> None:
        unsigned = self.payload(messages=[self._text_message("forged")])
        for body in (b"", b"hello", unsigned):
            await self.post(body, headers={})
            await self.post(body, headers={"X-Hub-Signature-256": "sha256=00"})
        bad_parts: list[object] = [None, 7, [], {}, {"id": 7}, {"id": "x", "type": "text"}]
        bad_parts += [{**self._text_message("x"), "timestamp": "soon"}, {**self._text_message("x"), "text": "no body"}]
        signed = [b"", b"{", b"\xff\xfe", b"null", b"[" * 50_000, b'{"entry": 7}', b'{"entry": [7, {"changes": [7]}]}']
        signed += [self.payload(messages=bad_parts), self.payload(statuses=bad_parts, contacts=bad_parts)]
        for body in signed:
            await self.post(body)

    def acknowledged(self) -> Sequence[str]:
        return list(self._acknowledged)

    # --- webhooks ---

    def next_id(self) -> str:
        return f"wamid.SIMULATED{self.id_offset + next(self._ids):08}"

    def payload(self, *, number_id: str = NUMBER_ID, **lists: Sequence[object]) -> bytes:
        """The body of a webhook about messages or statuses."""
        value = {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": NUMBER, "phone_number_id": number_id},
            **lists,
        }
        change = {"field": "messages", "value": value}
        entry = {"id": "100200300", "changes": [change]}
        return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> int:
        """One try at a webhook, signed unless other headers are named. How it was answered; 0: not at all."""
        signed = {"X-Hub-Signature-256": "sha256=" + hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
                session.post(
                    self.webhook_url, data=io.BytesIO(body), headers=signed if headers is None else headers
                ) as response,
            ):
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            return 0
        if status != 200:
            self.refused_webhooks.append(status)
            await self.notify_changed()
        return status

    def _tell(self, chat: str, webhook: Webhook) -> None:
        if chat not in self._queues:
            self._queues[chat] = asyncio.Queue()
            self._couriers.append(asyncio.create_task(self._carry(self._queues[chat]), name="webhooks"))
        self._queues[chat].put_nowait(webhook)

    async def _carry(self, queue: asyncio.Queue[Webhook]) -> None:
        while True:
            webhook = await queue.get()
            pause_s = _FIRST_PAUSE_S
            await self._up.wait()
            while await self.post(webhook.body) != 200:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                await self._up.wait()
            if webhook.about is not None:
                self._acknowledged.append(webhook.about)
            await self.notify_changed()

    def _author(self, person: Person) -> Json:
        number: Json = {} if self.hides_numbers else {"from": person.id}
        return {**number, "from_user_id": f"US.{person.id}"} if self.tells_ids or self.hides_numbers else number

    def _contact(self, person: Person) -> Json:
        number: Json = {} if self.hides_numbers else {"wa_id": person.id}
        id: Json = {"user_id": f"US.{person.id}"} if self.tells_ids or self.hides_numbers else {}
        return {"profile": {"name": person.name}, **number, **id}

    def _recipient_of(self, chat: str) -> Json:
        return {"profile": {"name": ""}, "user_id" if "." in chat else "wa_id": chat}

    def _text_message(self, text: str) -> Json:
        return {"id": self.next_id(), "from": ADA.id, "timestamp": "1750000000", "type": "text", "text": {"body": text}}

    def tell_statuses(self, chat: str, id: str, callback: object) -> None:
        """What happens to a message of ours is told, with what it carried."""
        self._callbacks[id] = callback
        if not self.keeps_statuses:
            return
        for status in ("sent", "failed") if chat in self.fails_later else ("sent", "delivered"):
            self._tell_status(chat, id, status, callback)

    def give_up(self, message: ScreenMessage) -> None:
        """A message of ours that was taken did not arrive: the person last wrote more than 24 hours ago."""
        self._tell_status(message.chat, message.id, "failed", self._callbacks.get(message.id))

    def _tell_status(self, chat: str, id: str, status: str, callback: object) -> None:
        said: Json = {"id": id, "status": status, "timestamp": str(int(time.time())), "recipient_id": chat}
        if callback is not None:
            said["biz_opaque_callback_data"] = callback
        if status == "failed":
            window = "Message failed to send because more than 24 hours have passed"
            said["errors"] = [{"code": 131047, "title": "Re-engagement message", "message": window}]
        self._tell(
            f"statuses of {chat}", Webhook(body=self.payload(statuses=[said], contacts=[self._recipient_of(chat)]))
        )

    # --- the Graph API ---

    async def _post_message(self, request: web.Request) -> web.StreamResponse:
        try:
            body = _object(json.loads(await request.read()))
        except GraphError as error:
            return error.response()
        except ValueError:
            return GraphError(100, "Invalid parameter", details="The body is not JSON").response()
        # Typing comes along with a mark that a message was read: faults are for what people see.
        fault = None if body.get("status") == "read" else self.faults.take()
        if fault not in (None, Fault.RESET_AFTER):
            return await _befall(request, fault)
        try:
            _authorized(request)
            answer = await self._take(body)
        except GraphError as error:
            return error.response()
        if fault is Fault.RESET_AFTER:
            return await _befall(request, fault)
        return web.json_response(answer)

    async def _take(self, body: Json) -> Json:
        if body.get("messaging_product") != "whatsapp":
            raise _bad("The parameter messaging_product is required.")
        if body.get("status") == "read":
            return await self._read(body)
        chat = _chat_of(body)
        self._check_chat(chat)
        if body.get("type") == "reaction":
            return await self._react(chat, _object(body.get("reaction")))
        id = self.next_id()
        shown = self._shown_of(id, chat, body)
        await self.add_message(shown)
        self.tell_statuses(chat, id, body.get("biz_opaque_callback_data"))
        return {
            "messaging_product": "whatsapp",
            "contacts": [{"input": chat, "wa_id": chat}],
            "messages": [{"id": id, "message_status": "accepted"}],
        }

    def _check_chat(self, chat: str) -> None:
        is_pair = self.faults.limits.get(chat, (0, 0.0))[0] > 0
        if (seconds := self.faults.retry_after_s(chat)) is not None:
            code, words = (131056, "pair rate limit hit") if is_pair else (130429, "Rate limit hit")
            raise GraphError(code, words, details="Wait and try again", retry_after=f"{seconds:.0f}")
        if chat in self.closed_windows:
            raise GraphError(131047, "Re-engagement message", details="More than 24 hours have passed")

    async def _read(self, body: Json) -> Json:
        id = _text(body.get("message_id"), 500, "message_id")
        chats = [one.chat for one in self.screen(sender=None) if one.id == id and one.sender != BOT]
        if not chats:
            raise _bad("The message_id is not that of a message to you.")
        self.reads.append(id)
        if "typing_indicator" in body:
            self.typing.append(chats[0])
        await self.notify_changed()
        return {"success": True}

    async def _react(self, chat: str, reaction: Json) -> Json:
        emoji, id = str(reaction.get("emoji")), str(reaction.get("message_id"))
        # One reaction of each side; the person's own stays out of this.
        if await self.update_message(id, lambda one: replace(one, reactions=(emoji,)), chat=chat) is None:
            raise GraphError(131009, "Parameter value is not valid", details="The message is not in this chat")
        return {"messaging_product": "whatsapp", "messages": [{"id": self.next_id()}]}

    def _shown_of(self, id: str, chat: str, body: Json) -> ScreenMessage:
        """What the message looks like; raises GraphError for one that Meta refuses."""
        if "biz_opaque_callback_data" in body:
            _text(body["biz_opaque_callback_data"], CALLBACK_LIMIT, "biz_opaque_callback_data")
        reply_to = _object(body.get("context", {})).get("message_id")
        base = ScreenMessage(
            id=id, chat=chat, text="", raw="", sender=BOT, reply_to=None if reply_to is None else str(reply_to)
        )
        kind = str(body.get("type"))
        content = _object(body.get(kind))
        if kind == "text":
            raw = _text(content.get("body"), TEXT_LIMIT, "text.body")
            return replace(base, text=as_read(raw), raw=raw)
        if kind == "interactive":
            return self._card_of(base, content)
        if kind in ("image", "video", "audio", "document"):
            return self._file_of(base, kind, content)
        raise _bad(f"Invalid message type {kind}.")

    def _card_of(self, base: ScreenMessage, content: Json) -> ScreenMessage:
        kind, action = content.get("type"), _object(content.get("action"))
        is_list = kind == "list"
        body = _text(_object(content.get("body")).get("text"), LIST_BODY if is_list else BUTTON_BODY, "body.text")
        if is_list:
            _text(action.get("button"), BUTTON_TITLE, "action.button")
            choices = [row for section in _objects(action.get("sections")) for row in _objects(section.get("rows"))]
            most, title, id = MOST_ROWS, ROW_TITLE, ROW_ID
        else:
            choices = [_object(button.get("reply")) for button in _objects(action.get("buttons"))]
            most, title, id = MOST_BUTTONS, BUTTON_TITLE, BUTTON_ID
        if not 1 <= len(choices) <= most:
            raise GraphError(
                131009, "Parameter value is not valid", details=f"Between 1 and {most} choices are allowed"
            )
        labels = {_text(one.get("title"), title, "title"): _text(one.get("id"), id, "id") for one in choices}
        if len(labels) != len(choices) or len(set(labels.values())) != len(choices):
            raise GraphError(131009, "Parameter value is not valid", details="Titles and ids have to be unique")
        self._choices[base.id], self._kinds[base.id] = labels, "list_reply" if is_list else "button_reply"
        return replace(base, text=as_read(body), raw=body, buttons=tuple(labels))

    def _file_of(self, base: ScreenMessage, kind: str, content: Json) -> ScreenMessage:
        stored = self._media.get(str(content.get("id")))
        if stored is None:
            raise GraphError(131009, "Parameter value is not valid", details="The media id is not known")
        caption = content.get("caption", "")
        if caption and kind == "audio":
            raise _bad("Unexpected key caption on param audio.")
        raw = _text(caption, CAPTION_LIMIT, "caption") if caption else ""
        name = str(content.get("filename", stored.name))
        return replace(base, text=as_read(raw), raw=raw, file_name=name, file_bytes=stored.content)

    async def _post_media(self, request: web.Request) -> web.StreamResponse:
        fault = self.faults.take()
        if fault is not None:
            return await _befall(request, fault)
        try:
            _authorized(request)
            form = await request.post()
            file, media_type = form.get("file"), str(form.get("type"))
            if form.get("messaging_product") != "whatsapp" or not isinstance(file, web.FileField):
                raise _bad("The parameters messaging_product and file are required.")
            if media_type not in MEDIA_TYPES or file.content_type != media_type:
                raise _bad(f"Param file must be a file with one of the known types. Received {media_type}.")
            stored = self.store_media(file.filename, media_type, file.file.read())
        except GraphError as error:
            return error.response()
        return web.json_response({"id": stored.id})

    def store_media(self, name: str, media_type: str, content: bytes) -> StoredMedia:
        id = f"9{self.id_offset + next(self._ids):014}"
        self._media[id] = StoredMedia(id=id, name=name, media_type=media_type, content=content)
        return self._media[id]

    def forget_media(self) -> None:
        """Meta keeps files for a while only."""
        self._media.clear()

    async def _get_number(self, request: web.Request) -> web.StreamResponse:
        proof = hmac.new(APP_SECRET.encode(), ACCESS_TOKEN.encode(), hashlib.sha256).hexdigest()
        try:
            _authorized(request)
            if request.query.get("appsecret_proof", proof) != proof:
                raise GraphError(100, "Invalid appsecret_proof provided in the API argument")
        except GraphError as error:
            return error.response()
        said = {"display_phone_number": "+1 555-000-1111", "verified_name": "Simulated", "quality_rating": "GREEN"}
        return web.json_response({**said, "id": NUMBER_ID})

    async def _get_media(self, request: web.Request) -> web.StreamResponse:
        stored = self._media.get(request.match_info["media"])
        try:
            _authorized(request)
            if stored is None:
                raise GraphError(100, "Unsupported get request. Object with that ID does not exist")
        except GraphError as error:
            return error.response()
        url = f"http://127.0.0.1:{self._port.number}/download/{stored.id}"
        return web.json_response(
            {"url": url, "mime_type": stored.media_type, "file_size": len(stored.content), "id": stored.id}
        )

    async def _download(self, request: web.Request) -> web.StreamResponse:
        stored = self._media.get(request.match_info["media"])
        if request.headers.get("Authorization") != f"Bearer {ACCESS_TOKEN}":
            return web.Response(status=401)
        if self.should_serve_error_page:
            return web.Response(text=_LOGIN_PAGE, content_type="text/html")
        return web.Response(body=stored.content) if stored else web.Response(status=404)


async def _befall(request: web.Request, fault: Fault | None) -> web.StreamResponse:
    match fault:
        case Fault.RESET_BEFORE | Fault.RESET_AFTER:
            if request.transport is not None:
                request.transport.abort()
        case Fault.SERVER_ERROR:
            return GraphError(1, "An unknown error occurred", status=500).response()
        case Fault.UNAVAILABLE:
            return unavailable()
        case Fault.HANG:
            await asyncio.get_running_loop().create_future()
        case Fault.UNAUTHORIZED:
            return GraphError(190, "Error validating access token: the session is invalid", status=401).response()
        case _:
            return web.Response(text=_LOGIN_PAGE, content_type="text/html")
    return web.Response(status=500)


def _authorized(request: web.Request) -> None:
    if request.headers.get("Authorization") != f"Bearer {ACCESS_TOKEN}":
        raise GraphError(190, "Invalid OAuth access token - Cannot parse access token", status=401)


def _chat_of(body: Json) -> str:
    """Whom a message goes to; a business-scoped id is the person it was made for."""
    if "recipient" in body:
        chat = str(body["recipient"])
        if not re.fullmatch(r"[A-Z]{2}\.\w+", chat):
            raise _bad("Param recipient must be a business-scoped user id.")
        return chat
    chat = str(body.get("to", ""))
    if not chat or chat.isdecimal() == (body.get("recipient_type", "individual") == "group"):
        raise _bad("Param to must be a phone number, or a group's id with recipient_type group.")
    return chat


def _bad(details: str) -> GraphError:
    return GraphError(100, "Invalid parameter", details=details)


def _text(value: object, limit: int, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _bad(f"The parameter {name} is required.")
    if len(value) > limit:
        raise _bad(f"Param {name} must be at most {limit} characters long.")
    return value


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise _bad("An object was expected.")
    return value


def _objects(value: object) -> list[Json]:
    return [_object(one) for one in value] if isinstance(value, list) else []


_CODE = re.compile(r"```\n?(.+?)\n?```|`([^`\n]+)`", re.DOTALL)
_STYLED = re.compile(r"(?<!\w)([*_~])(?=\S)(.+?)(?<=\S)\1(?!\w)")


def as_read(raw: str) -> str:
    """A text as a person reads it: marks are taken away where WhatsApp shows a style, and stay where it does not."""
    read, start = "", 0
    for code in _CODE.finditer(raw):
        read += _unstyled(raw[start : code.start()]) + (code[1] or code[2])
        start = code.end()
    return read + _unstyled(raw[start:])


def _unstyled(text: str) -> str:
    while (plain := _STYLED.sub(r"\2", text)) != text:
        text = plain
    return text


SIMULATOR = WhatsAppSimulator

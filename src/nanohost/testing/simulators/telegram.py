"""Telegram on loopback: the part of the Bot API that the channel uses, by the rules of the real one.

Updates wait until an offset beyond them is asked for; a second poller ends the first with 409; markup is read as
Telegram reads it, and lengths are counted after that, in UTF-16; what the real one refuses is refused in its words.
A chat need not be known before it is written to, unless it is in `never_started`. Group pace is enforced when told to.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from math import ceil

from aiohttp import web

from nanohost.testing.content import ContentKind
from nanohost.testing.reserved_port import ReservedPort
from nanohost.testing.simulator import ADA, BOB, BOT, Fault, Person, ScreenMessage, Simulator, make_edit
from nanohost.testing.simulators._telegram_html import BadMarkup, Read, read, utf16_length
from nanohost.testing.simulators._telegram_kinds import CONTENTS, KINDS, PINNED, SERVICE, SUPERGROUP
from nanohost.testing.simulators._unavailable import unavailable

TOKEN = "123456789:simulated_token_of_nobody_at_all_0"  # noqa: S105
USERNAME = "nano_test_bot"
BOT_ID = 123456789
TEXT_LIMIT, CAPTION_LIMIT = 4096, 1024
CALLBACK_BYTES = 64
MOST_BUTTONS = 100
FILE_IN_BYTES, FILE_OUT_BYTES, PHOTO_BYTES = 20 * 2**20, 50 * 2**20, 10 * 2**20
A_MINUTE_IN_A_GROUP = 20
MOST_COMMANDS, DESCRIPTION = 100, 256
"""Of setMyCommands: how many, and how long what each does may be said to be."""
_REACTIONS = """
👍 👎 ❤ 🔥 🥰 👏 😁 🤔 🤯 😱 🤬 😢 🎉 🤩 🤮 💩 🙏 👌 🕊 🤡 🥱 🥴 😍 🐳 ❤️‍🔥
🌚 🌭 💯 🤣 ⚡ 🍌 🏆 💔 🤨 😐 🍓 🍾 💋 🖕 😈 😴 😭 🤓 👻 👨‍💻 👀 🎃 🙈 😇 😨
🤝 ✍ 🤗 🫡 🎅 🎄 ☃ 💅 🤪 🗿 🆒 💘 🙉 🦄 😘 💊 🙊 😎 👾 🤷‍♂️ 🤷 🤷‍♀️ 😡
"""
REACTIONS = frozenset(_REACTIONS.split())

A_GROUP, ITS_SUPERGROUP = "-4001", "-1004001"
_NAMED = ("audio", "video", "animation")
"""What an app may send with the file's name."""
_FILES = ("voice", "audio", "video", "video_note", "animation", "document")
_KINDS = {".jpg": "photo", ".jpeg": "photo", ".ogg": "voice", ".mp3": "audio", ".mp4": "video"}
_PICTURE = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
_NOT_ASKED_FOR = frozenset({"message_reaction", "message_reaction_count", "chat_member"})
"""What a bot gets only when it names it in allowed_updates."""
_WITHOUT_FAULTS = frozenset({"sendChatAction", "setMyCommands"})
_NAME = re.compile(r"@(\w+)")
_MENU_COMMAND = re.compile(r"[a-z0-9_]{1,32}")
_COMMAND = re.compile(r"/\w{1,32}(?:@\w+)?")

_OF_EVERY_MESSAGE = frozenset({"message_id", "date", "chat", "from", "message_thread_id", "is_topic_message"})

Json = dict[str, object]


class _ApiError(Exception):
    def __init__(self, code: int, description: str, **parameters: float) -> None:
        super().__init__(description)
        self.code, self.description, self.parameters = code, description, parameters

    def answer(self) -> web.Response:
        body: Json = {"ok": False, "error_code": self.code, "description": self.description}
        if self.parameters:
            body["parameters"] = self.parameters
        return web.json_response(body, status=self.code)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one request asks for: fields as they came, files as (name, bytes)."""

    fields: Mapping[str, str]
    files: Mapping[str, tuple[str, bytes]]

    def __getitem__(self, key: str) -> str:
        return self.fields.get(key, "")

    def number(self, key: str, default: int = 0) -> int:
        return int(self.fields.get(key) or default)

    def json(self, key: str) -> Json:
        found = json.loads(self.fields.get(key) or "{}")
        return found if isinstance(found, dict) else {}

    def list(self, key: str) -> list[Json]:
        found = json.loads(self.fields.get(key) or "[]")
        return found if isinstance(found, list) else []


@dataclass
class _Waiting:
    """One update that is not confirmed yet; None: it has no id, and is sent once."""

    id: int | None
    body: object
    kind: str = ""
    message_id: str | None = None


@dataclass
class _Post:
    """What the platform keeps of a message beside what is shown."""

    body: Json
    buttons: list[tuple[str, str]] = field(default_factory=list)
    reactions: dict[str, str] = field(default_factory=dict)


class TelegramSimulator(Simulator):
    """See the module. `running` serves; the rest is people, and knobs for what goes wrong."""

    name = "telegram"

    def __init__(self, *, token: str = TOKEN, username: str = USERNAME) -> None:
        super().__init__()
        self.token = token
        self.username = username
        self.revoked = False
        """The token is not accepted any more, by any method."""
        self.webhook = ""
        self.reads_all = True
        """Privacy mode is off: the bot is told of what is not addressed to it."""
        self.never_started: set[str] = set()
        self.blocked: set[str] = set()
        self.migrated: dict[str, str] = {}
        """Groups that became supergroups, with their new ids: what is sent there is refused, and says so."""
        self.deleted_topics: set[tuple[str, str]] = set()
        self.closed_topics: set[tuple[str, str]] = set()
        """By chat and topic. The bot is no admin: it may not write there."""
        self.enforces_pace = False
        self.minute_s = 60.0
        """How long the minute of a group's pace takes: less for a host whose clock is hasty."""
        self.too_many = 0
        """Requests that were refused because they came too fast."""
        self.poll_faults: deque[Fault] = deque()
        self.poll_answers: deque[tuple[int, str]] = deque()
        """What the next polls are answered with: a status and a body."""
        self.polls = 0
        self.answered: list[str] = []
        """ButtonHandler that the bot answered; the spinner on the button is gone."""
        self.commands_taken = True
        """Whether setMyCommands does not end in an error of Telegram's own."""
        self.menus: dict[str, Mapping[str, str]] = {}
        """What the bot's menu offers, by the kind of chat: each command with its description."""
        self.calls: list[str] = []
        """The methods that were called, in order."""
        self.previews = 0
        """Messages whose links Telegram would have visited to show what is there."""
        self._port = ReservedPort()
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._updates: list[_Waiting] = []
        self._last_update = 700_000_000
        self._next_id = 1000
        self._confirmed: list[str] = []
        self._posts: dict[tuple[str, str], _Post] = {}
        self._by_person: dict[str, _Waiting] = {}
        self._people = {person.name.lower(): person for person in (ADA, BOB)}
        self._groups: set[str] = set()
        self._forums: set[str] = set()
        self._files: dict[str, tuple[str, bytes]] = {}
        self.page_says_so = True
        """The page in the place of a file says that it is one."""
        self._sent_at: dict[str, deque[float]] = {}

    # --- life ---

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application(client_max_size=FILE_OUT_BYTES + 2**20)
        app.router.add_route("*", "/bot{token}/{method}", self._serve)
        app.router.add_get("/file/bot{token}/{path:.+}", self._serve_file)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.end_outage()
        try:
            yield
        finally:
            self._cut()
            await self._runner.cleanup()
            self._runner = self._site = None

    def settings(self) -> Mapping[str, str]:
        return {"token": self.token, "base_url": f"http://127.0.0.1:{self._port.number}"}

    async def start_outage(self) -> None:
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self._cut()
        for _ in range(3):
            await asyncio.sleep(0)  # the loop closes what was cut: whoever calls next finds nobody

    async def end_outage(self) -> None:
        assert self._runner is not None, "it runs"
        if self._site is not None:
            return
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port.number, reuse_address=True)
        await self._site.start()

    def _cut(self) -> None:
        server = self._runner.server if self._runner is not None else None
        for connection in list(server.connections) if isinstance(server, web.Server) else []:
            if connection.transport is not None:
                _reset(connection.transport)

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
        reply_to: str | None = None,
    ) -> str:
        """As Simulator.write; `reply_to`: the id of the message that this one answers."""
        if message_id is not None and message_id in self._by_person:
            await self._redeliver(self._by_person[message_id])
            return message_id
        if mention and f"@{self.username}" not in text:
            text = f"@{self.username} {text}"
        if group:
            self._groups.add(chat)
        self._people[person.name.lower()] = person
        number = self._number(message_id)
        body = self._message(chat, number, _user(person), thread) | self._content(text, file)
        if reply_to is not None:
            body["reply_to_message"] = self._posts[chat, reply_to].body
        self._posts[chat, str(number)] = _Post(body)
        name, content = file or (None, b"")
        await self.add_message(
            ScreenMessage(
                id=str(number),
                chat=chat,
                text=text,
                raw=text,
                sender=person.id,
                thread=thread,
                reply_to=reply_to,
                file_name=name,
                file_bytes=content,
            )
        )
        if self.reads_all or not group or mention or text.startswith("/") or reply_to is not None:
            self._by_person[str(number)] = await self._push("message", body, message_id=str(number))
        return str(number)

    async def press(self, message: ScreenMessage, label: str, *, person: Person = ADA) -> None:
        post = self._posts[message.chat, message.id]
        data = dict(post.buttons)[label]
        query: Json = {
            "id": str(self._number()),
            "from": _user(person),
            "chat_instance": "1",
            "message": post.body,
            "data": data,
        }
        await self._push("callback_query", query)

    async def react(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        before = self._posts[chat, message_id].reactions.get(person.id)
        await self._set_reaction(chat, message_id, person.id, emoji)
        change: Json = {
            "chat": self._chat(chat),
            "message_id": int(message_id),
            "user": _user(person),
            "date": int(time.time()),
            "old_reaction": [_emoji(before)] if before else [],
            "new_reaction": [_emoji(emoji)] if emoji else [],
        }
        await self._push("message_reaction", change)

    async def remove_reaction(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody takes back their reaction."""
        await self.react(message_id, "", chat=chat, person=person)

    async def delete(self, message_id: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody deletes a message of theirs. Telegram tells no bot."""
        self._screen_messages = [one for one in self._screen_messages if (one.id, one.chat) != (message_id, chat)]
        await self.notify_changed()

    async def edit(self, message_id: str, text: str, *, chat: str, person: Person = ADA, mention: bool = False) -> None:
        text = f"@{self.username} {text}" if mention else text
        post = self._posts[chat, message_id]
        post.body = post.body | self._content(text, None) | {"edit_date": int(time.time())}
        await self.update_message(message_id, make_edit(text, text), chat=chat)
        await self._push("edited_message", post.body)

    async def send_garbage(self) -> None:
        for body in _GARBAGE:
            known = isinstance(body, dict) and "update_id" not in body
            taken = self._update_number()
            number = taken if known else None
            sent = {"update_id": number, **body} if isinstance(body, dict) and known else body
            self._updates.append(_Waiting(number, sent))
        self.poll_answers.extend([(200, "{"), (502, "<html>bad gateway</html>"), (200, '{"ok": true, "result": 5}')])
        await self.notify_changed()

    def acknowledged(self) -> Sequence[str]:
        return self._confirmed

    async def service(
        self, chat: str, content: Mapping[str, object], *, kind: str = "message", group: bool = True
    ) -> None:
        """Something happens that is not a message of a person: `content` is what the update says about it."""
        if group:
            self._groups.add(chat)
        await self._push(kind, self._message(chat, self._number(), _user(ADA), None) | dict(content))

    async def post(
        self,
        chat: str,
        content: Mapping[str, object],
        *,
        person: Person = ADA,
        group: bool = False,
        thread: str | None = None,
    ) -> str:
        """Somebody sends anything: `content` has the fields of the Bot API's Message beside those that every message
        has. A file may be given as its name, a photo as a word. Returns the message's id."""
        if group:
            self._groups.add(chat)
        number = self._number()
        body = self._message(chat, number, _user(person), thread) | self._completed(content, chat)
        self._posts[chat, str(number)] = _Post(body)
        text = str(content.get("text") or content.get("caption") or "")
        await self.add_message(
            ScreenMessage(id=str(number), chat=chat, text=text, raw=text, sender=person.id, thread=thread)
        )
        if self.reads_all or not group or self._is_to_the_bot(body):
            self._by_person[str(number)] = await self._push("message", body, message_id=str(number))
        return str(number)

    async def become_supergroup(self, old: str, new: str, *, tells: Sequence[str] = ("to", "from")) -> None:
        """A group gets topics, a public link, or a history for new members, and with that a new id. Both chats are told
        (`tells`: which of them), each what the other is called."""
        self.migrated[old] = new
        self._groups.add(new)
        if "to" in tells:
            await self.service(old, {"migrate_to_chat_id": int(new)})
        if "from" in tells:
            await self.service(new, {"migrate_from_chat_id": int(old)})

    async def edit_as(self, message_id: str, content: Mapping[str, object], *, chat: str) -> None:
        """Somebody changes a message to this content, as `post` has it."""
        post = self._posts[chat, message_id]
        own = {key: value for key, value in post.body.items() if key in _OF_EVERY_MESSAGE}
        post.body = own | self._completed(content, chat) | {"edit_date": int(time.time())}
        await self._push("edited_message", post.body)

    async def push(self, update: Mapping[str, object]) -> None:
        """An update as it is, under the next number."""
        number = self._update_number()
        self._updates.append(_Waiting(number, {"update_id": number, **update}))
        await self.notify_changed()

    def examples(self) -> Mapping[ContentKind, Sequence[str]]:
        return CONTENTS

    def content_examples(self) -> Mapping[ContentKind, Sequence[str]]:
        return {kind: names for kind, names in super().content_examples().items() if kind != ContentKind.DELETION}

    async def send_example(self, name: str, chat: str, *, person: Person, group: bool) -> Sequence[str]:
        if name == SUPERGROUP:  # a person's chat never is one
            await self.become_supergroup(A_GROUP, ITS_SUPERGROUP)
            return ()
        if name == PINNED:
            await self.service(chat, SERVICE[name], group=group)
            return ()
        return [await self.post(chat, content, person=person, group=group) for content in KINDS[name]]

    def latest(self) -> str:
        """The id of the latest message of a person that the bot was told of."""
        return next(reversed(self._by_person))

    # --- what people do, as updates ---

    def _completed(self, content: Mapping[str, object], chat: str) -> Json:
        """The fields as Telegram sends them: what others said has a chat, a photo has its sizes, a venue its place."""
        whole = dict(content)
        if isinstance(photo := whole.get("photo"), str):
            whole |= self._file(f"{photo}.jpg", photo.encode())
        for kind in _FILES:
            if isinstance(name := whole.get(kind), str):
                whole |= self._file(name, name.encode(), kind)
        if isinstance(answered := whole.get("reply_to_message"), dict):
            whole["reply_to_message"] = {"chat": self._chat(chat), "date": 1} | self._completed(answered, chat)
        if isinstance(venue := whole.get("venue"), dict):
            whole.setdefault("location", venue.get("location"))
        return whole

    def _is_to_the_bot(self, body: Json) -> bool:
        """What privacy mode lets through: the bot's name, a command, an answer to the bot."""
        answered = body.get("reply_to_message")
        to_bot = isinstance(answered, dict) and answered.get("from", {}).get("id") == BOT_ID
        text = str(body.get("text") or body.get("caption") or "")
        return to_bot or f"@{self.username}" in text or text.startswith("/")

    def _bot_user(self) -> Json:
        return {"id": BOT_ID, "is_bot": True, "first_name": "Nano", "username": self.username}

    def _number(self, given: str | None = None) -> int:
        self._next_id += 1
        return int(given) if given is not None and given.isdigit() else self.id_offset + self._next_id

    def _update_number(self) -> int:
        self._last_update += 1
        return self.id_offset + self._last_update

    def _message(self, chat: str, number: int, sender: Json, thread: str | None) -> Json:
        if thread is not None:
            self._forums.add(chat)
        body: Json = {"message_id": number, "date": int(time.time()), "chat": self._chat(chat), "from": sender}
        return body | ({"message_thread_id": int(thread), "is_topic_message": True} if thread is not None else {})

    def _chat(self, chat: str) -> Json:
        number: object = int(chat) if chat.lstrip("-").isdigit() else chat
        if chat in self._groups:
            forum = {"is_forum": True} if chat in self._forums else {}
            return {"id": number, "type": "supergroup", "title": f"Group {chat}", **forum}
        name = next((one.name for one in self._people.values() if one.id == chat), "Somebody")
        return {"id": number, "type": "private", "first_name": name}

    def _content(self, text: str, file: tuple[str, bytes] | None) -> Json:
        entities = _entities(text)
        if file is None:
            return {"text": text, **({"entities": entities} if entities else {})}
        said: Json = {"caption": text, **({"caption_entities": entities} if entities else {})} if text else {}
        return said | self._file(*file)

    def _file(self, name: str, content: bytes, kind: str | None = None) -> Json:
        id = f"file-{len(self._files) + 1}"
        suffix = "." + name.rpartition(".")[2].lower()
        self._files[id] = (f"documents/{id}{suffix}", content)
        named, kind = kind is not None, kind or _KINDS.get(suffix, "document")
        about: Json = {"file_id": id, "file_unique_id": f"u{id}", "file_size": len(content)}
        if kind == "photo":
            self._files[f"{id}-small"] = (f"photos/{id}.jpg", content[:1])
            small = {"file_id": f"{id}-small", "file_unique_id": f"s{id}", "file_size": 1, "width": 9, "height": 9}
            return {"photo": [small, about | {"width": 90, "height": 90}]}
        if kind == "document":
            return {kind: about | {"file_name": name, "mime_type": "application/octet-stream"}}
        if kind == "video_note":
            return {kind: about | {"duration": 1, "length": 90}}
        size = {"width": 90, "height": 90} if kind in ("video", "animation") else {}
        type_ = "video" if kind == "animation" else kind
        called = {"file_name": name} if named and kind in _NAMED else {}
        return {kind: about | called | {"duration": 1, "mime_type": f"{type_}/{suffix[1:]}"} | size}

    async def _push(self, kind: str, body: Json, *, message_id: str | None = None) -> _Waiting:
        number = self._update_number()
        waiting = _Waiting(number, {"update_id": number, kind: body}, kind, message_id)
        self._updates.append(waiting)
        await self.notify_changed()
        return waiting

    async def _redeliver(self, waiting: _Waiting) -> None:
        """One that is not confirmed comes by itself; one that is comes once more, as an update of its own."""
        if waiting in self._updates:
            await self.notify_changed()
        elif isinstance(waiting.body, dict):
            await self._push(waiting.kind, waiting.body[waiting.kind], message_id=waiting.message_id)

    # --- the Bot API ---

    async def _serve(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        asked = await _asked(request)
        self.calls.append(method)
        if self.revoked or request.match_info["token"] != self.token:
            return _UNAUTHORIZED.answer()
        fault = self._fault(method)
        if fault is not None and fault is not Fault.RESET_AFTER:
            return await _go_wrong(request, fault)
        try:
            result = await self._methods()[method](asked)
        except KeyError:
            return _ApiError(404, "Not Found").answer()
        except _ApiError as error:
            await self.notify_changed()
            return error.answer()
        except BadMarkup as error:
            return _refused(f"can't parse entities: {error}").answer()
        if fault is Fault.RESET_AFTER:
            return await _go_wrong(request, fault)
        if isinstance(result, web.Response):
            return result
        return web.json_response({"ok": True, "result": result})

    def _methods(self) -> dict[str, Callable[[_Asked], Awaitable[object]]]:
        return {
            "getUpdates": self._get_updates,
            "getMe": self._get_me,
            "getWebhookInfo": self._get_webhook_info,
            "getFile": self._get_file,
            "sendMessage": self._send_message,
            "sendDocument": self._send_file,
            "sendPhoto": self._send_file,
            "editMessageText": self._edit_message,
            "setMessageReaction": self._set_message_reaction,
            "sendChatAction": self._send_chat_action,
            "answerCallbackQuery": self._answer_callback_query,
            "setMyCommands": self._set_my_commands,
        }

    def _fault(self, method: str) -> Fault | None:
        if method == "getUpdates":
            return self.poll_faults.popleft() if self.poll_faults else None
        if method.startswith(("send", "edit", "set")) and method not in _WITHOUT_FAULTS:
            return self.faults.take()
        return None

    async def _get_updates(self, asked: _Asked) -> object:
        self.polls += 1
        mine = self.polls
        await self.notify_changed()
        if self.webhook:
            words = "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
            raise _ApiError(409, f"Conflict: {words}")
        if self.poll_answers:
            status, body = self.poll_answers.popleft()
            return web.Response(status=status, text=body, content_type="application/json")
        self._confirm(asked.number("offset"))
        await self.notify_changed()
        with suppress(TimeoutError):
            await self.wait_until(lambda: mine != self.polls or bool(self._updates), timeout_s=asked.number("timeout"))
        if mine != self.polls:
            words = "terminated by other getUpdates request; make sure that only one bot instance is running"
            raise _ApiError(409, f"Conflict: {words}")
        return self._batch(asked.number("limit", 100), frozenset(map(str, asked.list("allowed_updates"))))

    def _batch(self, limit: int, allowed: frozenset[str]) -> list[object]:
        """Updates without an id cannot be confirmed: they are sent once. Kinds that are not asked for are forgotten."""
        self._updates = [one for one in self._updates if one.kind in (allowed or {one.kind} - _NOT_ASKED_FOR) | {""}]
        wanted = self._updates[:limit]
        self._updates = [one for one in self._updates if one.id is not None or one not in wanted]
        return [one.body for one in wanted]

    def _confirm(self, offset: int) -> None:
        gone = [one for one in self._updates if one.id is not None and one.id < offset]
        self._confirmed += [one.message_id for one in gone if one.message_id is not None]
        self._updates = [one for one in self._updates if one not in gone]

    async def _get_me(self, _: _Asked) -> Json:
        return self._bot_user() | {"can_read_all_group_messages": self.reads_all, "can_join_groups": True}

    async def _get_webhook_info(self, _: _Asked) -> Json:
        return {"url": self.webhook, "has_custom_certificate": False, "pending_update_count": len(self._updates)}

    async def _get_file(self, asked: _Asked) -> Json:
        found = self._files.get(asked["file_id"])
        if found is None:
            raise _refused("wrong file_id or the file is temporarily unavailable")
        path, content = found
        if len(content) > FILE_IN_BYTES:
            raise _refused("file is too big")
        id = asked["file_id"]
        return {"file_id": id, "file_unique_id": f"u{id}", "file_size": len(content), "file_path": path}

    async def _serve_file(self, request: web.Request) -> web.Response:
        if request.match_info["token"] != self.token:
            return _UNAUTHORIZED.answer()
        if self.should_serve_error_page:
            page = f"<html><h1>Sign in</h1>{' ' * 1000}</html>"
            return web.Response(
                text=page, content_type="text/html" if self.page_says_so else "application/octet-stream"
            )
        for path, content in self._files.values():
            if path == request.match_info["path"]:
                return web.Response(body=content)
        return _ApiError(404, "Not Found").answer()

    async def _send_message(self, asked: _Asked) -> Json:
        self._may_write(asked)
        found = _words(asked, "text", TEXT_LIMIT, "message is too long")
        if not found.text.strip():
            raise _refused("message text is empty")
        self.previews += "http" in asked["text"] and not asked.json("link_preview_options").get("is_disabled")
        return await self._put_up(asked, found, asked["text"], None)

    async def _send_file(self, asked: _Asked) -> Json:
        self._may_write(asked)
        kind = "photo" if "photo" in asked.files else "document"
        name, content = asked.files[kind]
        if len(content) > FILE_OUT_BYTES:
            raise _ApiError(413, "Request Entity Too Large")
        if kind == "photo" and (len(content) > PHOTO_BYTES or not content.startswith(_PICTURE)):
            raise _refused("IMAGE_PROCESS_FAILED")
        found = _words(asked, "caption", CAPTION_LIMIT, "message caption is too long")
        return await self._put_up(asked, found, asked["caption"], (name, content))

    def _may_write(self, asked: _Asked) -> None:
        chat, thread = asked["chat_id"], asked["message_thread_id"]
        self._may_reach(chat)
        if thread == "1" or (chat, thread) in self.deleted_topics:
            raise _refused("message thread not found")
        if (chat, thread or "1") in self.closed_topics:
            raise _refused("TOPIC_CLOSED")
        wait = self.faults.retry_after_s(chat) or self._over_pace_s(chat)
        if wait:
            self.too_many += 1
            raise _too_many(wait)

    def _may_reach(self, chat: str) -> None:
        if not chat:
            raise _refused("chat_id is empty")
        if chat in self.migrated:
            words = "group chat was upgraded to a supergroup chat"
            raise _ApiError(400, f"Bad Request: {words}", migrate_to_chat_id=int(self.migrated[chat]))
        if chat in self.never_started:
            raise _ApiError(403, "Forbidden: bot can't initiate conversation with a user")
        if chat in self.blocked:
            raise _ApiError(403, "Forbidden: bot was blocked by the user")

    def _over_pace_s(self, chat: str) -> float:
        if not self.enforces_pace or not chat.startswith("-"):
            return 0.0
        sent, now = self._sent_at.setdefault(chat, deque()), time.monotonic()
        while sent and sent[0] < now - self.minute_s:
            sent.popleft()
        if len(sent) >= A_MINUTE_IN_A_GROUP:
            return sent[0] + self.minute_s - now
        sent.append(now)
        return 0.0

    async def _put_up(self, asked: _Asked, found: Read, raw: str, file: tuple[str, bytes] | None) -> Json:
        chat, thread = asked["chat_id"], asked["message_thread_id"] or None
        buttons = _buttons(asked)
        answers = self._answers(asked, chat)
        number = self._number()
        body = self._message(chat, number, self._bot_user(), thread)
        body |= {"text": found.text} if file is None else {"caption": found.text} | self._file(*file)
        name, content = file or (None, b"")
        self._posts[chat, str(number)] = _Post(body | _markup(asked), buttons)
        await self.add_message(
            ScreenMessage(
                id=str(number),
                chat=chat,
                text=found.text,
                raw=raw,
                sender=BOT,
                thread=thread,
                reply_to=answers,
                buttons=tuple(label for label, _ in buttons),
                file_name=name,
                file_bytes=content,
                notified=self._pinged(found),
            )
        )
        return body

    def _answers(self, asked: _Asked, chat: str) -> str | None:
        reply = asked.json("reply_parameters")
        if not reply:
            return None
        id = str(reply.get("message_id"))
        if (chat, id) in self._posts:
            return id
        if not reply.get("allow_sending_without_reply"):
            raise _refused("message to be replied not found")
        return None

    def _pinged(self, found: Read) -> frozenset[str]:
        named = {self._people[name.lower()].id for name in _NAME.findall(found.text) if name.lower() in self._people}
        return frozenset(named | found.users)

    async def _edit_message(self, asked: _Asked) -> Json:
        chat, id = asked["chat_id"], asked["message_id"]
        self._may_write(asked)
        found = _words(asked, "text", TEXT_LIMIT, "message is too long")
        if not found.text.strip():
            raise _refused("message text is empty")
        post = self._posts.get((chat, id))
        shown = next((one for one in self.screen(chat) if one.id == id), None)
        if post is None:
            raise _refused("message to edit not found")
        if shown is None:
            raise _refused("message can't be edited")
        if shown.file_name is not None:
            raise _refused("there is no text in the message to edit")
        buttons = _buttons(asked)
        if (shown.raw, post.buttons) == (asked["text"], buttons):
            raise _refused(
                "message is not modified: specified new message content and reply markup are exactly the same"
            )
        post.body = {key: value for key, value in post.body.items() if key != "reply_markup"} | _markup(asked)
        post.body["text"], post.buttons = found.text, buttons
        labels = tuple(label for label, _ in buttons)
        change = make_edit(found.text, asked["text"])
        await self.update_message(id, lambda one: replace(change(one), buttons=labels), chat=chat)
        return post.body

    async def _set_message_reaction(self, asked: _Asked) -> bool:
        chat, id, wanted = asked["chat_id"], asked["message_id"], asked.list("reaction")
        self._may_reach(chat)
        if (chat, id) not in self._posts:
            raise _refused("message to react not found")
        if len(wanted) > 1:
            raise _refused("REACTIONS_TOO_MANY")
        if any(one.get("emoji") not in REACTIONS for one in wanted):
            raise _refused("REACTION_INVALID")
        await self._set_reaction(chat, id, BOT, str(wanted[0]["emoji"]) if wanted else "")
        return True

    async def _set_reaction(self, chat: str, id: str, who: str, emoji: str) -> None:
        reactions = self._posts[chat, id].reactions
        reactions[who] = emoji
        now = tuple(one for one in reactions.values() if one)
        await self.update_message(id, lambda one: replace(one, reactions=now), chat=chat)

    async def _send_chat_action(self, asked: _Asked) -> bool:
        self._may_reach(asked["chat_id"])
        self.typing.append(asked["chat_id"])
        await self.notify_changed()
        return True

    async def _set_my_commands(self, asked: _Asked) -> bool:
        if not self.commands_taken:
            raise _ApiError(500, "Internal Server Error")
        offered = {str(one.get("command")): str(one.get("description")) for one in asked.list("commands")}
        if len(offered) > MOST_COMMANDS:
            raise _refused("BOT_COMMANDS_TOO_MUCH")
        if not all(_MENU_COMMAND.fullmatch(name) for name in offered):
            raise _refused("BOT_COMMAND_INVALID")
        if not all(1 <= len(words) <= DESCRIPTION for words in offered.values()):
            raise _refused("BOT_COMMAND_DESCRIPTION_INVALID")
        self.menus[str(asked.json("scope").get("type", "default"))] = offered
        await self.notify_changed()
        return True

    async def _answer_callback_query(self, asked: _Asked) -> bool:
        self.answered.append(asked["callback_query_id"])
        await self.notify_changed()
        return True


SIMULATOR = TelegramSimulator


def _user(person: Person) -> Json:
    return {"id": int(person.id), "is_bot": person.is_bot, "first_name": person.name, "username": person.name.lower()}


_UNAUTHORIZED = _ApiError(401, "Unauthorized")


def _refused(words: str) -> _ApiError:
    return _ApiError(400, f"Bad Request: {words}")


def _too_many(seconds: float) -> _ApiError:
    seconds = ceil(seconds) if seconds >= 1 else seconds
    return _ApiError(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)


def _emoji(emoji: str) -> Json:
    return {"type": "emoji", "emoji": emoji}


async def _asked(request: web.Request) -> _Asked:
    fields, files = dict(request.query), dict[str, tuple[str, bytes]]()
    for key, value in (await request.post()).items():
        if isinstance(value, web.FileField):
            with value.file as content:
                files[key] = (value.filename, content.read())
        elif isinstance(value, str):
            fields[key] = value
    return _Asked(fields, files)


def _words(asked: _Asked, key: str, limit: int, too_long: str) -> Read:
    mode, text = asked["parse_mode"], asked[key]
    if mode not in ("", "HTML"):
        raise _refused("unsupported parse_mode")
    found = read(text) if mode else Read(text)
    if utf16_length(found.text) > limit:
        raise _refused(too_long)
    return found


def _markup(asked: _Asked) -> Json:
    markup = asked.json("reply_markup")
    return {"reply_markup": markup} if markup else {}


def _buttons(asked: _Asked) -> list[tuple[str, str]]:
    """Labels and data, in order. Raises what the real one answers to a keyboard that it does not take."""
    rows = asked.json("reply_markup").get("inline_keyboard", [])
    assert isinstance(rows, list)
    found = [(str(one.get("text", "")), str(one.get("callback_data", ""))) for row in rows for one in row]
    if any(not label.strip() for label, _ in found):
        raise _refused("inline keyboard button text must be non-empty")
    if any(not 0 < len(data.encode()) <= CALLBACK_BYTES for _, data in found):
        raise _refused("BUTTON_DATA_INVALID")
    if len(found) > MOST_BUTTONS:
        raise _refused("REPLY_MARKUP_TOO_LONG")
    return found


def _entities(text: str) -> list[Json]:
    """As Telegram marks what a person typed; offsets in UTF-16."""
    found = [("mention", match) for match in _NAME.finditer(text)]
    found += [("bot_command", match) for match in _COMMAND.finditer(text) if match.start() == 0]
    return [
        {"type": kind, "offset": utf16_length(text[: match.start()]), "length": utf16_length(match[0])}
        for kind, match in found
    ]


def _reset(transport: asyncio.BaseTransport) -> None:
    """Cut the connection so that the other end sees a reset."""
    with suppress(OSError, AttributeError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(transport, asyncio.Transport):
        transport.abort()


async def _go_wrong(request: web.Request, fault: Fault) -> web.Response:
    match fault:
        case Fault.UNAUTHORIZED:
            return _UNAUTHORIZED.answer()
        case Fault.SERVER_ERROR:
            return _ApiError(500, "Internal Server Error").answer()
        case Fault.UNAVAILABLE:
            return unavailable()
        case Fault.NOT_JSON:
            return web.Response(text="<html><h1>It works!</h1></html>", content_type="text/html")
        case Fault.RESET_BEFORE | Fault.RESET_AFTER if request.transport is not None:
            _reset(request.transport)
    await asyncio.Event().wait()  # until the connection is gone
    raise AssertionError("nobody sets that event")


_GARBAGE: list[object] = [
    None,
    "update",
    5,
    [],
    {"update_id": "seven", "message": {}},
    {"update_id": None},
    {},
    {"brand_new_kind": {"a": 1}},
    {"message": "what"},
    {"message": {"message_id": 5}},
    {"message": {"message_id": "x", "date": "y", "chat": 7}},
    {"message": {"message_id": 6, "date": 10**18, "chat": {"id": 1, "type": "private"}, "text": "from nowhen"}},
    {"message": {"message_id": 7, "date": 1, "chat": {"id": 1, "type": "private"}, "text": {"not": "a string"}}},
    {"message": {"message_id": 8, "date": 1, "chat": {"id": 1, "type": "private"}, "new_chat_title": "x"}},
    {"edited_message": None},
    {"callback_query": {"id": "1"}},
    {"callback_query": {"id": "2", "from": {"id": 1, "is_bot": False, "first_name": "A"}, "chat_instance": "1"}},
    {"message_reaction": {"chat": {"id": 1, "type": "private"}}},
]
"""Updates as they never should be. Those without an id of their own are given a good one."""

"""Discord on loopback: the REST interface and the gateway, as far as discord.py and the channel use them, by its rules.

The gateway keeps each stream's events, so that a client that lost its connection gets them when it resumes; streams
that were forgotten are invalid. A nonce that is enforced makes a repeat the same message. Buttons must be answered
within three seconds. What a screen shows is the content with its marks read; a live mention pings everywhere, in code
too, unless allowed_mentions forbids it.

Ada's DM with the bot is `DM`; every other chat that people write in is a channel of one server.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, hdrs, web

from nanohost.rendering import Unit
from nanohost.rendering.message_form import text_length
from nanohost.testing.content import ContentKind
from nanohost.testing.simulator import (
    ADA,
    BOB,
    BOT,
    Fault,
    Faults,
    Person,
    ScreenMessage,
    make_edit,
    make_reaction,
    make_reaction_removal,
)
from nanohost.testing.simulators._discord_kinds import CONTENTS, IN_THREAD, KINDS
from nanohost.testing.simulators._discord_markdown import pings, shown
from nanohost.testing.simulators._served import ServedSimulator, Server
from nanohost.testing.simulators._unavailable import unavailable

TOKEN = "MTA.simulated.4242"  # noqa: S105 - of a platform that is none
ME = Person(id="900", name="nanohost", is_bot=True)
APPLICATION, GUILD, MY_ROLE = "901", "5000", "5009"
DM, GENERAL, THREAD = "70001001", "5001", "5101"

TEXT_LIMIT = 2_000
FILE_BYTES = 10 * 1024 * 1024
MESSAGE_CONTENT = 1 << 15
CONTENT_ALLOWED = 1 << 19
PRESS_LIMIT_S = 3.0
_COMMAND = re.compile(r"[-_a-z0-9]{1,32}")
_MENTION = f"<@{ME.id}> "

_DISPATCH, _HEARTBEAT, _IDENTIFY, _RESUME, _RECONNECT, _INVALID, _HELLO, _ACK = 0, 1, 2, 6, 7, 9, 10, 11
_PAGE_OF_HTML = "<!DOCTYPE html><html><title>Discord</title><p>We are working on it</p></html>"

Said = dict[str, Any]


class Denied(Exception):
    """Discord says no, in its own words."""

    def __init__(self, status: int, code: int, message: str, errors: Said | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.said = {"message": message, "code": code} | ({"errors": errors} if errors else {})


@dataclass
class Stream:
    """What one client of the gateway was told; the events have the numbers 1, 2, 3 …"""

    id: str
    events: list[tuple[str, object]] = field(default_factory=list)
    socket: web.WebSocketResponse | None = None
    compressor: Any = None

    async def say(self, op: int, data: object, *, name: str | None = None, number: int | None = None) -> None:
        await self.say_text(json.dumps({"op": op, "d": data, "t": name, "s": number}))

    async def say_text(self, text: str) -> None:
        if self.socket is None:
            return
        with suppress(ConnectionError):
            if self.compressor is None:
                await self.socket.send_str(text)
            else:
                raw = text.encode("utf-8", "surrogatepass")
                await self.socket.send_bytes(self.compressor.compress(raw) + self.compressor.flush(zlib.Z_SYNC_FLUSH))


@dataclass
class Press:
    """A press of a button that the bot has to answer."""

    id: str
    token: str
    at: float
    is_answered: bool = False
    answer: Said = field(default_factory=dict)
    """What the bot said to it."""


class DiscordSimulator(ServedSimulator["_Server"]):
    """One bot account, in one server."""

    name = "discord"
    dm = DM

    def __init__(self) -> None:
        super().__init__()
        self.reading = Faults()
        """What goes wrong with requests that only ask: who we are, where the gateway is, what was written."""
        self.allows_content = True
        """Whether the Message Content Intent is on."""
        self.closed_dms: set[str] = set()
        """DM chats whose people take nothing from the bot."""
        self.forbidden: set[str] = set()
        """Channels that the bot may not write in."""
        self.closes_resumed = False
        """Whoever wants to resume is cut off with a code, instead of being told that the stream is gone."""
        self.presses: list[Press] = []
        self.menu: dict[str, Said] = {}
        """The application's commands, by name."""
        self.identified = 0
        self.resumed = 0
        self._people = {person.id: person for person in (ADA, BOB, ME)}
        self._dms = {DM: ADA.id}
        self._threads = {THREAD: GENERAL}
        self._channels = {GENERAL}
        self._messages: dict[str, Said] = {}
        """Every message as Discord tells it, by its id."""
        self._nonces: dict[tuple[str, str], str] = {}
        self._files: dict[str, bytes] = {}
        self._streams: dict[str, Stream] = {}
        self._ids = itertools.count(1_000_000_000_000_000_000, 1_000)
        self._ticks = itertools.count()
        self._sending = asyncio.Lock()

    # --- life ---

    def settings(self) -> Mapping[str, str]:
        return {"token": TOKEN, "rest_url": f"http://{self.address}/api/v10"}

    def _serve(self) -> _Server:
        return _Server(self)

    def forget_connections(self) -> None:
        for stream in self._streams.values():
            stream.socket = None

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
        if message_id in self._messages:
            await self.tell("MESSAGE_CREATE", self._messages[message_id])
            return message_id
        self._know(person, chat, group=group, thread=thread)
        id = message_id or self.next_id()
        content = (_MENTION if mention else "") + text
        said = self._described(id, thread or chat, person, content, group=chat not in self._dms)
        message = ScreenMessage(id=id, chat=chat, text=text, raw=content, sender=person.id, thread=thread)
        if file is not None:
            said["attachments"] = [self._stored(*file)]
            message = replace(message, file_name=file[0], file_bytes=file[1])
        self._messages[id] = said
        await self.add_message(message)
        await self.tell("MESSAGE_CREATE", said)
        return id

    async def post(
        self,
        chat: str,
        content: Mapping[str, object],
        *,
        person: Person = ADA,
        group: bool = False,
        thread: str | None = None,
    ) -> str:
        """Somebody sends anything: `content` has the fields of Discord's message object beside those that every message
        has. A file may be given as its name. Returns the message's id."""
        self._know(person, chat, group=group, thread=thread)
        id, text = self.next_id(), str(content.get("content") or "")
        said = self._described(id, thread or chat, person, text, group=chat not in self._dms)
        self._messages[id] = said | self._completed(content, said["channel_id"])
        await self.add_message(ScreenMessage(id=id, chat=chat, text=text, raw=text, sender=person.id, thread=thread))
        await self.tell("MESSAGE_CREATE", self._messages[id])
        return id

    def examples(self) -> Mapping[ContentKind, Sequence[str]]:
        return CONTENTS

    async def send_example(self, name: str, chat: str, *, person: Person, group: bool) -> Sequence[str]:
        if name == IN_THREAD:  # a direct message has none
            return [await self.post(GENERAL, KINDS[name][0], person=person, group=True, thread=THREAD)]
        return [await self.post(chat, content, person=person, group=group) for content in KINDS[name]]

    async def delete(self, *message_ids: str, chat: str, person: Person = ADA) -> None:
        """Somebody deletes a message; or a moderator several at once, which Discord tells in one event."""
        gone = [self._messages.pop(id) for id in message_ids]
        self._screen_messages = [one for one in self._screen_messages if one.id not in message_ids]
        where = {key: gone[0][key] for key in ("channel_id", "guild_id") if key in gone[0]}
        if len(message_ids) == 1:
            await self.tell("MESSAGE_DELETE", {"id": message_ids[0]} | where)
        else:
            await self.tell("MESSAGE_DELETE_BULK", {"ids": list(message_ids)} | where)
        await self.notify_changed()

    async def reply(self, chat: str, text: str, *, to: str, person: Person = ADA) -> str:
        """Somebody answers a message by Discord's reply."""
        self._know(person, chat, group=chat not in self._dms, thread=None)
        id = self.next_id()
        said = self._described(id, chat, person, text, group=chat not in self._dms) | {"type": 19}
        said["message_reference"] = {"type": 0, "message_id": to, "channel_id": chat}
        said["referenced_message"] = self._messages[to]
        self._messages[id] = said
        await self.add_message(ScreenMessage(id=id, chat=chat, text=text, raw=text, sender=person.id, reply_to=to))
        await self.tell("MESSAGE_CREATE", said)
        return id

    async def press(self, message: ScreenMessage, label: str, *, person: Person = ADA) -> None:
        said = self._messages[message.id]
        buttons = [button for row in said["components"] for button in row["components"]]
        [custom_id] = [button["custom_id"] for button in buttons if button["label"] == label]
        await self.press_as(said, custom_id, person=person)

    async def press_as(self, said: Said, custom_id: str, *, person: Person = ADA) -> None:
        """Somebody presses a button with this id, which need not be there."""
        press = Press(id=self.next_id(), token=f"press-{self.next_id()}", at=time.monotonic())
        self.presses.append(press)
        event = {
            "id": press.id,
            "application_id": APPLICATION,
            "type": 3,
            "token": press.token,
            "version": 1,
            "channel_id": said["channel_id"],
            "message": said,
            "data": {"custom_id": custom_id, "component_type": 2},
        }
        await self.tell("INTERACTION_CREATE", event | self._by(person, said))

    async def choose(
        self, command: str, words: str = "", *, chat: str = DM, thread: str | None = None, person: Person = ADA
    ) -> Press:
        """Somebody chooses a command from the bot's menu, and fills in what it takes."""
        offered = self.menu[command]
        is_dm = chat in self._dms
        if (1 if is_dm else 0) not in offered["contexts"]:
            raise LookupError(f"/{command} is not offered there")
        press = Press(id=self.next_id(), token=f"command-{self.next_id()}", at=time.monotonic())
        self.presses.append(press)
        options = [{"name": offered["options"][0]["name"], "type": 3, "value": words}] if words else []
        event = {
            "id": press.id,
            "application_id": APPLICATION,
            "type": 2,
            "token": press.token,
            "version": 1,
            "channel_id": thread or chat,
            "data": {"id": self.next_id(), "name": command, "type": 1, "options": options},
        }
        await self.tell("INTERACTION_CREATE", event | self._by(person, {} if is_dm else {"guild_id": GUILD}))
        return press

    async def react(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        await self.update_message(message_id, make_reaction(emoji), chat=chat)
        said = self._messages[message_id]
        event = self._reaction(said, emoji, person) | {"burst_colors": []}
        if "guild_id" in said:
            event |= {"member": self._by(person, said)["member"]}
        await self.tell("MESSAGE_REACTION_ADD", event)

    async def remove_reaction(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody takes a reaction back. Discord tells only the id of who did."""
        await self.update_message(message_id, make_reaction_removal(emoji), chat=chat)
        await self.tell("MESSAGE_REACTION_REMOVE", self._reaction(self._messages[message_id], emoji, person))

    def _reaction(self, said: Said, emoji: str, person: Person) -> Said:
        event: Said = {"user_id": person.id, "channel_id": said["channel_id"], "message_id": said["id"], "type": 0}
        event |= {"emoji": {"id": None, "name": emoji}, "burst": False}
        return event | ({"guild_id": GUILD} if "guild_id" in said else {})

    async def edit(self, message_id: str, text: str, *, chat: str, person: Person = ADA, mention: bool = False) -> None:
        text = (_MENTION if mention else "") + text
        self._messages[message_id] |= {"content": text, "edited_timestamp": self._now()} | self._mentioned(text)
        await self.update_message(message_id, make_edit(text, text), chat=chat)
        await self.tell("MESSAGE_UPDATE", self._messages[message_id])

    async def preview(self, message_id: str) -> None:
        """Discord adds a preview to a message, which it tells as a change that nobody made."""
        await self.tell("MESSAGE_UPDATE", self._messages[message_id] | {"embeds": [{"type": "link"}]})

    async def send_garbage(self) -> None:
        for stream in list(self._streams.values()):
            for text in _GARBAGE:
                await stream.say_text(text)
        for name, said in _GARBAGE_EVENTS:
            await self.tell(name, said)

    def acknowledged(self) -> Sequence[str]:
        """Discord expects none: the stream's number is the client's own affair."""
        return ()

    # --- the gateway ---

    @property
    def is_listened_to(self) -> bool:
        return any(stream.socket is not None for stream in self._streams.values())

    def forget_streams(self) -> None:
        """Nobody can resume any more: what was not heard is in the chats only."""
        self._streams.clear()

    def cut_sockets(self) -> None:
        """The connections are reset; the server stays."""
        for stream in self._streams.values():
            if stream.socket is not None and self._server is not None:
                self._server.cut_off(stream.socket)
            stream.socket = None

    async def ask_to_reconnect(self) -> None:
        """Discord's polite way: a new connection, please."""
        for stream in self._streams.values():
            await stream.say(_RECONNECT, None)
            stream.socket = None

    async def tell(self, name: str, said: object) -> None:
        """Put an event into every stream."""
        async with self._sending:
            for stream in self._streams.values():
                stream.events.append((name, said))
                await stream.say(_DISPATCH, said, name=name, number=len(stream.events))

    async def attend(self, socket: web.WebSocketResponse, *, compress: bool) -> None:
        """One connection to the gateway, until it ends."""
        compressor = zlib.compressobj() if compress else None
        stream = Stream(id="", socket=socket, compressor=compressor)
        await stream.say(_HELLO, {"heartbeat_interval": 41_250})
        try:
            async for frame in socket:
                if frame.type is WSMsgType.TEXT:
                    stream = await self._hear(json.loads(frame.data), stream)
        finally:
            if stream.socket is socket:
                stream.socket = None
            if socket.close_code in (1000, 1001):
                self._streams.pop(stream.id, None)
            await self.notify_changed()

    async def _hear(self, said: Said, stream: Stream) -> Stream:
        data = said.get("d")
        match said.get("op"):
            case 1:
                await stream.say(_ACK, None)
            case 2 if isinstance(data, dict):
                return await self._identify(data, stream)
            case 6 if isinstance(data, dict):
                return await self._resume(data, stream)
        return stream

    async def _identify(self, data: Said, stream: Stream) -> Stream:
        assert stream.socket is not None
        if data["token"] != TOKEN:
            await stream.socket.close(code=4004, message=b"Authentication failed.")
            return stream
        if data["intents"] & MESSAGE_CONTENT and not self.allows_content:
            await stream.socket.close(code=4014, message=b"Disallowed intent(s).")
            return stream
        self.identified += 1
        stream.id = f"stream-{self.next_id()}"
        ready = {
            "v": 10,
            "user": _user(ME),
            "session_id": stream.id,
            "resume_gateway_url": f"ws://{self.address}/gateway",
            "guilds": [{"id": GUILD, "unavailable": True}],
            "application": {"id": APPLICATION, "flags": CONTENT_ALLOWED},
        }
        async with self._sending:
            stream.events = [("READY", ready), ("GUILD_CREATE", self._guild())]
            self._streams[stream.id] = stream
            await self._replay(stream, 0)
        await self.notify_changed()
        return stream

    async def _resume(self, data: Said, stream: Stream) -> Stream:
        if self.closes_resumed and stream.socket is not None:
            await stream.socket.close(code=4007, message=b"Invalid seq")
            return stream
        known = self._streams.get(str(data["session_id"]))
        if known is None or data["seq"] > len(known.events):
            await stream.say(_INVALID, False)
            return stream
        self.resumed += 1
        async with self._sending:
            known.socket, known.compressor = stream.socket, stream.compressor
            await self._replay(known, data["seq"])
            known.events.append(("RESUMED", {}))
            await known.say(_DISPATCH, {}, name="RESUMED", number=len(known.events))
        await self.notify_changed()
        return known

    async def _replay(self, stream: Stream, after: int) -> None:
        for number, (name, said) in enumerate(stream.events[after:], after + 1):
            await stream.say(_DISPATCH, said, name=name, number=number)

    def _guild(self) -> Said:
        return {
            "id": GUILD,
            "name": "Simulated",
            "unavailable": False,
            "channels": [
                {"id": id, "type": 0, "name": "general", "last_message_id": self._last(id)} for id in self._channels
            ],
            "threads": [
                {"id": id, "type": 11, "name": "a thread", "parent_id": chat, "last_message_id": self._last(id)}
                for id, chat in self._threads.items()
            ],
            "roles": _ROLES,
        }

    # --- REST ---

    async def me(self, _: Said) -> object:
        return _user(ME)

    async def application(self, _: Said) -> object:
        flags = CONTENT_ALLOWED if self.allows_content else 0
        return {"id": APPLICATION, "name": "nanohost", "flags": flags, "approximate_guild_count": 1}

    async def gateway(self, _: Said) -> object:
        return {"url": f"ws://{self.address}/gateway"}

    async def open_dm(self, asked: Said) -> object:
        person = self._people.get(str(asked.get("recipient_id")))
        if person is None:
            raise Denied(400, 50033, "Invalid Recipient(s)")
        chat = next((chat for chat, one in self._dms.items() if one == person.id), f"7000{person.id}")
        self._dms[chat] = person.id
        return {"id": chat, "type": 1, "recipients": [_user(person)]}

    async def channel(self, asked: Said) -> object:
        id = self._channel(asked)
        if id in self._threads:
            return {"id": id, "type": 11, "guild_id": GUILD, "parent_id": self._threads[id], "name": "a thread"}
        if id in self._dms:
            return {"id": id, "type": 1, "recipients": [_user(self._people[self._dms[id]])]}
        return {"id": id, "type": 0, "guild_id": GUILD, "name": "general"}

    async def roles(self, asked: Said) -> object:
        if asked["guild"] != GUILD:
            raise Denied(404, 10004, "Unknown Guild")
        return _ROLES

    async def message(self, asked: Said) -> object:
        said = self._message(self._channel(asked), asked)
        return {key: said[key] for key in said if key not in ("guild_id", "member")}

    async def history(self, asked: Said) -> object:
        id, after, limit = self._channel(asked), int(asked.get("after") or 0), int(asked.get("limit") or 50)
        if not 1 <= limit <= 100:
            raise Denied(400, 50035, "Invalid Form Body", {"limit": _wrong("NUMBER_TYPE_MAX", "too many")})
        found = [said for said in self._messages.values() if said["channel_id"] == id and int(said["id"]) > after]
        oldest = sorted(found, key=lambda said: int(said["id"]))[:limit]
        # Newest first, and without what the gateway adds.
        return [{key: one[key] for key in one if key not in ("guild_id", "member")} for one in reversed(oldest)]

    async def create_message(self, asked: Said) -> object:
        id = self._channel(asked, writing=True)
        nonce = str(asked.get("nonce") or "")
        if len(nonce) > 25:
            raise Denied(400, 50035, "Invalid Form Body", {"nonce": _wrong("BASE_TYPE_MAX_LENGTH", "25 or fewer")})
        if asked.get("enforce_nonce") and (known := self._nonces.get((id, nonce))):
            return self._messages[known]
        said = self._described(self.next_id(), id, ME, self._content(asked), group=id not in self._dms)
        said |= {"components": _checked(asked.get("components") or []), "nonce": nonce}
        self._nonces[id, nonce] = said["id"]
        self._messages[said["id"]] = said
        await self.add_message(self._composed(asked, said))
        await self.tell("MESSAGE_CREATE", said)
        return said

    async def patch(self, asked: Said) -> object:
        id = self._channel(asked, writing=True)
        said = self._message(id, asked)
        if said["author"]["id"] != ME.id:
            raise Denied(403, 50005, "Cannot edit a message authored by another user")
        said |= {"content": self._content(asked), "edited_timestamp": self._now()}
        if "components" in asked:
            said["components"] = _checked(asked["components"])
        after = self._composed(asked, said)

        def change(one: ScreenMessage) -> ScreenMessage:
            return replace(
                one,
                text=after.text,
                raw=after.raw,
                buttons=after.buttons,
                notified=after.notified,
                edit_count=one.edit_count + 1,
            )

        await self.update_message(said["id"], change, chat=after.chat)
        await self.tell("MESSAGE_UPDATE", said)
        return said

    async def put_reaction(self, asked: Said) -> object:
        said = self._message(self._channel(asked), asked)
        emoji = str(asked["emoji"])
        if emoji.isascii():
            raise Denied(400, 10014, "Unknown Emoji")

        def change(one: ScreenMessage) -> ScreenMessage:
            return one if emoji in one.reactions else make_reaction(emoji)(one)

        chat = self._threads.get(said["channel_id"], said["channel_id"])
        await self.update_message(said["id"], change, chat=str(chat))
        return None

    async def show_typing(self, asked: Said) -> object:
        id = self._channel(asked, writing=True)
        self.typing.append(id)
        await self.notify_changed()
        return None

    async def put_commands(self, asked: Said) -> object:
        if str(asked["application"]) != APPLICATION:
            raise Denied(404, 10002, "Unknown Application")
        offered = list(asked["list"])
        for one in offered:
            texts = [one["description"], *(option["description"] for option in one.get("options", []))]
            if not _COMMAND.fullmatch(one["name"]) or any(not 1 <= len(text) <= 100 for text in texts):
                raise Denied(400, 50035, "Invalid Form Body", {one["name"]: _wrong("BASE_TYPE_BAD_LENGTH", "1 to 100")})
        self.menu = {one["name"]: one for one in offered}
        await self.notify_changed()
        return [{**one, "id": self.next_id(), "application_id": APPLICATION} for one in offered]

    async def answer_press(self, asked: Said) -> object:
        for press in self.presses:
            if (press.id, press.token) == (asked["id"], asked["token"]):
                if press.is_answered:
                    raise Denied(400, 40060, "Interaction has already been acknowledged.")
                if time.monotonic() - press.at <= PRESS_LIMIT_S:
                    press.is_answered, press.answer = True, asked
                    await self.notify_changed()
                    return None
        raise Denied(404, 10062, "Unknown interaction")

    def file(self, id: str) -> bytes | None:
        return self._files.get(id)

    def forget_files(self) -> None:
        """The addresses of files run out."""
        self._files.clear()

    # --- what there is ---

    def next_id(self) -> str:
        return str(next(self._ids) + self.id_offset * 1_000)

    def _channel(self, asked: Said, *, writing: bool = False) -> str:
        id = str(asked["channel"])
        if not id.isdigit():
            raise Denied(400, 50035, "Invalid Form Body", {"channel_id": _wrong("NUMBER_TYPE_COERCE", "not snowflake")})
        if id not in self._dms and id not in self._threads and id not in self._channels:
            raise Denied(404, 10003, "Unknown Channel")
        if writing and id in self.closed_dms:
            raise Denied(403, 50007, "Cannot send messages to this user")
        if writing and id in self.forbidden:
            raise Denied(403, 50013, "Missing Permissions")
        return id

    def _message(self, channel: str, asked: Said) -> Said:
        said = self._messages.get(str(asked["message"]))
        if said is None or said["channel_id"] != channel:
            raise Denied(404, 10008, "Unknown Message")
        return said

    def _content(self, asked: Said) -> str:
        content = str(asked.get("content") or "")
        if text_length(content, Unit.UTF16) > TEXT_LIMIT:
            wrong = _wrong("BASE_TYPE_MAX_LENGTH", f"Must be {TEXT_LIMIT} or fewer in length.")
            raise Denied(400, 50035, "Invalid Form Body", {"content": wrong})
        if not content.strip() and not asked.get("file"):
            raise Denied(400, 50006, "Cannot send an empty message")
        return content

    def _composed(self, asked: Said, said: Said) -> ScreenMessage:
        """A message of the bot's on the screen."""
        channel = said["channel_id"]
        thread = channel if channel in self._threads else None
        name, content = asked.get("file") or (None, b"")
        if len(content) > FILE_BYTES:
            raise Denied(413, 40005, "Request entity too large")
        return ScreenMessage(
            id=said["id"],
            chat=self._threads[thread] if thread else channel,
            text=shown(said["content"]),
            raw=said["content"],
            sender=BOT,
            thread=thread,
            reply_to=(asked.get("message_reference") or {}).get("message_id"),
            buttons=tuple(button["label"] for row in said.get("components", ()) for button in row["components"]),
            file_name=name,
            file_bytes=content,
            notified=pings(said["content"], asked.get("allowed_mentions")),
        )

    def _described(self, id: str, channel: str, person: Person, content: str, *, group: bool) -> Said:
        """A message as Discord tells it."""
        said: Said = {
            "id": id,
            "channel_id": channel,
            "type": 0,
            "author": _user(person),
            "content": content,
            "timestamp": self._now(),
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": False,
            **self._mentioned(content),
            "attachments": [],
            "embeds": [],
            "components": [],
            "pinned": False,
            "flags": 0,
        }
        if group:
            said |= {"guild_id": GUILD, "member": {"nick": None, "roles": [], "joined_at": self._now()}}
        return said

    def _mentioned(self, content: str) -> Said:
        return {
            "mentions": [_user(one) for one in self._people.values() if f"<@{one.id}>" in content],
            "mention_roles": [role["id"] for role in _ROLES if f"<@&{role['id']}>" in content],
        }

    def _completed(self, content: Mapping[str, object], channel: str) -> Said:
        """The fields as Discord sends them: files have an address, what others said a time and a place."""
        whole = dict(content)
        if isinstance(files := whole.get("attachments"), list):
            whole["attachments"] = [self._stored(one, one.encode()) if isinstance(one, str) else one for one in files]
        if isinstance(answered := whole.get("referenced_message"), dict):
            base = self._described("41", channel, BOB, str(answered.get("content") or ""), group=False)
            base |= self._completed(answered, channel)
            whole["referenced_message"] = base
            whole.setdefault("message_reference", {"type": 0, "message_id": base["id"], "channel_id": channel})
        if isinstance(snapshots := whole.get("message_snapshots"), list):
            whole["message_snapshots"] = [{"message": self._snapshot(one["message"], channel)} for one in snapshots]
        return whole

    def _snapshot(self, message: Mapping[str, object], channel: str) -> Said:
        """What Discord passes on of a message: neither its id nor who wrote it."""
        content = str(message.get("content") or "")
        told = {"type": 0, "content": content, "timestamp": _PASSED_ON_AT, "edited_timestamp": None, "flags": 0}
        told |= {"embeds": [], "attachments": [], "components": []} | self._mentioned(content)
        return told | self._completed(message, channel)

    def _by(self, person: Person, said: Said) -> Said:
        if "guild_id" not in said:
            return {"user": _user(person)}
        return {"guild_id": GUILD, "member": {"user": _user(person), "nick": None, "roles": []}}

    def _stored(self, name: str, content: bytes) -> Said:
        id = self.next_id()
        self._files[id] = content
        url = f"http://{self.address}/cdn/{id}/{name}?ex=1&hm=2"
        return {"id": id, "filename": name, "size": len(content), "url": url, "proxy_url": url}

    def _know(self, person: Person, chat: str, *, group: bool, thread: str | None) -> None:
        self._people.setdefault(person.id, person)
        if chat not in self._dms and not group and chat not in self._channels:
            self._dms[chat] = person.id
        elif chat not in self._dms:
            self._channels.add(chat)
        if thread is not None:
            self._threads[thread] = chat

    def _last(self, channel: str) -> str | None:
        ids = [int(said["id"]) for said in self._messages.values() if said["channel_id"] == channel]
        return str(max(ids)) if ids else None

    def _now(self) -> str:
        """Later each time."""
        return (datetime(2030, 1, 1, tzinfo=UTC) + timedelta(microseconds=next(self._ticks))).isoformat()


SIMULATOR = DiscordSimulator
OTHER_ROLE = "5010"
_ROLES: list[Said] = [
    {"id": MY_ROLE, "name": "nanohost", "tags": {"bot_id": ME.id}},
    {"id": OTHER_ROLE, "name": "cooks"},
    {"id": GUILD, "name": "@everyone"},
]
_PASSED_ON_AT = "2026-09-21T14:13:20+00:00"


def _user(person: Person) -> Said:
    return {
        "id": person.id,
        "username": person.name.lower(),
        "global_name": person.name,
        "discriminator": "0",
        "avatar": None,
        "bot": person.is_bot,
    }


def _wrong(code: str, message: str) -> Said:
    return {"_errors": [{"code": code, "message": message}]}


def _checked(rows: list[Said]) -> list[Said]:
    """The rows of buttons. Raises Denied."""
    buttons = [button for row in rows for button in row["components"]]
    ids = [button["custom_id"] for button in buttons]
    if (
        len(rows) > 5
        or any(not 1 <= len(row["components"]) <= 5 for row in rows)
        or any(not 1 <= len(button["label"]) <= 80 or not 1 <= len(button["custom_id"]) <= 100 for button in buttons)
        or len(set(ids)) != len(ids)
    ):
        wrong = _wrong("BASE_TYPE_BAD_LENGTH", "Must be between 1 and 5 in length.")
        raise Denied(400, 50035, "Invalid Form Body", {"components": wrong})
    return rows


Handler = Callable[[Said], Awaitable[object]]


class _Server(Server):
    """Discord on a port."""

    def __init__(self, simulator: DiscordSimulator) -> None:
        self._simulator = simulator
        self._sockets: dict[web.WebSocketResponse, asyncio.Transport] = {}
        api, messages = "/api/v10", "/api/v10/channels/{channel}/messages"
        routes: list[tuple[str, str, Handler, bool]] = [
            ("GET", f"{api}/users/@me", simulator.me, False),
            ("GET", f"{api}/oauth2/applications/@me", simulator.application, False),
            ("GET", f"{api}/gateway", simulator.gateway, False),
            ("POST", f"{api}/users/@me/channels", simulator.open_dm, False),
            ("GET", f"{api}/channels/{{channel}}", simulator.channel, False),
            ("GET", f"{api}/guilds/{{guild}}/roles", simulator.roles, False),
            ("GET", messages, simulator.history, False),
            ("GET", messages + "/{message}", simulator.message, False),
            ("POST", messages, simulator.create_message, True),
            ("PATCH", messages + "/{message}", simulator.patch, True),
            ("PUT", messages + "/{message}/reactions/{emoji}/@me", simulator.put_reaction, True),
            ("POST", f"{api}/channels/{{channel}}/typing", simulator.show_typing, False),
            ("PUT", f"{api}/applications/{{application}}/commands", simulator.put_commands, False),
            ("POST", f"{api}/interactions/{{id}}/{{token}}/callback", simulator.answer_press, False),
        ]
        served = [
            web.route(method, path, self._serving(handler, has_faults=has)) for method, path, handler, has in routes
        ]
        super().__init__(
            [*served, web.get("/gateway", self._gateway), web.get("/cdn/{id}/{name}", self._file)],
        )

    def cut_off(self, socket: web.WebSocketResponse) -> None:
        self._sockets[socket].abort()

    def _serving(self, handler: Handler, *, has_faults: bool) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def serve(request: web.Request) -> web.StreamResponse:
            asked = dict(request.query) | await _asked(request) | dict(request.match_info)
            if request.headers.get("Authorization") != f"Bot {TOKEN}":
                return _json({"message": "401: Unauthorized", "code": 0}, status=401)
            faults = self._simulator.faults if has_faults else self._simulator.reading
            if not has_faults and request.method != "GET":
                return await _carry_out(handler, asked)
            if limited := _limited(faults, str(asked.get("channel"))):
                return limited
            return await self._befall(faults.take(), request, handler, asked)

        return serve

    async def _befall(
        self, fault: Fault | None, request: web.Request, handler: Handler, asked: Said
    ) -> web.StreamResponse:
        match fault:
            case None:
                return await _carry_out(handler, asked)
            case Fault.SERVER_ERROR:
                return web.Response(status=500, text="<html>Internal Server Error</html>", content_type="text/html")
            case Fault.UNAVAILABLE:
                return unavailable()
            case Fault.UNAUTHORIZED:
                return _json({"message": "401: Unauthorized", "code": 0}, status=401)
            case Fault.NOT_JSON:
                return web.Response(text=_PAGE_OF_HTML, content_type="text/html")
            case Fault.HANG:
                await self.stopping.wait()
            case Fault.RESET_AFTER:
                await _carry_out(handler, asked)
            case Fault.RESET_BEFORE:
                pass
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _gateway(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(heartbeat=None, max_msg_size=0)
        await socket.prepare(request)
        if request.transport is not None:
            self._sockets[socket] = request.transport
        if request.query.get("v") != "10" or request.query.get("encoding") != "json":
            await socket.close(code=4012, message=b"Invalid API version")
            return socket
        try:
            await self._simulator.attend(socket, compress=request.query.get("compress") == "zlib-stream")
        finally:
            del self._sockets[socket]
            with suppress(Exception):
                await socket.close(code=WSCloseCode.GOING_AWAY)
        return socket

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            return web.Response(status=400, text="the token is shown to a stranger")
        if self._simulator.should_serve_error_page:
            return web.Response(text=_PAGE_OF_HTML, content_type="text/html")
        content = self._simulator.file(request.match_info["id"])
        return web.Response(status=404) if content is None else web.Response(body=content)


def _limited(faults: Faults, channel: str) -> web.Response | None:
    is_global = faults.limits.get(channel, (0, 0.0))[0] <= 0
    wait_s = faults.retry_after_s(channel)
    if wait_s is None:
        return None
    said = {"message": "You are being rate limited.", "retry_after": wait_s, "global": is_global}
    scope = "global" if is_global else "user"
    headers = {"Via": "1.1 simulated", "Retry-After": f"{wait_s:.0f}", "X-RateLimit-Scope": scope}
    return _json(said, status=429, headers=headers)


async def _carry_out(handler: Handler, asked: Said) -> web.Response:
    try:
        said = await handler(asked)
    except Denied as denied:
        return _json(denied.said, status=denied.status)
    return web.Response(status=204) if said is None else _json(said)


def _json(said: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """The client library reads JSON only where the type says exactly this, with no charset behind it."""
    return web.Response(
        body=json.dumps(said).encode(),
        status=status,
        headers={**(headers or {}), hdrs.CONTENT_TYPE: "application/json"},
    )


async def _asked(request: web.Request) -> Said:
    if request.content_type == "application/json":
        said = await request.json()
        return said if isinstance(said, dict) else {"list": said}
    if request.content_type != "multipart/form-data":
        return {}
    asked: Said = {}
    form = await request.post()
    for key, value in form.items():
        if isinstance(value, web.FileField) and key.startswith("files["):
            asked["file"] = (value.filename, value.file.read())
        elif key == "payload_json":
            raw = value.file.read() if isinstance(value, web.FileField) else value
            asked |= json.loads(raw)
    return asked


_GARBAGE = (
    "",
    "hello",
    "{",
    "[]",
    "null",
    "7",
    '"text"',
    "{}",
    '{"op": null}',
    '{"op": 99, "d": {}}',
    '{"op": "0", "d": 5}',
    '{"op": 0, "t": "MESSAGE_CREATE"}',
    '{"op": 0, "t": ["MESSAGE_CREATE"], "d": {}}',
    '{"op": 0, "t": "SOMETHING_NEW", "d": {}, "s": "seven"}',
    "[" * 100_000,
)
_GARBAGE_EVENTS: tuple[tuple[str, object], ...] = (
    ("MESSAGE_CREATE", None),
    ("MESSAGE_CREATE", []),
    ("MESSAGE_CREATE", {"id": 5}),
    ("MESSAGE_CREATE", {"id": "../..", "channel_id": {}, "author": 7, "content": None}),
    ("MESSAGE_CREATE", {"id": "1", "channel_id": DM, "author": {"id": "x" * 1000}, "timestamp": "yesterday"}),
    ("MESSAGE_UPDATE", {"id": "1", "channel_id": DM}),
    ("MESSAGE_REACTION_ADD", {"user_id": "1001", "emoji": "?"}),
    ("INTERACTION_CREATE", {"id": "1", "type": "button", "token": None}),
    ("INTERACTION_CREATE", {"id": "1", "type": 2, "token": "t", "channel_id": DM}),
    ("GUILD_CREATE", {"channels": "many"}),
    ("THREAD_CREATE", 0),
    ("PRESENCE_UPDATE", {"user": {}}),
    ("SOMETHING_NEW", {"a": [1]}),
)

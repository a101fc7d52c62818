"""Slack on loopback: the Web API and Socket Mode, as far as slack-bolt and the channel use them, with Slack's rules.

An envelope that was not acknowledged comes again on the next connection, with the number of the retry. What a screen
shows is what is left of a markdown block, or of mrkdwn, when its marks are read; a live `<!channel>` pings everywhere,
in code too. Chats whose ids begin with D are DMs: Ada's is D1001.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import WSMsgType, web

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
from nanohost.testing.simulators._served import ServedSimulator, Server
from nanohost.testing.simulators._slack_kinds import CONTENTS, IN_THREAD, KINDS, RENAMED, REPLY, ROOT
from nanohost.testing.simulators._unavailable import unavailable
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout

BOT_TOKEN = "xoxb-simulated-4242"  # noqa: S105 - of a platform that is none
APP_TOKEN = "xapp-simulated-4242"  # noqa: S105
ME, MY_BOT, TEAM = "U0NANOHOST", "B0NANOHOST", "T0SIMULATED"

MARKDOWN_LIMIT = 12_000
BLOCKS_LIMIT = 13_200
"""Of all blocks together. Slack does not document it; apps have met it."""
TEXT_LIMIT = 40_000
SCOPES = (
    "app_mentions:read,channels:history,channels:read,chat:write,files:read,files:write,groups:history,groups:read,"
    "im:history,im:read,im:write,mpim:history,mpim:read,reactions:read,reactions:write,users:read"
)

_EMOJI = {"+1": "👍", "-1": "👎", "eyes": "👀", "white_check_mark": "✅", "x": "❌", "heart": "❤", "tada": "🎉"}
A_CHANNEL, ITS_NEW_ID = "C500", "C900"
_TUESDAY = "The meeting is on Tuesday at 5"
_LOGIN_PAGE = "<!DOCTYPE html><html><title>Slack</title><p>Sign in to your workspace</p></html>"

Asked = dict[str, Any]
Answer = dict[str, Any]


class Denied(Exception):
    """Slack says no; the text is its word for it."""

    def __init__(self, error: str, *messages: str) -> None:
        super().__init__(error)
        self.messages = messages


@dataclass
class Envelope:
    """Something for the app, until it is acknowledged. `about`: the person's message it tells of."""

    id: str
    type: str
    payload: object
    about: str | None = None
    sent: int = 0

    def as_text(self) -> str:
        said = {"type": self.type, "envelope_id": self.id, "payload": self.payload, "accepts_response_payload": False}
        if self.sent:
            said |= {"retry_attempt": self.sent, "retry_reason": "timeout"}
        return json.dumps(said)


@dataclass
class StoredFile:
    """`shared`: the ts of its message, by channel."""

    id: str
    name: str
    content: bytes
    length: int
    shared: dict[str, str] = field(default_factory=dict)


class SlackSimulator(ServedSimulator["_Server"]):
    """One workspace with one app in it."""

    name = "slack"
    dm = "D1001"

    def __init__(self) -> None:
        super().__init__()
        self.opening = Faults()
        """What goes wrong with asking for a connection: Slack's apps.connections.open."""
        self.archived: set[str] = set()
        """Channels that take no message."""
        self.refuses_markup = 0
        """How many messages with blocks are still refused for their blocks."""
        self.most_a_page = 200
        self.is_mute = False
        """Connections stay open and say nothing, not even that they live."""
        self.shows_login_page = False
        """Instead of a file, whatever token is brought."""
        self.shares_late = False
        """Files that are taken are shared when `share_late` is called, as Slack does after it has scanned them."""
        self._late: list[tuple[StoredFile, ScreenMessage]] = []
        self.size_told: int | None = None
        """What is said of the size of files, when it is not the truth."""
        self.lies_at = ""
        """Where files are said to lie, when it is not here."""
        self.connections = 0
        """How many sockets were opened so far."""
        self.calls: list[str] = []
        """The methods that were called, in order."""
        self.garbage_sent = 0
        self.garbage_acknowledged = 0
        """Of the envelopes among the garbage."""
        self._numbers = itertools.count(1)
        self._people = {person.id: person for person in (ADA, BOB)}
        self._metadata: dict[tuple[str, str], object] = {}
        self._blocks: dict[tuple[str, str], Sequence[Mapping[str, Any]]] = {}
        self._graves: dict[tuple[str, str], Asked] = {}
        """What is left of deleted messages with replies, by chat and ts."""
        self._files: dict[str, StoredFile] = {}
        self._events: dict[str, list[tuple[str, Asked]]] = {}
        self._unacknowledged: dict[str, Envelope] = {}
        self._acknowledged: list[str] = []
        self._sockets: list[web.WebSocketResponse] = []
        self._sending = asyncio.Lock()
        self._last = 0

    # --- life ---

    def settings(self) -> Mapping[str, str]:
        return {
            "bot_token": BOT_TOKEN,
            "app_token": APP_TOKEN,
            "base_url": f"http://127.0.0.1:{self._port.number}/api/",
        }

    def _serve(self) -> _Server:
        return _Server(self)

    def forget_connections(self) -> None:
        self._sockets.clear()

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
        if message_id in self._events:
            await self._tell_events(message_id)
            return message_id
        ts = message_id or self.next_ts()
        self._people.setdefault(person.id, person)
        wire = (f"<@{ME}> " if mention else "") + _escaped(text)
        event: Asked = {"type": "message", "channel": chat, "text": wire, "ts": ts, "event_ts": ts}
        event |= {"channel_type": _type_of(chat)} | ({"thread_ts": thread} if thread else {})
        event |= _author(person)
        shown = ScreenMessage(id=ts, chat=chat, text=text, raw=wire, sender=person.id, thread=thread)
        if file is not None:
            stored = self.store_file(*file)
            event |= {"subtype": "file_share", "files": [self.describe(stored)]}
            shown = replace(shown, file_name=stored.name, file_bytes=stored.content)
        await self.add_message(shown)
        self._keep_events(ts, event, mentions=mention)
        await self._tell_events(ts)
        return ts

    async def post(
        self,
        chat: str,
        content: Mapping[str, object],
        *,
        person: Person = ADA,
        group: bool = False,
        thread: str | None = None,
        message_id: str | None = None,
        heard: bool = True,
    ) -> str:
        """Somebody sends anything: `content` has the fields of Slack's message event beside those that every message
        has. A file may be given as its name. `heard`: False where the bot is not there yet. Returns the message's ts.
        """
        ts = message_id or self.next_ts()
        self._people.setdefault(person.id, person)
        event: Asked = {"type": "message", "channel": chat, "ts": ts, "event_ts": ts, "channel_type": _type_of(chat)}
        event |= ({"thread_ts": thread} if thread else {}) | ({} if "bot_id" in content else _author(person))
        event |= self._completed(content)
        text = event.get("text")
        wire = text if isinstance(text, str) else ""
        await self.add_message(
            ScreenMessage(id=ts, chat=chat, text=_read_mrkdwn(wire), raw=wire, sender=person.id, thread=thread)
        )
        self._keep_events(ts, event, mentions=f"<@{ME}" in json.dumps(content))
        if heard:
            await self._tell_events(ts)
        return ts

    def _keep_events(self, ts: str, event: Asked, *, mentions: bool) -> None:
        """What Slack tells of a message, now and whenever it tells it again: a mention in a channel is told twice."""
        self._events[ts] = [("events_api", self._callback(event))]
        if mentions and _type_of(str(event["channel"])) != "im":
            twin = {key: value for key, value in event.items() if key not in ("channel_type", "subtype")}
            self._events[ts].append(("events_api", self._callback(twin | {"type": "app_mention"})))

    async def _tell_events(self, ts: str) -> None:
        for type_, payload in self._events[ts]:
            await self._deliver(type_, payload, about=ts)

    def _completed(self, content: Mapping[str, object]) -> Asked:
        whole = dict(content)
        if isinstance(files := whole.get("files"), list):
            whole["files"] = [
                self.describe(self.store_file(one, one.encode())) if isinstance(one, str) else one for one in files
            ]
        if isinstance(shared := whole.get("attachments"), list):
            whole["attachments"] = [self._completed(one) if isinstance(one, dict) else one for one in shared]
        return whole

    def examples(self) -> Mapping[ContentKind, Sequence[str]]:
        return CONTENTS

    async def send_example(self, name: str, chat: str, *, person: Person, group: bool) -> Sequence[str]:
        if name == RENAMED:  # a direct message is none
            await self.rename(A_CHANNEL, ITS_NEW_ID)
            return ()
        if name in (IN_THREAD, REPLY):
            return [await self._send_in_thread(name, person)]
        return [await self.post(chat, content, person=person, group=group) for content in KINDS[name]]

    async def _send_in_thread(self, kind: str, person: Person) -> str:
        """Somebody writes below what Bob wrote in a channel; direct messages are one conversation. For a REPLY the bot
        was not there before: it is called by its name."""
        root, text = self.next_ts(), str(KINDS[kind][0]["text"])
        if kind == REPLY:
            root, text = ROOT, f"<@{ME}> {text}"
            await self.post(A_CHANNEL, {"text": _TUESDAY}, person=BOB, group=True, message_id=root, heard=False)
        return await self.post(A_CHANNEL, {"text": text}, person=person, group=True, thread=root)

    async def rename(self, old: str, new: str) -> None:
        """A channel is shared with another organisation, or no more, and gets another id by that."""
        event = {"type": "channel_id_changed", "old_channel_id": old, "new_channel_id": new}
        await self._deliver("events_api", self._callback(event | {"event_ts": self.next_ts()}))

    async def delete(self, message_id: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody deletes a message. Of one with replies a tombstone is left."""
        before = next(one for one in self.screen(chat, sender=None) if one.id == message_id)
        replies = [one for one in self.screen(chat, sender=None) if one.thread == message_id != one.id]
        self._screen_messages.remove(before)
        was = self._in_history(before, with_metadata=False)
        event: Asked = {"type": "message", "channel": chat, "channel_type": _type_of(chat), "hidden": True}
        event |= {"previous_message": was, "ts": self.next_ts()}
        if replies:
            grave = {"type": "message", "subtype": "tombstone", "text": "This message was deleted.", "hidden": True}
            grave |= {"user": "USLACKBOT", "ts": message_id, "thread_ts": message_id}
            self._graves[chat, message_id] = grave
            event |= {"subtype": "message_changed", "message": grave}
        else:
            event |= {"subtype": "message_deleted", "deleted_ts": message_id}
        await self._deliver("events_api", self._callback(event))
        await self.notify_changed()

    async def remove_reaction(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody takes a reaction back."""
        name = next((name for name, each in _EMOJI.items() if each == emoji), "unknown")
        await self.update_message(message_id, make_reaction_removal(emoji), chat=chat)
        item = {"type": "message", "channel": chat, "ts": message_id}
        event = {"type": "reaction_removed", "user": person.id, "reaction": name, "item": item}
        await self._deliver("events_api", self._callback(event | {"event_ts": self.next_ts()}))

    async def press(self, message: ScreenMessage, label: str, *, person: Person = ADA) -> None:
        self._people.setdefault(person.id, person)
        [element] = [one for one in _buttons(self.blocks(message)) if one["text"]["text"] == label]
        thread = {"thread_ts": message.thread} if message.thread else {}
        payload = {
            "type": "block_actions",
            "user": {"id": person.id, "username": person.name.lower(), "name": person.name.lower(), "team_id": TEAM},
            "team": {"id": TEAM, "domain": "simulated"},
            "api_app_id": "A0SIMULATED",
            "container": {"type": "message", "message_ts": message.id, "channel_id": message.chat} | thread,
            "channel": {"id": message.chat, "name": "directmessage"},
            "message": {"type": "message", "user": ME, "bot_id": MY_BOT, "ts": message.id, "text": message.raw}
            | thread,
            "response_url": f"http://{self.address}/actions/1",
            "actions": [element | {"block_id": "b1", "action_ts": self.next_ts()}],
        }
        await self._deliver("interactive", payload)

    async def react(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        self._people.setdefault(person.id, person)
        name = next((name for name, each in _EMOJI.items() if each == emoji), "unknown")
        await self.update_message(message_id, make_reaction(emoji), chat=chat)
        item = {"type": "message", "channel": chat, "ts": message_id}
        event = {"type": "reaction_added", "user": person.id, "reaction": name, "item": item}
        await self._deliver("events_api", self._callback(event | {"event_ts": self.next_ts()}))

    async def edit(self, message_id: str, text: str, *, chat: str, person: Person = ADA, mention: bool = False) -> None:
        """`mention`: the bot is addressed now. Slack tells of that twice, as of a mention in a new message."""
        before = next(one for one in self.screen(chat, sender=None) if one.id == message_id)
        wire = (f"<@{ME}> " if mention else "") + _escaped(text)
        await self.update_message(message_id, make_edit(text, wire), chat=chat)
        message = await self.tell_of_change(before, wire, _author(person), by=person.id)
        if mention and _type_of(chat) != "im":
            twin = message | {"type": "app_mention", "channel": chat, "event_ts": message["edited"]["ts"]}
            await self._deliver("events_api", self._callback(twin))

    async def preview(self, message_id: str, *, chat: str) -> None:
        """Slack adds a preview to somebody's message, which it tells as a change that nobody made."""
        before = next(one for one in self.screen(chat, sender=None) if one.id == message_id)
        await self.tell_of_change(before, before.raw, {"user": before.sender}, by=None)

    async def send_garbage(self) -> None:
        await self.wait_until(lambda: bool(self._sockets))
        socket = self._sockets[-1]
        for text in _GARBAGE:
            await socket.send_str(text)
        await socket.send_bytes(b"\xff\x00")
        self.garbage_sent += len(_GARBAGE_PAYLOADS)
        for number, (type_, payload) in enumerate(_GARBAGE_PAYLOADS):
            await socket.send_str(json.dumps({"type": type_, "envelope_id": f"garbage-{number}", "payload": payload}))

    async def tell(self, payload: Mapping[str, object], *, type_: str = "events_api", about: str | None = None) -> None:
        """Put an envelope with any payload on the wire."""
        await self._deliver(type_, payload, about=about)

    async def tell_event(self, event: Mapping[str, object], *, about: str | None = None) -> None:
        """Put any event on the wire."""
        await self._deliver("events_api", self._callback(event), about=about)

    def acknowledged(self) -> Sequence[str]:
        open_ = {envelope.about for envelope in self._unacknowledged.values()}
        return [ts for ts in self._acknowledged if ts not in open_]

    async def redeliver(self) -> None:
        """Slack waited in vain for an acknowledgement: what has none comes once more on the same connection."""
        async with self._sending:
            for envelope in self._unacknowledged.values():
                await _say(self._sockets[-1], envelope)

    def give_up(self) -> None:
        """Slack has tried often enough: what was not acknowledged is not told again, and stands where it stands."""
        self._unacknowledged.clear()

    def blocks(self, message: ScreenMessage) -> Sequence[Mapping[str, Any]]:
        """The blocks of a message of the app, as it sent them."""
        return self._blocks[message.chat, message.id]

    @property
    def unacknowledged(self) -> int:
        """How many envelopes will come again."""
        return len(self._unacknowledged)

    # --- the socket ---

    async def ask_to_reconnect(self) -> None:
        """Slack's polite way: a new connection, please."""
        await self._sockets[-1].send_str(json.dumps({"type": "disconnect", "reason": "refresh_requested"}))

    async def close_socket(self) -> None:
        """Slack closes the connection."""
        socket = self._sockets.pop()
        await socket.close()

    def cut_sockets(self) -> None:
        """The connections are reset."""
        if self._server is not None:
            self._server.cut()
        self._sockets.clear()

    async def serve(self, socket: web.WebSocketResponse) -> None:
        """One connection: what is open comes again, in its order, before anything new."""
        async with self._sending:
            self._sockets.append(socket)
            self.connections += 1
            await socket.send_str(json.dumps({"type": "hello", "num_connections": len(self._sockets)}))
            for envelope in self._unacknowledged.values():
                await _say(socket, envelope)
        await self.notify_changed()
        try:
            async for message in socket:
                if message.type is WSMsgType.PING and not self.is_mute:
                    await socket.pong(message.data)
                elif message.type is WSMsgType.TEXT and not self.is_mute:
                    await self._hear(json.loads(message.data))
        finally:
            with suppress(ValueError):
                self._sockets.remove(socket)

    async def _hear(self, said: Mapping[str, Any]) -> None:
        self.garbage_acknowledged += str(said.get("envelope_id")).startswith("garbage-")
        envelope = self._unacknowledged.pop(str(said.get("envelope_id")), None)
        if envelope is not None and envelope.about is not None and envelope.about not in self._acknowledged:
            self._acknowledged.append(envelope.about)
        await self.notify_changed()

    async def _deliver(self, type_: str, payload: object, *, about: str | None = None) -> None:
        envelope = Envelope(id=f"env-{self.next_number()}", type=type_, payload=payload, about=about)
        async with self._sending:
            self._unacknowledged[envelope.id] = envelope
            if self._sockets:
                await _say(self._sockets[-1], envelope)

    def _callback(self, event: Mapping[str, object]) -> Asked:
        number = self.next_number()
        return {
            "type": "event_callback",
            "event_id": f"Ev{number}",
            "event_time": int(time.time()),
            "team_id": TEAM,
            "api_app_id": "A0SIMULATED",
            "authorizations": [{"team_id": TEAM, "user_id": ME, "is_bot": True}],
            "event": dict(event),
        }

    async def tell_of_change(
        self, before: ScreenMessage, wire: str, author: Mapping[str, object], *, by: str | None
    ) -> Asked:
        """Returns the message as it is now."""
        thread = {"thread_ts": before.thread} if before.thread else {}
        message: Asked = {"type": "message", "ts": before.id, "text": wire, **author, **thread}
        if by is not None:
            message["edited"] = {"user": by, "ts": self.next_ts()}
        event = {
            "type": "message",
            "subtype": "message_changed",
            "channel": before.chat,
            "channel_type": _type_of(before.chat),
            "message": message,
            "previous_message": {"type": "message", "ts": before.id, "text": before.raw, **author, **thread},
            "ts": self.next_ts(),
        }
        await self._deliver("events_api", self._callback(event))
        return message

    # --- the Web API ---

    async def call(self, method: str, asked: Asked) -> Answer:
        """What a method answers beside ok. Raises Denied."""
        handler = getattr(self, "_api_" + method.replace(".", "_"), None)
        if handler is None:
            raise Denied("unknown_method")
        answer: Answer = await handler(asked)
        return answer

    async def _api_auth_test(self, _: Asked) -> Answer:
        return {"user_id": ME, "user": "nanohost", "bot_id": MY_BOT, "team_id": TEAM, "team": "Simulated"}

    async def _api_apps_connections_open(self, _: Asked) -> Answer:
        return {"url": f"ws://{self.address}/link?ticket={self.next_number()}"}

    async def _api_chat_postMessage(self, asked: Asked) -> Answer:  # noqa: N802 - Slack's name
        chat = self._channel(asked)
        message = self._composed(asked, ScreenMessage(id=self.next_ts(), chat=chat, text="", raw="", sender=BOT))
        message = replace(message, thread=asked.get("thread_ts") or None)
        metadata = asked.get("metadata")
        if metadata is not None and not isinstance(metadata.get("event_payload"), dict):
            raise Denied("invalid_metadata_format")
        self._metadata[chat, message.id] = metadata
        await self.add_message(message)
        event = {"type": "message", "channel": chat, "channel_type": _type_of(chat), "text": message.raw}
        event |= {"user": ME, "bot_id": MY_BOT, "ts": message.id, "event_ts": message.id}
        event |= {"thread_ts": message.thread} if message.thread else {}
        await self._deliver("events_api", self._callback(event))
        return {"channel": chat, "ts": message.id, "message": {"text": message.raw}}

    async def _api_chat_update(self, asked: Asked) -> Answer:
        chat = self._channel(asked)
        before = self._message(chat, str(asked.get("ts")))
        if before.sender != BOT:
            raise Denied("cant_update_message")
        after = self._composed(asked, before)
        await self.update_message(before.id, lambda one: replace(after, edit_count=one.edit_count + 1), chat=chat)
        await self.tell_of_change(before, after.raw, {"user": ME, "bot_id": MY_BOT}, by=ME)
        return {"channel": chat, "ts": before.id, "text": after.raw}

    def _composed(self, asked: Asked, message: ScreenMessage) -> ScreenMessage:
        """The message with the words that were asked for, by Slack's rules."""
        text, blocks = str(asked.get("text") or ""), asked.get("blocks") or []
        if not text.strip() and not blocks:
            raise Denied("no_text")
        if len(text) > TEXT_LIMIT:
            raise Denied("msg_too_long")
        if blocks and self.refuses_markup > 0:
            self.refuses_markup -= 1
            raise Denied("invalid_blocks", "[ERROR] the simulator was told to refuse this")
        _check_blocks(blocks)
        read = _read_mrkdwn if asked.get("mrkdwn", True) else _unescaped
        shown = "\n".join(filter(None, map(_read_block, blocks))) if blocks else read(text)
        elements = _buttons(blocks)
        self._blocks[message.chat, message.id] = blocks
        raw = "\n".join(str(block.get("text")) for block in blocks) if blocks else text
        return replace(
            message,
            text=shown,
            raw=text,
            buttons=tuple(str(one["text"]["text"]) for one in elements),
            notified=_pings(text) | _pings(raw),
        )

    async def _api_conversations_open(self, asked: Asked) -> Answer:
        user = str(asked.get("users"))
        if user not in self._people:
            raise Denied("user_not_found")
        return {"channel": {"id": f"D{user}"}}

    async def _api_conversations_info(self, asked: Asked) -> Answer:
        chat = self._channel(asked)
        return {"channel": {"id": chat} | ({} if _type_of(chat) == "im" else {"name": f"room-{chat.lower()}"})}

    async def _api_users_conversations(self, asked: Asked) -> Answer:
        """Those that we are in: all in which anything was said."""
        types = str(asked.get("types") or "public_channel").split(",")
        chats = [
            chat for chat in dict.fromkeys(one.chat for one in self.screen(sender=None)) if chat not in self.archived
        ]
        of_type = {"im": "im", "group": "private_channel", "channel": "public_channel"}
        found = [{"id": chat, "is_im": _type_of(chat) == "im"} for chat in chats if of_type[_type_of(chat)] in types]
        start = int(asked.get("cursor") or 0)
        end = start + min(int(asked.get("limit") or 100), self.most_a_page)
        cursor = str(end) if end < len(found) else ""
        return {"channels": found[start:end], "response_metadata": {"next_cursor": cursor}}

    async def _api_users_info(self, asked: Asked) -> Answer:
        person = self._people.get(str(asked.get("user")))
        if person is None:
            raise Denied("user_not_found")
        return {
            "user": {"id": person.id, "name": person.name.lower(), "real_name": person.name, "is_bot": person.is_bot}
        }

    async def _api_conversations_history(self, asked: Asked) -> Answer:
        chat = self._channel(asked)
        found = [one for one in self.screen(chat, sender=None) if one.thread in (None, one.id)]
        return self._paged(
            asked, found[::-1], graves=[one for (where, _), one in self._graves.items() if where == chat]
        )

    async def _api_conversations_replies(self, asked: Asked) -> Answer:
        every, ts = self.screen(self._channel(asked), sender=None), str(asked.get("ts"))
        found = [one for one in every if ts in (one.id, one.thread)]
        if not found:
            raise Denied("thread_not_found")
        grave = self._graves.get((self._channel(asked), ts))
        return self._paged(asked, found, graves=[grave] if grave else [])

    def _paged(self, asked: Asked, found: Sequence[ScreenMessage], *, graves: Sequence[Asked]) -> Answer:
        """Both ends are left out, unless they are asked for; what is left of deleted messages is on the first page."""
        oldest, latest = str(asked.get("oldest") or "0"), str(asked.get("latest") or "9")
        ends = {oldest, latest} if str(asked.get("inclusive")).lower() in ("true", "1") else set()
        found = [one for one in found if oldest < one.id < latest or one.id in ends]
        graves = [one for one in graves if oldest < one["ts"] < latest or one["ts"] in ends]
        start = int(asked.get("cursor") or 0)
        end = start + min(int(asked.get("limit") or 100), self.most_a_page)
        page = [
            self._in_history(one, with_metadata=bool(asked.get("include_all_metadata"))) for one in found[start:end]
        ]
        more = end < len(found)
        if start == 0:
            page = [*graves, *page]
        return {"messages": page, "has_more": more, "response_metadata": {"next_cursor": str(end) if more else ""}}

    def _in_history(self, one: ScreenMessage, *, with_metadata: bool) -> Asked:
        message: Asked = {"type": "message", "ts": one.id, "text": one.raw, "user": ME, "bot_id": MY_BOT}
        if one.sender != BOT:
            [(_, payload), *_] = self._events[one.id]
            message = payload["event"] | {"text": one.raw}
            message = {key: value for key, value in message.items() if key not in ("channel", "channel_type")}
        if one.thread:
            message["thread_ts"] = one.thread
        if replies := [each.id for each in self.screen(one.chat, sender=None) if each.thread == one.id != each.id]:
            message |= {"thread_ts": one.id, "reply_count": len(replies), "latest_reply": replies[-1]}
        if with_metadata and (metadata := self._metadata.get((one.chat, one.id))):
            message["metadata"] = metadata
        return message

    async def _api_reactions_add(self, asked: Asked) -> Answer:
        chat, name = self._channel(asked), str(asked.get("name"))
        if not re.fullmatch(r"[a-z0-9_+'-]+", name):
            raise Denied("invalid_name")
        message = self._message(chat, str(asked.get("timestamp")))
        emoji = _EMOJI.get(name, f":{name}:")
        if emoji in message.reactions:
            raise Denied("already_reacted")
        await self.update_message(message.id, make_reaction(emoji), chat=chat)
        return {}

    async def _api_assistant_threads_setStatus(self, asked: Asked) -> Answer:  # noqa: N802 - Slack's name
        if not asked.get("thread_ts"):
            raise Denied("invalid_thread_ts")
        self.typing.append(str(asked.get("channel_id")))
        await self.notify_changed()
        return {}

    # --- files ---

    def store_file(self, name: str, content: bytes) -> StoredFile:
        stored = StoredFile(id=f"F{self.next_number()}", name=name, content=content, length=len(content))
        self._files[stored.id] = stored
        return stored

    def file(self, file_id: str) -> StoredFile:
        if file_id not in self._files:
            raise Denied("file_not_found")
        return self._files[file_id]

    def describe(self, stored: StoredFile) -> Asked:
        url = self.lies_at or f"http://{self.address}/files-pri/{stored.id}/file"
        size = len(stored.content) if self.size_told is None else self.size_told
        mimetype = "application/octet-stream"
        shares = {chat: [{"ts": ts}] for chat, ts in stored.shared.items()}
        described = {"id": stored.id, "name": stored.name, "mimetype": mimetype, "size": size}
        return described | {"url_private": url, "url_private_download": url, "shares": {"private": shares}}

    async def _api_files_info(self, asked: Asked) -> Answer:
        return {"file": self.describe(self.file(str(asked.get("file"))))}

    async def _api_files_getUploadURLExternal(self, asked: Asked) -> Answer:  # noqa: N802 - Slack's name
        length = int(asked.get("length") or 0)
        if length <= 0 or not asked.get("filename"):
            raise Denied("invalid_arguments")
        stored = self.store_file(str(asked["filename"]), b"")
        stored.length = length
        return {"upload_url": f"http://{self.address}/upload/{stored.id}", "file_id": stored.id}

    async def _api_files_completeUploadExternal(self, asked: Asked) -> Answer:  # noqa: N802 - Slack's name
        files = asked.get("files") or []
        stored = self.file(str((json.loads(files) if isinstance(files, str) else files)[0]["id"]))
        if len(stored.content) != stored.length:
            raise Denied("file_upload_size_mismatch")
        chat, words = (
            self._channel(asked | {"channel": asked.get("channel_id")}),
            str(asked.get("initial_comment") or ""),
        )
        shown = ScreenMessage(
            id=self.next_ts(),
            chat=chat,
            text=_read_mrkdwn(words),
            raw=words,
            sender=BOT,
            thread=asked.get("thread_ts") or None,
            file_name=stored.name,
            file_bytes=stored.content,
            notified=_pings(words),
        )
        self._late.append((stored, shown))
        if not self.shares_late:
            await self.share_late()
        return {"files": [{"id": stored.id, "title": stored.name}]}

    async def share_late(self) -> None:
        """What was taken and is not deleted is seen now."""
        late, self._late = self._late, []
        for stored, shown in late:
            if stored.id in self._files:
                stored.shared[shown.chat] = shown.id
                await self.add_message(shown)

    async def _api_files_delete(self, asked: Asked) -> Answer:
        self._files.pop(self.file(str(asked.get("file"))).id)
        return {}

    # --- facts ---

    def _channel(self, asked: Asked) -> str:
        chat = str(asked.get("channel") or "")
        if chat[:1] not in ("C", "D", "G"):
            raise Denied("channel_not_found")
        if chat in self.archived:
            raise Denied("is_archived")
        return chat

    def _message(self, chat: str, ts: str) -> ScreenMessage:
        found = [one for one in self.screen(chat, sender=None) if one.id == ts]
        if not found:
            raise Denied("message_not_found")
        return found[0]

    def next_number(self) -> int:
        """Of an event, an envelope or a file."""
        return self.id_offset + next(self._numbers)

    def next_ts(self) -> str:
        """The time, and later than the last one."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return f"{self._last // 1_000_000}.{self._last % 1_000_000:06}"


_FAULTY = frozenset({"chat.postMessage", "chat.update", "reactions.add", "files.completeUploadExternal"})


class _Server(Server):
    """The workspace on a port."""

    def __init__(self, simulator: SlackSimulator) -> None:
        self._simulator = simulator
        super().__init__(
            [
                web.route("*", "/api/{method}", self._api),
                web.get("/link", self._link),
                web.post("/upload/{id}", self._upload),
                web.get("/files-pri/{id}/{name}", self._file),
            ]
        )

    async def _api(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        asked = await _asked(request)
        self._simulator.calls.append(method)
        await self._simulator.notify_changed()
        token = request.headers.get("Authorization", "").removeprefix("Bearer ") or asked.get("token")
        if token != (APP_TOKEN if method == "apps.connections.open" else BOT_TOKEN):
            return _denied("invalid_auth")
        faults = self._simulator.opening if method == "apps.connections.open" else self._simulator.faults
        if method not in (*_FAULTY, "apps.connections.open"):
            return await self._carry_out(method, asked)
        chat = str(asked.get("channel") or asked.get("channel_id") or "")
        if (wait_s := faults.retry_after_s(chat)) is not None:
            return _denied("ratelimited", status=429, headers={"Retry-After": f"{wait_s:.0f}"})
        return await self._befall(faults.take(), request, method, asked)

    async def _befall(self, fault: Fault | None, request: web.Request, method: str, asked: Asked) -> web.StreamResponse:
        match fault:
            case None:
                return await self._carry_out(method, asked)
            case Fault.SERVER_ERROR:
                return web.Response(status=500, text="<html>Server Error</html>", content_type="text/html")
            case Fault.UNAVAILABLE:
                return unavailable()
            case Fault.UNAUTHORIZED:
                return _denied("invalid_auth")
            case Fault.NOT_JSON:
                return web.Response(text="<html>We are working on it</html>", content_type="text/html")
            case Fault.HANG:
                await self.stopping.wait()
            case Fault.RESET_AFTER:
                await self._carry_out(method, asked)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _carry_out(self, method: str, asked: Asked) -> web.StreamResponse:
        try:
            answer = await self._simulator.call(method, asked)
        except Denied as denied:
            return _denied(str(denied), *denied.messages)
        return web.json_response({"ok": True} | answer, headers={"x-oauth-scopes": SCOPES})

    async def _link(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await self._simulator.serve(socket)
        return socket

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        self._simulator.file(request.match_info["id"]).content = await request.read()
        return web.Response(text="OK")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        """Whoever brings no token is shown where to log in, with a 200."""
        if self._simulator.shows_login_page or request.headers.get("Authorization") != f"Bearer {BOT_TOKEN}":
            return web.Response(text=_LOGIN_PAGE, content_type="text/html")
        try:
            stored = self._simulator.file(request.match_info["id"])
        except Denied:
            return web.Response(status=404)
        return web.Response(body=stored.content, content_type="application/octet-stream")


async def _asked(request: web.Request) -> Asked:
    asked: Asked = dict(request.query)
    if request.content_type == "application/json":
        asked |= await request.json()
    elif request.can_read_body:
        asked |= {key: value for key, value in (await request.post()).items() if isinstance(value, str)}
    return asked


def _denied(
    error: str, *messages: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    said: Answer = {"ok": False, "error": error}
    if messages:
        said["response_metadata"] = {"messages": list(messages)}
    return web.json_response(said, status=status, headers=headers)


async def _say(socket: web.WebSocketResponse, envelope: Envelope) -> None:
    text = envelope.as_text()
    envelope.sent += 1
    with suppress(ConnectionError):  # it comes again on the next connection
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            await socket.send_str(text)


# --- Slack's rules ---


def _type_of(chat: str) -> str:
    return {"D": "im", "G": "group"}.get(chat[:1], "channel")


def _author(person: Person) -> Asked:
    if person.is_bot:
        return {"subtype": "bot_message", "bot_id": f"B{person.id}", "username": person.name}
    return {"user": person.id}


def _check_blocks(blocks: Sequence[Mapping[str, Any]]) -> None:
    if len(blocks) > 50:
        raise Denied("invalid_blocks", "[ERROR] no more than 50 items allowed")
    for block in blocks:
        match block.get("type"):
            case "markdown":
                _check_text(block.get("text"), MARKDOWN_LIMIT)
            case "section":
                _check_text(block["text"].get("text"), 3000)
            case "actions":
                _check_buttons(block["elements"])
            case other:
                raise Denied("invalid_blocks", f"[ERROR] unsupported type: {other}")
    markdown = sum(len(block["text"]) for block in blocks if block["type"] == "markdown")
    if markdown > MARKDOWN_LIMIT:
        raise Denied("invalid_blocks", f"[ERROR] markdown blocks hold {MARKDOWN_LIMIT} characters together")
    sections = sum(len(block["text"]["text"]) for block in blocks if block["type"] == "section")
    if markdown + sections + sum(len(one["text"]["text"]) for one in _buttons(blocks)) > BLOCKS_LIMIT:
        raise Denied("msg_blocks_too_long")


def _check_text(text: object, limit: int) -> None:
    if not isinstance(text, str) or not text:
        raise Denied("invalid_blocks", "[ERROR] must be more than 0 characters")
    if len(text) > limit:
        raise Denied("invalid_blocks", f"[ERROR] must be less than {limit + 1} characters")


def _buttons(blocks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [one for block in blocks if block["type"] == "actions" for one in block["elements"]]


def _check_buttons(elements: Sequence[Mapping[str, Any]]) -> None:
    if not 1 <= len(elements) <= 25:
        raise Denied("invalid_blocks", "[ERROR] an actions block holds 1 to 25 elements")
    if len({one["action_id"] for one in elements}) != len(elements):
        raise Denied("invalid_blocks", "[ERROR] action_id is not unique")
    for one in elements:
        if len(one["text"]["text"]) > 75 or len(one.get("value", "")) > 2000 or len(one["action_id"]) > 255:
            raise Denied("invalid_blocks", "[ERROR] a button's text, value or action_id is too long")


_INLINE = re.compile(
    r"(?P<tick>`+)(?P<code>[^`\n](?:.*?[^`\n])?)(?P=tick)(?!`)"
    r"|\\(?P<escaped>[!-/:-@\[-`{-~])"
    r"|!?\[(?P<label>(?:\\.|[^\]\\])*)\]\((?P<address>[^)\s]*)\)"
    r"|<(?P<auto>(?:https?|mailto):[^>\s]+)>"
    r"|(?P<mark>\*{1,3}|~~|(?<!\w)_|_(?!\w))"
)
_FENCE = re.compile(r"\s*(?:> ?)*\s*(`{3,}|~{3,})")
_PING = re.compile(r"<!(channel|here|everyone)\b[^>]*>|<@([A-Z0-9]+)[|>]|<!subteam\^(\w+)")


def _read_block(block: Mapping[str, Any]) -> str:
    match block["type"]:
        case "markdown":
            return _read_markdown(block["text"])
        case "section":
            return str(block["text"]["text"])
        case _:
            return ""


def _read_markdown(text: str) -> str:
    """What is left of standard Markdown when its marks are read. Roughly: whitespace stays as it was."""
    lines, is_code = [], False
    for line in text.split("\n"):
        if _FENCE.match(line):
            is_code = not is_code
        else:
            lines.append(line if is_code else _INLINE.sub(_read_inline, re.sub(r"^#{1,6} ", "", line)))
    return "\n".join(lines)


def _read_inline(found: re.Match[str]) -> str:
    if found["code"] is not None:
        return found["code"].strip() or found["code"]
    if found["label"] is not None:
        return _INLINE.sub(_read_inline, found["label"])
    return found["escaped"] or found["auto"] or ""


def _read_mrkdwn(text: str) -> str:
    """What is left of Slack's own markup."""
    text = re.sub(r"<(?:[^<>|]*\|)?([^<>|]*)>", r"\1", text)
    return _unescaped(re.sub(r"(?<!\w)([*_~`])(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", text))


def _pings(text: str) -> frozenset[str]:
    return frozenset(found[1] or found[2] or found[3] for found in _PING.finditer(text))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


# --- what Slack never should send ---

_GARBAGE = ("", " ", "hello", "{", "[1, 2]", "null", "{}", '{"type": []}', '{"type": "hello"}', "[" * 10_000)

_ODD_EVENTS: tuple[object, ...] = (
    None,
    [],
    "text",
    {},
    {"type": None},
    {"type": "an_event_of_the_future", "channel": "C500"},
    {"type": "message"},
    {"type": "message", "subtype": ["x"], "channel": "C500", "ts": "1.0"},
    {"type": "message", "channel": None, "ts": "1.0", "text": "x", "user": "1001"},
    {"type": "message", "channel": "C500", "ts": "yesterday", "text": "x", "user": "1001"},
    {"type": "message", "channel": "C500", "ts": "1e400", "text": "x", "user": "1001"},
    {"type": "message", "channel": "C500", "ts": 5, "text": {}, "user": []},
    {"type": "message", "subtype": "message_changed", "channel": "C500", "message": None},
    {"type": "message", "subtype": "channel_join", "channel": "C500", "ts": "1.0", "user": "1001"},
    {"type": "message", "channel": "C500", "ts": "1.0", "user": "1001", "text": "x", "files": "none"},
    {"type": "reaction_added", "item": "x"},
    {"type": "reaction_added", "item": {"type": "message"}},
)
_GARBAGE_PAYLOADS: tuple[tuple[object, object], ...] = (
    ("events_api", None),
    ("events_api", []),
    ("events_api", "text"),
    ("events_api", {}),
    *(("events_api", {"type": "event_callback", "event": event}) for event in _ODD_EVENTS),
    ("interactive", {"type": "block_actions"}),
    ("interactive", {"type": "block_actions", "user": {}, "container": [], "actions": [{"action_id": 5}]}),
    ("interactive", {"type": "view_submission", "view": {}}),
    ("slash_commands", {"command": "/hello", "text": "x"}),
    ("a_type_of_the_future", {}),
    ([], {"x": 1}),
)

SIMULATOR = SlackSimulator

"""The linked device itself, by the library neonize: the only module that imports it.

Texts are sent as they are: neonize would turn `@49170…` in a string into a mention, so it is given whole messages. It
lets nobody choose a message's id, so a repeat cannot be told. Ops on one chat run in the order they came.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import io
import os
import sys
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import segno
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from neonize.aioze.client import NewAClient
from neonize.aioze.events import (
    ClientOutdatedEv,
    ConnectedEv,
    ConnectFailureEv,
    DisconnectedEv,
    LoggedOutEv,
    MessageEv,
    PairStatusEv,
    StreamReplacedEv,
    TemporaryBanEv,
)
from neonize.proto.Neonize_pb2 import JID
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import ContextInfo, ExtendedTextMessage
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message as Content
from neonize.utils.enum import ChatPresence, ChatPresenceMedia
from neonize.utils.jid import Jid2String

from nanohost.wa_bridge import names, protocol
from nanohost.wa_bridge.content import DEEPEST, WRAPPERS, Place, heard, people_in
from nanohost.wa_bridge.kinds import MEDIA, Around
from nanohost.wa_bridge.protocol import Done, Edit, Error, Event, Fetch, Op, Open, React, Send, SendFile, State
from nanohost.wa_bridge.spool import Spool
from nanohost.wa_bridge.values import Json

Handler = Callable[[Any, Any], Awaitable[None]]
"""Of events whose types the library makes up when it is imported."""
REMEMBERED = 2_000
"""Messages that can still be quoted and reacted to."""
DISCONNECTED_LIMIT_S = 45.0
"""The library connects again by itself; longer than this, the process ends and the host starts another."""
PEOPLE = 5_000
"""Whose names are remembered."""
MOST_ASKED = 30
"""Of those whom one message names, whose names are looked for."""


class SessionBusy(Exception):
    """Another process has this session open."""


class Device:
    """One linked device. `say` tells the host an event, `say_line` one that is a line already."""

    def __init__(self, opening: Open, say: Callable[[Event], None], say_line: Callable[[bytes], None]) -> None:
        os.umask(0o077)
        self._folder = Path(opening.folder)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(self._folder / "lock")
        self._phone = opening.phone
        self._say = say
        self._say_line = say_line
        self._spool = Spool(self._folder / "spool.db")
        self._client = NewAClient(str(self._folder / "session.db"))
        self._me: tuple[str, ...] = ()
        self._seen: OrderedDict[tuple[str, str], tuple[str, Content]] = OrderedDict()
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._group_names: dict[str, str] = {}
        self._people: OrderedDict[str, str] = OrderedDict()
        self._in_order = asyncio.Lock()
        self._gone = asyncio.Event()
        self._up = asyncio.Event()
        self._introduced = asyncio.Event()
        self._asked_for_code = False

    async def run(self) -> None:
        """Connect, and serve until the connection is lost for good. Raises whatever the library failed with."""
        self._say(State(state="starting"))
        self._client.event.qr(_told(self._on_qr))
        handlers: dict[Any, Handler] = {
            ConnectedEv: self._on_connected,
            PairStatusEv: self._on_paired,
            DisconnectedEv: self._on_disconnected,
            LoggedOutEv: self._on_logged_out,
            StreamReplacedEv: self._on_replaced,
            TemporaryBanEv: self._on_banned,
            ClientOutdatedEv: self._on_outdated,
            ConnectFailureEv: self._on_refused,
            MessageEv: self._on_message,
        }
        for kind, handler in handlers.items():
            self._client.event(kind)(_told(handler))
        connection = await self._client.connect()
        gone = asyncio.create_task(self._gone.wait())
        await asyncio.wait([connection, gone], return_when=asyncio.FIRST_COMPLETED)
        if connection.done():
            connection.result()

    async def close(self) -> None:
        self._spool.close()
        await self._client.disconnect()

    async def take(self, op: Op) -> None:
        """Begin to do what the host asks."""
        match op:
            case protocol.Accepted(key=key):
                self._spool.forget(key)
            case protocol.Ping(id=id):
                self._say(Done(id=id))
            case protocol.Typing(chat=chat):
                self._queue(f"typing {chat}", self._typing(chat))
            case Send() | SendFile() | Edit() | React():
                self._queue(op.chat, self._answer(op.id, self._write(op)))
            case Fetch():
                self._queue(f"fetch {op.id}", self._answer(op.id, self._fetch(op)))

    # --- what the host asks ---

    def _queue(self, lane: str, work: Awaitable[None]) -> None:
        before = self._lanes.get(lane)

        async def in_turn() -> None:
            if before is not None:
                await asyncio.wait([before])
            try:
                await work
            finally:
                if self._lanes.get(lane) is asyncio.current_task():
                    del self._lanes[lane]

        self._lanes[lane] = asyncio.create_task(in_turn())

    async def _answer(self, id: str, work: Awaitable[str | None]) -> None:
        try:
            if not self._up.is_set():
                raise _Down("WhatsApp is not connected")
            self._say(Done(id=id, message=await work))
        except _Down as error:
            if asyncio.iscoroutine(work):
                work.close()
            self._say(Error(id=id, reason="down", text=str(error)))
        except _Refused as error:
            self._say(Error(id=id, reason="refused", text=str(error)))
        except _NotSent as error:
            self._say(Error(id=id, reason=names.why_not_sent(str(error)), text=str(error)))
        except Exception as error:
            words = str(error) or type(error).__name__
            self._say(Error(id=id, reason=names.meaning(words), text=words))

    async def _write(self, op: Send | SendFile | Edit | React) -> str | None:
        chat = _jid(op.chat)
        match op:
            case Send():
                content = self._text(op.text, op.chat, op.reply_to)
            case SendFile():
                content = await self._uploaded(op)
            case Edit():
                edited = await self._client.edit_message(chat, op.message, Content(conversation=op.text))
                return str(edited.ID)
            case React():
                author = self._author(op.chat, op.message)
                if author is None:
                    raise _Refused("that message is too old to react to")
                content = await self._client.build_reaction(chat, _jid(author), op.message, op.emoji)
        sent = await self._client.send_message(chat, content)
        self._remember(op.chat, sent.ID, self._me[0] if self._me else "", content)
        return str(sent.ID)

    def _text(self, text: str, chat: str, reply_to: str | None) -> Content:
        quote = self._quote(chat, reply_to)
        if quote is None:
            return Content(conversation=text)
        return Content(extendedTextMessage=ExtendedTextMessage(text=text, contextInfo=quote))

    def _quote(self, chat: str, reply_to: str | None) -> ContextInfo | None:
        author, content = self._seen.get((chat, reply_to or ""), (None, None))
        if author is None:
            return None
        return ContextInfo(stanzaID=reply_to, participant=author, quotedMessage=content)

    async def _uploaded(self, op: SendFile) -> Content:
        try:
            return await self._file(op)
        except Exception as error:
            raise _NotSent(f"the file was not uploaded: {error}") from error

    async def _file(self, op: SendFile) -> Content:
        body = await asyncio.to_thread(Path(op.path).read_bytes)
        content = await self._image(body) if op.media_type in ("image/jpeg", "image/png") else None
        if content is None:
            content = await self._client.build_document_message(
                body, filename=op.name, title=op.name, mimetype=op.media_type or "application/octet-stream"
            )
        part = getattr(content, _media(content) or MEDIA[0])
        # Set here, because the library looks for mentions in what it is given.
        part.caption = op.text
        quote = self._quote(op.chat, op.reply_to)
        if quote is not None:
            part.contextInfo.CopyFrom(quote)
        return content

    async def _image(self, body: bytes) -> Content | None:
        """None for what claims to be a picture and is none: it can still be sent as a document."""
        try:
            return await self._client.build_image_message(body)
        except Exception as error:
            sys.stderr.write(f"a picture goes as a document: {error}\n")
            return None

    async def _typing(self, chat: str) -> None:
        try:
            state, media = ChatPresence.CHAT_PRESENCE_COMPOSING, ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT
            await self._client.send_chat_presence(_jid(chat), state, media)
        except Exception as error:
            sys.stderr.write(f"typing was not shown: {error}\n")

    async def _fetch(self, op: Fetch) -> None:
        try:
            content = Content.FromString(base64.b64decode(op.ref, validate=True))
        except (ValueError, DecodeError):
            raise _Refused("there is no such file") from None
        kind = _media(content)
        if kind is None or getattr(content, kind).fileLength > op.most_bytes:
            raise _Refused(f"the file is larger than {op.most_bytes} bytes")
        part = getattr(content, kind)
        if not names.is_media_path(part.directPath):
            raise _Refused("the file does not lie with WhatsApp")
        part.ClearField("URL")  # whoever writes a message may write any address there, and the library would call it
        body = await self._client.download_any(content)
        if len(body) > op.most_bytes:
            raise _Refused(f"the file is larger than {op.most_bytes} bytes")
        await asyncio.to_thread(Path(op.path).write_bytes, body)

    # --- what WhatsApp says ---

    async def _on_qr(self, _: object, code: bytes) -> None:
        if self._phone and not self._asked_for_code:
            self._asked_for_code = True
            try:
                self._say(protocol.PairCode(code=await self._client.PairPhone(self._phone, True)))
            except Exception as error:
                self._end("down", f"no pairing code was given: {error}")
                return
        elif not self._phone:
            picture = io.StringIO()
            segno.make_qr(code).terminal(out=picture, compact=True)
            self._say(protocol.Qr(picture=picture.getvalue()))
        self._say(State(state="unpaired"))

    async def _on_paired(self, *_: object) -> None:
        self._say(State(state="starting", text="paired"))

    async def _on_connected(self, *_: object) -> None:
        mine = await self._client.get_me()
        self._me = tuple(names.bare(Jid2String(jid)) for jid in (mine.JID, mine.LID) if jid.User)
        self._up.set()
        self._say(State(state="up", me=self._me[0] if self._me else ""))
        for line in self._spool.waiting():
            self._say_line(line)
        self._introduced.set()

    async def _on_disconnected(self, *_: object) -> None:
        self._up.clear()
        self._say(State(state="down", text="the connection to WhatsApp is lost"))
        try:
            async with asyncio.timeout(DISCONNECTED_LIMIT_S):
                await self._up.wait()
        except TimeoutError:
            self._gone.set()

    async def _on_logged_out(self, *_: object) -> None:
        self._end("logged_out", "the phone has unlinked this device; link it again")

    async def _on_replaced(self, *_: object) -> None:
        self._end("replaced", "another program uses the same session")

    async def _on_banned(self, _: object, ban: TemporaryBanEv) -> None:
        self._end("banned", f"WhatsApp has banned this number for a time (code {ban.Code})")

    async def _on_outdated(self, *_: object) -> None:
        self._end("missing", "WhatsApp takes this version of neonize no more; update nanohost")

    async def _on_refused(self, _: object, failure: ConnectFailureEv) -> None:
        self._end("down", f"WhatsApp refuses the connection: {failure.Message or failure.Reason}")

    def _end(self, state: protocol.StateName, text: str) -> None:
        self._up.clear()
        self._say(State(state=state, text=text))
        self._gone.set()

    async def _on_message(self, _: object, said: MessageEv) -> None:
        """What comes before we know who we are waits: a note to oneself could not be told from one to others."""
        async with self._in_order:
            await self._introduced.wait()
            await self._hear(said)

    async def _hear(self, said: MessageEv) -> None:
        place = said.Info.MessageSource
        source = names.Source(
            chat=names.bare(Jid2String(place.Chat)),
            sender=Jid2String(place.Sender),
            sender_alt=Jid2String(place.SenderAlt),
            from_me=place.IsFromMe,
            is_group=place.IsGroup,
        )
        if not names.is_for_us(source, self._me):
            return
        sender = names.person(source.sender, source.sender_alt)
        if sender.endswith(f"@{names.HIDDEN_SERVER}"):
            sender = names.person(await self._phone_of(place.Sender), sender)
        chat = source.chat if source.is_group else sender
        if (chat, said.Info.ID) in self._seen and source.from_me:
            return  # our own, come back
        if (chat, said.Info.ID) not in self._seen:  # an id is its sender's choice, and must not take another's place
            self._remember(chat, said.Info.ID, sender, said.Message)
        self._name(said.Info.Pushname, source.sender, source.sender_alt, sender)
        event = await self._heard(said, chat, sender)
        if event is None:
            sys.stderr.write(f"nothing that anybody says: {[one.name for one, _ in said.Message.ListFields()]}\n")
        elif not await self._may_change(event, place):
            sys.stderr.write("a change of what somebody else wrote is ignored\n")
        else:
            if source.is_group:
                event = event.model_copy(update={"chat_name": await self._name_of(place.Chat)})
            line = protocol.encode(event)
            if self._spool.keep(event.key, line):
                self._say_line(line)

    async def _heard(self, said: MessageEv, chat: str, sender: str) -> protocol.Message | None:
        content = _json_of(said)
        unknown = people_in(content) - self._people.keys() - set(self._me)
        for jid in sorted(unknown)[:MOST_ASKED]:
            self._name(await self._contact(jid), jid)
        around = Around(
            me=self._me,
            people=self._people,
            earlier=lambda id: self._earlier(chat, id),
            chosen=await self._chosen(said) if said.Message.HasField("pollUpdateMessage") else None,
            talks_to_self=chat in self._me,
            has_unknown=len(UnknownFieldSet(said.Message)) > 0,
        )
        place = Place(
            id=said.Info.ID,
            chat=chat,
            sender=sender,
            sender_name=said.Info.Pushname,
            sent_at=float(said.Info.Timestamp),
            is_group=said.Info.MessageSource.IsGroup,
        )
        return heard(content, place, around, file=_attached(_unwrapped(said.Message)))

    def _earlier(self, chat: str, id: str) -> Json | None:
        _, content = self._seen.get((chat, id), (None, None))
        return None if content is None else _as_json(_unwrapped(content))

    async def _chosen(self, vote: MessageEv) -> tuple[str, ...] | None:
        try:
            return tuple(one.hex() for one in (await self._client.decrypt_poll_vote(vote)).selectedOptions)
        except Exception as error:
            sys.stderr.write(f"a vote cannot be read: {error}\n")
            return None

    async def _may_change(self, event: protocol.Message, place: Any) -> bool:
        author = self._author(event.chat, event.refers_to)
        is_theirs = author in (None, event.sender)
        is_admin = event.kind == "deletion" and place.IsGroup and not is_theirs and await self._is_admin(place)
        return names.may_change(event.kind, author=author, sender=event.sender, is_admin=is_admin)

    async def _is_admin(self, place: Any) -> bool:
        try:
            members = (await self._client.get_group_info(place.Chat)).Participants
        except Exception:
            return False
        ours = {names.bare(Jid2String(jid)) for jid in (place.Sender, place.SenderAlt) if jid.User}
        admins = [one for one in members if one.IsAdmin or one.IsSuperAdmin]
        return any(names.bare(Jid2String(jid)) in ours for one in admins for jid in (one.JID, one.LID, one.PhoneNumber))

    def _name(self, name: str, *jids: str) -> None:
        for jid in jids:
            if name and jid:
                self._people[names.bare(jid)] = name
        while len(self._people) > PEOPLE:
            self._people.popitem(last=False)

    async def _contact(self, jid: str) -> str:
        """What the phone's contacts, or they themselves, call somebody."""
        try:
            contact = await self._client.contact.get_contact(_jid(jid))
        except Exception:
            return ""
        return str(contact.FullName or contact.PushName or contact.BusinessName)

    def _author(self, chat: str, id: str | None) -> str | None:
        author, _ = self._seen.get((chat, id or ""), (None, None))
        return author

    async def _phone_of(self, hidden: JID) -> str:
        try:
            return str(Jid2String(await self._client.get_pn_from_lid(hidden)))
        except Exception:
            return ""

    async def _name_of(self, group: JID) -> str:
        """Asked for once; a group that is renamed keeps its name here until the next start."""
        if group.User not in self._group_names:
            try:
                self._group_names[group.User] = str((await self._client.get_group_info(group)).GroupName.Name)
            except Exception:
                return ""
        return self._group_names[group.User]

    def _remember(self, chat: str, id: str, author: str, content: Content) -> None:
        self._seen[chat, id] = (author, content)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)


def _told(handler: Handler) -> Handler:
    """The library forgets what a handler raises."""

    async def telling(client: object, event: object) -> None:
        try:
            await handler(client, event)
        except Exception:
            traceback.print_exc()

    return telling


class _Refused(Exception):
    pass


class _NotSent(Exception):
    pass


class _Down(Exception):
    pass


def _media(content: Content) -> str | None:
    return next((kind for kind in MEDIA if content.HasField(kind)), None)


def _unwrapped(content: Content) -> Content:
    for _ in range(DEEPEST):
        wrapper = next((one for one in WRAPPERS if content.HasField(one)), None)
        if wrapper is None or not getattr(content, wrapper).HasField("message"):
            return content
        content = getattr(content, wrapper).message
    return content


def _as_json(message: Any) -> Json:
    said: Json = MessageToDict(message, preserving_proto_field_name=True)
    return said


def _json_of(said: MessageEv) -> Json:
    """The message, with what is said of it on the layers that the library took away."""
    content = _as_json(said.Message)
    if said.Raw.HasField("messageContextInfo") and "messageContextInfo" not in content:
        content = {**content, "messageContextInfo": _as_json(said.Raw.messageContextInfo)}
    return content


def _attached(content: Content) -> protocol.File | None:
    """The reference is all that is needed to download the file: where it lies and its key."""
    kind = _media(content)
    if kind is None:
        return None
    part = getattr(content, kind)
    only = Content()
    kept = getattr(only, "videoMessage" if kind == "ptvMessage" else kind)  # a round video is a video to the library
    kept.CopyFrom(part)
    for bulky in ("JPEGThumbnail", "contextInfo"):
        if bulky in part.DESCRIPTOR.fields_by_name:
            kept.ClearField(bulky)
    return protocol.File(
        ref=base64.b64encode(only.SerializeToString()).decode(),
        name=getattr(part, "fileName", ""),
        media_type=part.mimetype.partition(";")[0],
        size=part.fileLength,
    )


def _jid(name: str) -> JID:
    user, _, server = name.rpartition("@")
    return JID(User=user, Server=server, Device=0, RawAgent=0, Integrator=0, IsEmpty=False)


def _lock(path: Path) -> io.TextIOWrapper:
    """Held as long as the process lives. Raises SessionBusy."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise SessionBusy("another process uses this session, most likely the running host") from None
    return file

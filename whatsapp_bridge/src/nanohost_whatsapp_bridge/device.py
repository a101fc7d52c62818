"""The linked device itself, by the library neonize: the only module that imports it.

Texts are sent as they are: neonize would turn `@49170…` in a string into a mention, so it is given whole messages. It
lets nobody choose a message's id, so a repeated send cannot be recognized. Ops on one chat run in the order they came.
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

from nanohost_whatsapp_bridge import jids, protocol
from nanohost_whatsapp_bridge.content import MAX_WRAPPERS, WRAPPERS, MessageInfo, referenced_people, to_message
from nanohost_whatsapp_bridge.errors import classify_error, classify_unsent
from nanohost_whatsapp_bridge.kinds import MEDIA, MessageContext
from nanohost_whatsapp_bridge.protocol import Done, Edit, Error, Event, Fetch, Op, Open, React, Send, SendFile, State
from nanohost_whatsapp_bridge.spool import Spool
from nanohost_whatsapp_bridge.values import Json

Handler = Callable[[Any, Any], Awaitable[None]]
"""Of events whose types the library makes up when it is imported."""
MAX_MESSAGES = 2_000
"""Messages that are remembered, so that they can be quoted and reacted to."""
DISCONNECTED_LIMIT_S = 45.0
"""The library connects again by itself; longer than this, the process ends and the host starts another."""
MAX_NAMES = 5_000
"""People whose names are remembered."""
MAX_CONTACT_LOOKUPS = 30
"""People whom one message mentions and whose names are looked up."""


class SessionBusy(Exception):
    """Another process has this session open."""


class Device:
    """One linked device. `write_event` tells the host an event, `write_line` one that is encoded already."""

    def __init__(
        self, open_op: Open, write_event: Callable[[Event], None], write_line: Callable[[bytes], None]
    ) -> None:
        os.umask(0o077)
        self._folder = Path(open_op.folder)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _lock(self._folder / "lock")
        self._phone = open_op.phone
        self._write_event = write_event
        self._write_line = write_line
        self._spool = Spool(self._folder / "spool.db")
        self._client = NewAClient(str(self._folder / "session.db"))
        self._me: tuple[str, ...] = ()
        self._messages: OrderedDict[tuple[str, str], tuple[str, Content]] = OrderedDict()
        self._queues: dict[str, asyncio.Task[None]] = {}
        self._group_names: dict[str, str] = {}
        self._names: OrderedDict[str, str] = OrderedDict()
        self._receiving = asyncio.Lock()
        self._closed = asyncio.Event()
        self._up = asyncio.Event()
        self._identified = asyncio.Event()
        self._asked_for_code = False

    async def run(self) -> None:
        """Connect, and serve until the connection is lost for good. Raises whatever the library failed with."""
        self._write_event(State(state="starting"))
        self._client.event.qr(_logging_errors(self._on_qr))
        handlers: dict[Any, Handler] = {
            ConnectedEv: self._on_connected,
            PairStatusEv: self._on_paired,
            DisconnectedEv: self._on_disconnected,
            LoggedOutEv: self._on_logged_out,
            StreamReplacedEv: self._on_replaced,
            TemporaryBanEv: self._on_banned,
            ClientOutdatedEv: self._on_outdated,
            ConnectFailureEv: self._on_connect_failure,
            MessageEv: self._on_message,
        }
        for kind, handler in handlers.items():
            self._client.event(kind)(_logging_errors(handler))
        connection = await self._client.connect()
        closed = asyncio.create_task(self._closed.wait())
        await asyncio.wait([connection, closed], return_when=asyncio.FIRST_COMPLETED)
        if connection.done():
            connection.result()

    async def close(self) -> None:
        self._spool.close()
        await self._client.disconnect()

    async def handle(self, op: Op) -> None:
        """Start what the host asks for."""
        match op:
            case protocol.Accepted(key=key):
                self._spool.remove(key)
            case protocol.Ping(id=id):
                self._write_event(Done(id=id))
            case protocol.Typing(chat=chat):
                self._enqueue(f"typing {chat}", self._typing(chat))
            case Send() | SendFile() | Edit() | React():
                self._enqueue(op.chat, self._answer(op.id, self._perform(op)))
            case Fetch():
                self._enqueue(f"fetch {op.id}", self._answer(op.id, self._fetch(op)))

    # --- what the host asks ---

    def _enqueue(self, queue: str, work: Awaitable[None]) -> None:
        previous = self._queues.get(queue)

        async def in_order() -> None:
            if previous is not None:
                await asyncio.wait([previous])
            try:
                await work
            finally:
                if self._queues.get(queue) is asyncio.current_task():
                    del self._queues[queue]

        self._queues[queue] = asyncio.create_task(in_order())

    async def _answer(self, id: str, work: Awaitable[str | None]) -> None:
        try:
            if not self._up.is_set():
                raise _Down("WhatsApp is not connected")
            self._write_event(Done(id=id, message=await work))
        except _Down as error:
            if asyncio.iscoroutine(work):
                work.close()
            self._write_event(Error(id=id, reason="down", text=str(error)))
        except _Refused as error:
            self._write_event(Error(id=id, reason="refused", text=str(error)))
        except _NotSent as error:
            self._write_event(Error(id=id, reason=classify_unsent(str(error)), text=str(error)))
        except Exception as error:
            words = str(error) or type(error).__name__
            self._write_event(Error(id=id, reason=classify_error(words), text=words))

    async def _perform(self, op: Send | SendFile | Edit | React) -> str | None:
        chat = _jid(op.chat)
        if isinstance(op, Edit):
            edited = await self._client.edit_message(chat, op.message, Content(conversation=op.text))
            return str(edited.ID)
        content = await self._content(op)
        sent = await self._client.send_message(chat, content)
        self._remember(op.chat, sent.ID, self._me[0] if self._me else "", content)
        return str(sent.ID)

    async def _content(self, op: Send | SendFile | React) -> Content:
        match op:
            case Send():
                return self._text(op.text, op.chat, op.reply_to)
            case SendFile():
                return await self._uploaded(op)
            case React():
                author = self._author(op.chat, op.message)
                if author is None:
                    raise _Refused("that message is too old to react to")
                return await self._client.build_reaction(_jid(op.chat), _jid(author), op.message, op.emoji)

    def _text(self, text: str, chat: str, reply_to: str | None) -> Content:
        quote = self._quote(chat, reply_to)
        if quote is None:
            return Content(conversation=text)
        return Content(extendedTextMessage=ExtendedTextMessage(text=text, contextInfo=quote))

    def _quote(self, chat: str, reply_to: str | None) -> ContextInfo | None:
        author, content = self._messages.get((chat, reply_to or ""), (None, None))
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
        if not jids.is_media_path(part.directPath):
            raise _Refused("the file is not on WhatsApp's servers")
        part.ClearField("URL")  # whoever writes a message may write any address there, and the library would call it
        body = await self._client.download_any(content)
        if len(body) > op.most_bytes:
            raise _Refused(f"the file is larger than {op.most_bytes} bytes")
        await asyncio.to_thread(Path(op.path).write_bytes, body)

    # --- what WhatsApp tells ---

    async def _on_qr(self, _: object, code: bytes) -> None:
        if self._phone and not self._asked_for_code:
            self._asked_for_code = True
            try:
                self._write_event(protocol.PairCode(code=await self._client.PairPhone(self._phone, True)))
            except Exception as error:
                self._end("down", f"no pairing code was given: {error}")
                return
        elif not self._phone:
            picture = io.StringIO()
            segno.make_qr(code).terminal(out=picture, compact=True)
            self._write_event(protocol.Qr(picture=picture.getvalue()))
        self._write_event(State(state="unpaired"))

    async def _on_paired(self, *_: object) -> None:
        self._write_event(State(state="starting", text="paired"))

    async def _on_connected(self, *_: object) -> None:
        mine = await self._client.get_me()
        self._me = tuple(jids.without_device(Jid2String(jid)) for jid in (mine.JID, mine.LID) if jid.User)
        self._up.set()
        self._write_event(State(state="up", me=self._me[0] if self._me else ""))
        for line in self._spool.pending():
            self._write_line(line)
        self._identified.set()

    async def _on_disconnected(self, *_: object) -> None:
        self._up.clear()
        self._write_event(State(state="down", text="the connection to WhatsApp is lost"))
        try:
            async with asyncio.timeout(DISCONNECTED_LIMIT_S):
                await self._up.wait()
        except TimeoutError:
            self._closed.set()

    async def _on_logged_out(self, *_: object) -> None:
        self._end("logged_out", "the phone has unlinked this device; link it again")

    async def _on_replaced(self, *_: object) -> None:
        self._end("replaced", "another program uses the same session")

    async def _on_banned(self, _: object, ban: TemporaryBanEv) -> None:
        self._end("banned", f"WhatsApp has banned this number for a time (code {ban.Code})")

    async def _on_outdated(self, *_: object) -> None:
        self._end("missing", "WhatsApp no longer accepts this version of neonize; update the bridge")

    async def _on_connect_failure(self, _: object, failure: ConnectFailureEv) -> None:
        self._end("down", f"WhatsApp refuses the connection: {failure.Message or failure.Reason}")

    def _end(self, state: protocol.StateName, text: str) -> None:
        self._up.clear()
        self._write_event(State(state=state, text=text))
        self._closed.set()

    async def _on_message(self, _: object, received: MessageEv) -> None:
        """Waits until our own ids are known: without them a note to oneself looks like a message to somebody else."""
        async with self._receiving:
            await self._identified.wait()
            await self._receive(received)

    async def _receive(self, received: MessageEv) -> None:
        origin = received.Info.MessageSource
        source = jids.MessageSource(
            chat=jids.without_device(Jid2String(origin.Chat)),
            sender=Jid2String(origin.Sender),
            sender_alt=Jid2String(origin.SenderAlt),
            from_me=origin.IsFromMe,
            is_group=origin.IsGroup,
        )
        if not jids.is_for_us(source, self._me):
            return
        sender = jids.preferred_jid(source.sender, source.sender_alt)
        if sender.endswith(f"@{jids.HIDDEN_SERVER}"):
            sender = jids.preferred_jid(await self._phone_of(origin.Sender), sender)
        chat = source.chat if source.is_group else sender
        if (chat, received.Info.ID) in self._messages and source.from_me:
            return  # our own message, echoed
        # An id is its sender's choice, and must not replace another message.
        if (chat, received.Info.ID) not in self._messages:
            self._remember(chat, received.Info.ID, sender, received.Message)
        self._remember_name(received.Info.Pushname, source.sender, source.sender_alt, sender)
        event = await self._to_message(received, chat, sender)
        if event is None:
            sys.stderr.write(f"no person wrote this: {[one.name for one, _ in received.Message.ListFields()]}\n")
        elif not await self._may_change(event, origin):
            sys.stderr.write("a change of what somebody else wrote is ignored\n")
        else:
            if source.is_group:
                event = event.model_copy(update={"chat_name": await self._group_name(origin.Chat)})
            line = protocol.encode(event)
            if self._spool.add(event.key, line):
                self._write_line(line)

    async def _to_message(self, received: MessageEv, chat: str, sender: str) -> protocol.Message | None:
        content = _json_of(received)
        unknown = referenced_people(content) - self._names.keys() - set(self._me)
        for jid in sorted(unknown)[:MAX_CONTACT_LOOKUPS]:
            self._remember_name(await self._contact_name(jid), jid)
        context = MessageContext(
            me=self._me,
            people=self._names,
            earlier=lambda id: self._earlier(chat, id),
            selected_options=await self._selected_options(received)
            if received.Message.HasField("pollUpdateMessage")
            else None,
            is_self_chat=chat in self._me,
            has_unknown=len(UnknownFieldSet(received.Message)) > 0,
        )
        info = MessageInfo(
            id=received.Info.ID,
            chat=chat,
            sender=sender,
            sender_name=received.Info.Pushname,
            sent_at=float(received.Info.Timestamp),
            is_group=received.Info.MessageSource.IsGroup,
        )
        return to_message(content, info, context, file=_attached(_unwrapped(received.Message)))

    def _earlier(self, chat: str, id: str) -> Json | None:
        _, content = self._messages.get((chat, id), (None, None))
        return None if content is None else _as_json(_unwrapped(content))

    async def _selected_options(self, vote: MessageEv) -> tuple[str, ...] | None:
        try:
            return tuple(one.hex() for one in (await self._client.decrypt_poll_vote(vote)).selectedOptions)
        except Exception as error:
            sys.stderr.write(f"a vote cannot be read: {error}\n")
            return None

    async def _may_change(self, event: protocol.Message, origin: Any) -> bool:
        author = self._author(event.chat, event.refers_to)
        is_theirs = author in (None, event.sender)
        is_admin = event.kind == "deletion" and origin.IsGroup and not is_theirs and await self._is_admin(origin)
        return jids.may_change(event.kind, author=author, sender=event.sender, is_admin=is_admin)

    async def _is_admin(self, origin: Any) -> bool:
        try:
            members = (await self._client.get_group_info(origin.Chat)).Participants
        except Exception:
            return False
        ours = {jids.without_device(Jid2String(jid)) for jid in (origin.Sender, origin.SenderAlt) if jid.User}
        admins = [one for one in members if one.IsAdmin or one.IsSuperAdmin]
        return any(
            jids.without_device(Jid2String(jid)) in ours
            for one in admins
            for jid in (one.JID, one.LID, one.PhoneNumber)
        )

    def _remember_name(self, name: str, *people: str) -> None:
        for jid in people:
            if name and jid:
                self._names[jids.without_device(jid)] = name
        while len(self._names) > MAX_NAMES:
            self._names.popitem(last=False)

    async def _contact_name(self, jid: str) -> str:
        """The name in the phone's contacts, or the one that the person chose."""
        try:
            contact = await self._client.contact.get_contact(_jid(jid))
        except Exception:
            return ""
        return str(contact.FullName or contact.PushName or contact.BusinessName)

    def _author(self, chat: str, id: str | None) -> str | None:
        author, _ = self._messages.get((chat, id or ""), (None, None))
        return author

    async def _phone_of(self, hidden: JID) -> str:
        try:
            return str(Jid2String(await self._client.get_pn_from_lid(hidden)))
        except Exception:
            return ""

    async def _group_name(self, group: JID) -> str:
        """Looked up once; a group that is renamed keeps its old name here until the next start."""
        if group.User not in self._group_names:
            try:
                self._group_names[group.User] = str((await self._client.get_group_info(group)).GroupName.Name)
            except Exception:
                return ""
        return self._group_names[group.User]

    def _remember(self, chat: str, id: str, author: str, content: Content) -> None:
        self._messages[chat, id] = (author, content)
        while len(self._messages) > MAX_MESSAGES:
            self._messages.popitem(last=False)


def _logging_errors(handler: Handler) -> Handler:
    """Prints what a handler raises on stderr: the library drops it."""

    async def guarded(client: object, event: object) -> None:
        try:
            await handler(client, event)
        except Exception:
            traceback.print_exc()

    return guarded


class _Refused(Exception):
    pass


class _NotSent(Exception):
    pass


class _Down(Exception):
    pass


def _media(content: Content) -> str | None:
    return next((kind for kind in MEDIA if content.HasField(kind)), None)


def _unwrapped(content: Content) -> Content:
    for _ in range(MAX_WRAPPERS):
        wrapper = next((one for one in WRAPPERS if content.HasField(one)), None)
        if wrapper is None or not getattr(content, wrapper).HasField("message"):
            return content
        content = getattr(content, wrapper).message
    return content


def _as_json(message: Any) -> Json:
    content: Json = MessageToDict(message, preserving_proto_field_name=True)
    return content


def _json_of(received: MessageEv) -> Json:
    """The message, with the `messageContextInfo` of the wrappers that the library removed."""
    content = _as_json(received.Message)
    if received.Raw.HasField("messageContextInfo") and "messageContextInfo" not in content:
        content = {**content, "messageContextInfo": _as_json(received.Raw.messageContextInfo)}
    return content


def _attached(content: Content) -> protocol.File | None:
    """The reference is all that is needed to download the file: where it is and its key."""
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

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
from google.protobuf.message import DecodeError
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
from nanohost.wa_bridge.protocol import Done, Edit, Error, Event, Fetch, Op, Open, React, Send, SendFile, State
from nanohost.wa_bridge.spool import Spool

Handler = Callable[[Any, Any], Awaitable[None]]
"""Of events whose types the library makes up when it is imported."""
MEDIA = ("documentMessage", "imageMessage", "videoMessage", "audioMessage", "stickerMessage")
REMEMBERED = 2_000
"""Messages that can still be quoted and reacted to."""
MAX_TEXT = 65_536
DISCONNECTED_LIMIT_S = 45.0
"""The library connects again by itself; longer than this, the process ends and the host starts another."""
_EDIT = 14
"""ProtocolMessage.MESSAGE_EDIT"""


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
            self._say(Error(id=id, reason="not_sent", text=str(error)))
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
        event = _event(said, chat=chat, sender=sender, me=self._me)
        if event is not None and event.kind == "edit" and self._author(chat, event.refers_to) not in (None, sender):
            sys.stderr.write("an edit of what somebody else wrote is ignored\n")
        elif event is not None:
            if source.is_group:
                event = event.model_copy(update={"chat_name": await self._name_of(place.Chat)})
            line = protocol.encode(event)
            if self._spool.keep(event.key, line):
                self._say_line(line)

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


def _event(said: MessageEv, *, chat: str, sender: str, me: tuple[str, ...]) -> protocol.Message | None:
    """The message as the host hears it; None for what is no person's doing (keys, polls, receipts)."""
    content, id = said.Message, said.Info.ID
    common = protocol.Message(
        key=f"{chat} {id}",
        id=id,
        chat=chat,
        sender=sender,
        sender_name=said.Info.Pushname,
        sent_at=float(said.Info.Timestamp),
        is_group=said.Info.MessageSource.IsGroup,
    )
    if content.HasField("reactionMessage"):
        reaction = content.reactionMessage
        return common.model_copy(update={"kind": "reaction", "text": reaction.text, "refers_to": reaction.key.ID})
    if content.HasField("protocolMessage"):
        change = content.protocolMessage
        if change.type != _EDIT:
            return None
        text = _words(change.editedMessage)
        # An edit may carry the id of what it changes.
        own = f"{id}/{change.timestampMS}"
        edit = {"kind": "edit", "id": own, "key": f"{chat} {own}", "text": text, "refers_to": change.key.ID}
        return common.model_copy(update=edit)
    file, about = _attached(content), _context(content)
    text = _words(content)
    if not text and file is None:
        return None
    mentioned = {names.bare(jid) for jid in about.mentionedJID} | {names.bare(about.participant)}
    return common.model_copy(
        update={
            "text": names.without_name(text, me) if common.is_group else text,
            "file": file,
            "refers_to": about.stanzaID or None,
            "mentions_me": bool(mentioned.intersection(me)),
        }
    )


def _words(content: Content) -> str:
    kind = _media(content)
    caption = getattr(getattr(content, kind), "caption", "") if kind else ""
    return str(content.conversation or content.extendedTextMessage.text or caption)[:MAX_TEXT]


def _media(content: Content) -> str | None:
    return next((kind for kind in MEDIA if content.HasField(kind)), None)


def _context(content: Content) -> ContextInfo:
    kind = _media(content) or "extendedTextMessage"
    return getattr(content, kind).contextInfo


def _attached(content: Content) -> protocol.File | None:
    """The reference is all that is needed to download the file: where it lies and its key."""
    kind = _media(content)
    if kind is None:
        return None
    part = getattr(content, kind)
    only = Content()
    getattr(only, kind).CopyFrom(part)
    for bulky in ("JPEGThumbnail", "contextInfo"):
        if bulky in part.DESCRIPTOR.fields_by_name:
            getattr(only, kind).ClearField(bulky)
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

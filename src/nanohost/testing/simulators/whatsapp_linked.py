"""WhatsApp as a linked device sees it: the bridge's side of its protocol with the channel, with people behind it.

The channel starts its bridge as ever; what it starts (`_whatsapp_bridge.py`) passes every line on to here. Messages
wait here until they are accepted, as they do in the real bridge's spool. A reset is a bridge that dies; an outage is
one that lives and has no network. What people send beside words and files is converted by the real bridge's code.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from nanohost.testing.content import ContentKind
from nanohost.testing.reserved_port import ReservedPort
from nanohost.testing.simulator import (
    ADA,
    BOB,
    BOT,
    Fault,
    Person,
    ScreenMessage,
    Simulator,
    make_edit,
    make_reaction,
    make_reaction_removal,
)
from nanohost.testing.simulators._whatsapp_converter import BridgeConverter
from nanohost.testing.simulators._whatsapp_kinds import LINKED, LINKED_CONTENTS
from nanohost.testing.simulators._whatsapp_lines import (
    MAX_LINE_BYTES,
    Accepted,
    Done,
    Edit,
    Error,
    Event,
    Fetch,
    File,
    Message,
    Op,
    Open,
    PairCode,
    Ping,
    Qr,
    React,
    Reason,
    Send,
    SendFile,
    State,
    StateName,
    Typing,
    encode,
    parse_op,
)

ME = "1000@s.whatsapp.net"
GROUP = "500@g.us"
Json = Mapping[str, object]
MAX_TEXT = 65_536
_ANY_TYPE = "application/octet-stream"
Asked = Send | SendFile | Edit | React


class WhatsAppLinkedSimulator(Simulator):
    """Ada's and Bob's chats are ID@s.whatsapp.net; `state` is what a bridge that opens is told."""

    name = "whatsapp"
    other_inputs: Mapping[ContentKind, str] = {}

    def __init__(self) -> None:
        super().__init__()
        self.state: StateName = "up"
        self.opened: list[Open] = []
        """One for each bridge that came."""
        self.answers_pings = True
        self.pair_code = "ABCD-1234"
        self._port = ReservedPort()
        self._bridges: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, Message] = {}
        self._said: dict[str, Message] = {}
        self._accepted: list[str] = []
        self._files: dict[str, bytes] = {}
        self._contents: dict[str, dict[str, Json]] = {}
        """By chat, and by the message's id."""
        self._converter = BridgeConverter()
        self.people = {f"{one.id}@s.whatsapp.net": one.name for one in (ADA, BOB)}
        """What the library knows people by."""
        self._last_id = 0
        self._now_s = 1_700_000_000.0

    # --- life ---

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._welcome, "127.0.0.1", self._port.number, limit=MAX_LINE_BYTES)
        try:
            yield
        finally:
            server.close()
            self.kill_bridge()
            await self._converter.close()
            await asyncio.gather(*self._serving, return_exceptions=True)
            await server.wait_closed()

    def settings(self) -> dict[str, str]:
        script = Path(__file__).with_name("_whatsapp_bridge.py")
        return {
            "backend": "linked",
            "consent": "I accept the risk",
            "allow": f"{ADA.id}, {GROUP}",
            "answer_limit_s": "2",
            "bridge": shlex.join([sys.executable, "-I", "-S", str(script), "127.0.0.1", str(self._port.number)]),
        }

    async def start_outage(self) -> None:
        await self.become("down", "no network")

    async def end_outage(self) -> None:
        await self.become("up")

    async def become(self, state: StateName, text: str = "") -> None:
        """From now on the device stands so."""
        self.state = state
        self._say(State(state=state, text=text, me=ME if state == "up" else ""))
        if state == "up":
            self._say(*self._waiting.values())

    async def show_pairing(self, *, picture: str = "", code: str = "") -> None:
        """The phone is not linked yet, and may be by this picture or this code."""
        self.state = "unpaired"
        self._say(Qr(picture=picture) if picture else PairCode(code=code), State(state="unpaired"))

    def kill_bridge(self) -> None:
        """Every bridge that is there dies."""
        for bridge in list(self._bridges):
            bridge.transport.abort()

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
        if message_id in self._said:
            self._say(self._said[message_id])
            return message_id
        id = message_id or self._new_id()
        said = replace_message(
            self._from(person, chat, id, group=group), text=text, mentions_me=mention, file=self._stored(id, file)
        )
        await self.add_message(ScreenMessage(id=id, chat=chat, text=text, raw=text, sender=person.id))
        self._deliver(said)
        return id

    async def say(
        self,
        chat: str,
        content: Json,
        *,
        person: Person = ADA,
        message_id: str | None = None,
        file: bytes = b"",
        chosen: Collection[str] | None = None,
    ) -> str:
        """Somebody sends this, a `waE2E.Message` as protobuf's JSON. `chosen`: the hashes in a vote, which the library
        decrypts; None: it cannot. Raises UsageError where the bridge, which converts it, is not installed."""
        id = message_id or self._new_id()
        self._now_s += 1.0
        earlier = self._contents.setdefault(chat, {})
        said = await self._converter.convert(
            {
                "content": content,
                "id": id,
                "chat": chat,
                "sender": person.id,
                "sender_name": person.name,
                "sent_at": self._now_s,
                "is_group": chat.endswith("@g.us"),
                "me": [ME],
                "people": self.people,
                "earlier": earlier,
                "selected_options": None if chosen is None else list(chosen),
                "file_bytes": len(file),
            }
        )
        earlier[id] = content
        if said is not None:
            if said.file is not None:
                self._files[said.file.ref] = file
            self._deliver(said)
        return id

    def examples(self) -> Mapping[ContentKind, Sequence[str]]:
        return LINKED_CONTENTS

    async def send_example(self, name: str, chat: str, *, person: Person, group: bool) -> Sequence[str]:
        ids = [self._new_id() for _ in LINKED[name]]
        await self.add_message(ScreenMessage(id=ids[0], chat=chat, text=f"[{name}]", raw="", sender=person.id))
        for id, content in zip(ids, LINKED[name], strict=True):
            whole = json.loads(json.dumps(content).replace('"ALBUM"', json.dumps(ids[0])))
            await self.say(chat, whole, person=person, message_id=id, file=b"example")
        return ids

    async def delete(self, message_id: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody deletes a message of theirs."""
        self._screen_messages = [one for one in self._screen_messages if (one.id, one.chat) != (message_id, chat)]
        await self.notify_changed()
        said = self._from(person, chat, self._new_id(), group=chat.endswith("@g.us"))
        self._deliver(replace_message(said, kind="deletion", refers_to=message_id))

    async def press(self, message: ScreenMessage, label: str, *, person: Person = ADA) -> None:
        raise NotImplementedError("a linked device has no buttons")

    async def remove_reaction(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        """Somebody takes back their reaction: WhatsApp tells of one without an emoji."""
        await self.update_message(message_id, make_reaction_removal(emoji), chat=chat)
        said = self._from(person, chat, self._new_id(), group=chat.endswith("@g.us"))
        self._deliver(replace_message(said, kind="reaction_removed", refers_to=message_id))

    async def react(self, message_id: str, emoji: str, *, chat: str, person: Person = ADA) -> None:
        await self.update_message(message_id, make_reaction(emoji), chat=chat)
        said = self._from(person, chat, self._new_id(), group=chat.endswith("@g.us"))
        self._deliver(replace_message(said, kind="reaction", text=emoji, refers_to=message_id))

    async def edit(self, message_id: str, text: str, *, chat: str, person: Person = ADA, mention: bool = False) -> None:
        said = self._from(person, chat, self._new_id(), group=chat.endswith("@g.us"))
        await self.update_message(message_id, make_edit(text, text), chat=chat)
        self._deliver(replace_message(said, kind="edit", text=text, refers_to=message_id, mentions_me=mention))

    async def send_garbage(self) -> None:
        for line in (*GARBAGE, b"x" * (MAX_LINE_BYTES + 10)):
            self._write(line + b"\n")

    def acknowledged(self) -> Sequence[str]:
        return self._accepted

    # --- what the channel asks ---

    async def _welcome(self, reader: asyncio.StreamReader, bridge: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._bridges.add(bridge)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while line := await reader.readline():
                    await self._take(parse_op(line))
        finally:
            self._bridges.discard(bridge)
            self._serving.discard(task)
            bridge.transport.abort()

    async def _take(self, op: Op) -> None:
        match op:
            case Open():
                self.opened.append(op)
                self._say(State(state="starting"))
                await self.become(self.state)
                if self.state == "unpaired" and op.phone:
                    self._say(PairCode(code=self.pair_code))
            case Accepted(key=key):
                if (said := self._waiting.pop(key, None)) is not None:
                    self._accepted.append(said.id)
            case Ping(id=id) if self.answers_pings:
                self._say(Done(id=id))
            case Typing(chat=chat):
                self.typing.append(chat)
            case Fetch():
                self._fetch(op)
            case Send() | SendFile() | Edit() | React():
                await self._asked(op)
        await self.notify_changed()

    async def _asked(self, op: Asked) -> None:
        if self.state != "up":
            self._fail(op, "down", "no network")
            return
        seconds = self.faults.retry_after_s(op.chat)
        if seconds is not None:
            self._fail(op, "rate_limited", "rate-overlimit", retry_after_s=seconds)
            return
        match self.faults.take():
            case Fault.RESET_BEFORE:
                self.kill_bridge()
            case Fault.RESET_AFTER:
                await self._done(op)
                self.kill_bridge()
            case Fault.SERVER_ERROR | Fault.UNAVAILABLE:
                self._fail(op, "server_error", "server returned error 503")
            case Fault.UNAUTHORIZED:
                self._fail(op, "auth", "not logged in")
            case Fault.NOT_JSON:
                self._write(b"<html><h1>It works!</h1></html>\n")
            case Fault.HANG:
                pass
            case None:
                await self._answer(op)

    async def _answer(self, op: Asked) -> None:
        problem = None if isinstance(op, React) or len(op.text) <= MAX_TEXT else "message too large"
        if isinstance(op, Send) and not op.text.strip():
            problem = "an empty message is invalid"
        if isinstance(op, (Edit, React)) and all(one.id != op.message for one in self.screen(op.chat, sender=None)):
            problem = "invalid message id"
        if problem:
            self._fail(op, "refused", problem)
        else:
            self._say(Done(id=op.id, message=await self._done(op)))

    async def _done(self, op: Asked) -> str:
        id = self._new_id()
        match op:
            case Send():
                await self._show(id, op)
            case SendFile():
                await self._show(id, op, file=(op.name, await asyncio.to_thread(Path(op.path).read_bytes)))
            case Edit():
                await self.update_message(op.message, make_edit(visible(op.text), op.text), chat=op.chat)
            case React():
                # A person has one reaction to a message; a new one replaces it.
                emoji = op.emoji
                await self.update_message(op.message, lambda one: replace(one, reactions=(emoji,)), chat=op.chat)
        return id

    async def _show(self, id: str, op: Send | SendFile, file: tuple[str | None, bytes] = (None, b"")) -> None:
        name, content = file
        await self.add_message(
            ScreenMessage(
                id=id,
                chat=op.chat,
                text=visible(op.text),
                raw=op.text,
                sender=BOT,
                reply_to=op.reply_to,
                file_name=name,
                file_bytes=content,
            )
        )

    def _fetch(self, op: Fetch) -> None:
        content = self._files.get(op.ref)
        if content is None or len(content) > op.most_bytes:
            self._fail(op, "refused", "there is no such file, or it is larger")
            return
        Path(op.path).write_bytes(content)
        self._say(Done(id=op.id))

    # --- lines ---

    def _fail(self, op: Asked | Fetch, reason: Reason, text: str, *, retry_after_s: float | None = None) -> None:
        self._say(Error(id=op.id, reason=reason, text=text, retry_after_s=retry_after_s))

    def _deliver(self, said: Message) -> None:
        self._waiting[said.key] = self._said[said.id] = said
        if self.state == "up":
            self._say(said)

    def _say(self, *events: Event) -> None:
        for event in events:
            self._write(encode(event))

    def _write(self, line: bytes) -> None:
        for bridge in self._bridges:
            bridge.write(line)

    def _from(self, person: Person, chat: str, id: str, *, group: bool) -> Message:
        self._now_s += 1.0
        return Message(
            key=f"{chat} {id}",
            id=id,
            chat=chat,
            sender=person.id,
            sender_name=person.name,
            sent_at=self._now_s,
            is_group=group,
            is_bot=person.is_bot,
        )

    def _stored(self, id: str, file: tuple[str, bytes] | None) -> File | None:
        if file is None:
            return None
        name, content = file
        self._files[id] = content
        return File(ref=id, name=name, media_type=_ANY_TYPE, size=len(content))

    def _new_id(self) -> str:
        self._last_id += 1
        return f"3EB0{self.id_offset + self._last_id:012X}"


def replace_message(said: Message, **changes: object) -> Message:
    return said.model_copy(update=changes)


_MARKS = tuple(re.compile(rf"(?<!\w){mark}(?=\S)([^{mark}\n]*?\S){mark}(?!\w)") for mark in (r"\*", "_", "~"))


def visible(text: str) -> str:
    """What a person reads: marks become style, what is code stays as it is."""
    pieces = re.split(r"(```.*?```|`[^`\n]+`)", text, flags=re.DOTALL)
    for at, piece in enumerate(pieces):
        if at % 2:
            pieces[at] = piece.strip("`")
            continue
        for mark in _MARKS:
            piece = mark.sub(r"\1", piece)
        pieces[at] = piece
    return "".join(pieces)


GARBAGE: tuple[bytes, ...] = (
    b"",
    b"goroutine 1 [running]:",
    b"\xff\xfe\x00",
    b"{",
    b"[" * 10_000,
    b"null",
    b"[]",
    b"5",
    b'{"ev": 1}',
    b'{"ev": "brand_new"}',
    b'{"ev": "message"}',
    b'{"ev": "message", "key": 5, "id": "x", "chat": "c", "sender": "s", "sent_at": 0}',
    b'{"ev": "message", "key": "k", "id": "x", "chat": "c", "sender": "s", "sent_at": 1e300}',
    b'{"ev": "message", "key": "k", "id": "x", "chat": "c", "sender": "s", "sent_at": "noon"}',
    b'{"ev": "done", "id": "never asked"}',
    b'{"ev": "error", "id": "never asked", "reason": "refused", "text": ""}',
    b'{"ev": "error", "id": "1", "reason": "bored", "text": ""}',
    b'{"ev": "state", "state": "confused"}',
)
SIMULATOR = WhatsAppLinkedSimulator

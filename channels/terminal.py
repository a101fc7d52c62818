# /// script
# dependencies = []
# [tool.nanohost]
# kind = "channel"
# name = "terminal"
# api = 1
# ///
"""Connects local terminals: any number of clients on the Unix socket `terminal.sock` in the runtime folder.

Both sides write lines of JSON in UTF-8, one object per line. A line of either side has at most 1 MiB + 64 KiB; a longer
or invalid line is answered with an `error`, and the connection stays open.

    client → host
        {"type": "hello", "chat": "local", "user": "ann"}       first; again to change the chat
        {"type": "message", "id": "…", "text": "…"}             the client makes the id: unique, sortable, kept when
                                                                the message is sent again
        {"type": "received", "key": "…"}                        the message with this key has been shown
    host → client
        {"type": "ready", "version": 2}                         answers hello; without a version it is the first
        {"type": "accepted", "id": "…"}                         the message is committed and will be answered
        {"type": "message", "key": "…", "text": "…", "reply_to": "…" or null,
         "agent": "…", "trouble": false,                        whose words they are, "" for the host's own; whether it
         "at": "…" or null}                                     says that something went wrong; when it was to be said,
                                                                as ISO 8601 (since version 2)
        {"type": "typing", "for_s": 12.5, "tool": "Bash", "tool_for_s": 3.1, "for_person": false}
                                                                an answer is being made; fades by itself. For how long,
                                                                with which tool ("": none), and whether that waits for
                                                                a person's answer (since version 2)
        {"type": "error", "text": "…"}                          a sentence about the client's last line

A client that saw no `accepted` sends the message again under the same id: the host keeps one. A client that gets a
`message` whose key it has shown answers `received` again and shows nothing: that is how a send that is repeated stays
one message. All clients of a chat see its answers; one `received` is enough.

Whoever may open the socket is the machine's own user, because its mode is 0600: `user` is a name, not a proof.
Characters that no terminal can show (halves of surrogate pairs) become U+FFFD in both directions.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from nanohost.channel_api import (
    Address,
    Ambiguous,
    Capabilities,
    Channel,
    ChannelContext,
    ChannelDown,
    ChannelError,
    Form,
    InboundEvent,
    Inbox,
    OutboundText,
    Receipt,
    RefusedHere,
    Sender,
    Work,
    short_socket_path,
)

MAX_LINE_BYTES = 1024 * 1024 + 64 * 1024
MAX_ID_CHARACTERS = 200
ACK_TIMEOUT_S = 5.0

VERSION = 2
"""The version of the protocol. Each side ignores what a later version adds."""

_MAX_UNREAD_BYTES = 8 * 1024 * 1024
"""Bytes. A client that leaves more unread (as when stopped with Ctrl-Z) is disconnected."""
_MAX_WAITING_MESSAGES = 100
"""While more messages wait to be committed, the host stops reading from the clients that send."""
_MAX_REMEMBERED_KEYS = 10_000
_CLOSE_TIMEOUT_S = 1.0


def create(context: ChannelContext) -> Channel:
    return TerminalChannel(context.runtime_dir / "terminal.sock")


@dataclass(frozen=True, slots=True)
class Hello:
    chat: str
    user: str


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Received:
    key: str


class InvalidLineError(Exception):
    """A line of a client is invalid; the text is a sentence for the client's developer."""


def parse_line(line: bytes | None) -> Hello | Message | Received:
    """Parses a client's line; None stands for one that was too long. Raises InvalidLineError."""
    if line is None:
        raise InvalidLineError(f"a line may be at most {MAX_LINE_BYTES} bytes long")
    try:
        said = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise InvalidLineError("that line is not JSON in UTF-8") from None
    if not isinstance(said, dict):
        raise InvalidLineError("a line holds one JSON object")
    match said.get("type"):
        case "hello":
            return Hello(chat=_name_field(said, "chat", "local"), user=_name_field(said, "user", "local"))
        case "message":
            return Message(id=_name_field(said, "id"), text=_text_field(said, "text"))
        case "received":
            return Received(key=_name_field(said, "key"))
        case _:
            raise InvalidLineError("a line's type is hello, message or received")


class TerminalChannel:
    """Handles the clients of one socket. It keeps the keys of shown messages only in memory."""

    def __init__(self, socket_path: Path, *, ack_timeout_s: float = ACK_TIMEOUT_S) -> None:
        self._path = socket_path
        self._ack_timeout_s = ack_timeout_s
        self._is_open = False
        self._clients: dict[_Client, asyncio.Task[None]] = {}
        self._incoming: asyncio.Queue[_IncomingMessage] = asyncio.Queue(_MAX_WAITING_MESSAGES)
        self._next: _IncomingMessage | None = None
        self._shown_keys: dict[tuple[str, str], asyncio.Event] = {}
        self._inbox: Inbox | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(threads=False, idempotent_send=True, form=Form.MARKDOWN, typing_every_s=1.0)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Listens while entered. Raises ChannelError if the socket is not available, usually because of a second
        host."""
        listener = _listen(self._path)
        server = await asyncio.start_unix_server(self._serve_client, sock=listener, limit=MAX_LINE_BYTES)
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False
            server.close()
            _unlink_if_present(self._path)
            await self._disconnect_all()
            await server.wait_closed()

    async def receive(self, inbox: Inbox) -> None:
        """Passes the clients' messages to the inbox in order of arrival.

        A message that could not be committed stays first: the next call passes it again.
        """
        self._inbox = inbox
        if self._clients:
            inbox.reached()
        while True:
            if self._next is None:
                self._next = await self._incoming.get()
            said = self._next
            await inbox.accept(said.event)
            self._next = None
            said.client.send_json({"type": "accepted", "id": said.event.platform_message_id})

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        """Shows the message to all clients of the chat; returns when the first of them acknowledges it."""
        shown = self._shown_keys.get((address.platform_id, idempotency_key))
        if shown is None or not shown.is_set():
            await self._show(address.platform_id, message, idempotency_key)
        return Receipt(platform_message_ids=(idempotency_key,))

    async def typing(self, address: Address) -> None:
        await self.working(address, Work())

    async def working(self, address: Address, work: Work) -> None:
        for client in self._clients_of(address.platform_id):
            client.send_json({"type": "typing", **asdict(work)})

    async def _show(self, chat: str, message: OutboundText, key: str) -> None:
        said = {"type": "message", "key": key, "text": message.text, "reply_to": message.reply_to}
        at = None if message.at is None else message.at.isoformat()
        line = _encode({**said, "agent": message.agent, "trouble": message.is_trouble, "at": at})
        if len(line) > MAX_LINE_BYTES:
            raise RefusedHere(f"the message makes a line of {len(line)} bytes; the terminal takes {MAX_LINE_BYTES}")
        clients = self._clients_of(chat)
        if not clients:
            raise ChannelDown(f"nobody has the chat {chat} open in a terminal")
        # Recorded before it is written, and kept after the wait: a late acknowledgement still counts.
        shown = self._shown_keys.setdefault((chat, key), asyncio.Event())
        while len(self._shown_keys) > _MAX_REMEMBERED_KEYS:
            del self._shown_keys[next(iter(self._shown_keys))]
        for client in clients:
            client.write(line)
        try:
            async with asyncio.timeout(self._ack_timeout_s):
                await shown.wait()
        except TimeoutError:
            raise Ambiguous(f"no terminal with the chat {chat} open said that it showed the message") from None

    def _clients_of(self, chat: str) -> list[_Client]:
        return [client for client in self._clients if client.chat == chat and client.is_open]

    def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._is_open:
            # A connection that was being made while the server closed.
            writer.transport.abort()
            return
        client = _Client(writer)
        self._clients[client] = asyncio.create_task(self._read_client(client, reader), name="terminal client")

    async def _read_client(self, client: _Client, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                line = await _read_line(reader)
                try:
                    await self._handle_line(client, parse_line(line))
                except InvalidLineError as error:
                    client.send_json({"type": "error", "text": str(error)})
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client has gone
        finally:
            del self._clients[client]
            await client.close()

    async def _handle_line(self, client: _Client, line: Hello | Message | Received) -> None:
        match line:
            case Hello(chat, user):
                client.chat, client.user = chat, user
                client.send_json({"type": "ready", "version": VERSION})
                if self._inbox is not None:
                    self._inbox.reached()
            case Message():
                await self._incoming.put(_IncomingMessage(client=client, event=_event(client, line)))
            case Received(key):
                shown = self._shown_keys.get((client.chat or "", key))
                if shown is not None:
                    shown.set()

    async def _disconnect_all(self) -> None:
        """Disconnects all clients. Drops uncommitted messages: they were not accepted, and the clients send them
        again."""
        clients = dict(self._clients)
        for task in clients.values():
            task.cancel()
        await asyncio.gather(*clients.values(), return_exceptions=True)
        # Once more, for a client whose task was cancelled before its first step.
        await asyncio.gather(*(client.close() for client in clients))
        self._clients.clear()
        self._incoming = asyncio.Queue(_MAX_WAITING_MESSAGES)
        self._next = None


class _Client:
    """One connection. Writing never waits and never fails: a client that is gone, or does not read, misses messages."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.chat: str | None = None
        self.user = ""

    @property
    def is_open(self) -> bool:
        return not self._writer.is_closing()

    def send_json(self, payload: Mapping[str, object]) -> None:
        self.write(_encode(payload))

    def write(self, line: bytes) -> None:
        if not self.is_open:
            return
        self._writer.write(line)
        if self._writer.transport.get_write_buffer_size() > _MAX_UNREAD_BYTES:
            self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()


@dataclass(frozen=True, slots=True, kw_only=True)
class _IncomingMessage:
    client: _Client
    event: InboundEvent


def _event(client: _Client, message: Message) -> InboundEvent:
    if client.chat is None:
        raise InvalidLineError('say {"type": "hello", …} first')
    return InboundEvent(
        platform_id=client.chat,
        platform_message_id=message.id,
        sender=Sender(handle=client.user, name=client.user),
        text=message.text,
        sent_at=datetime.now(UTC),
        chat_name="terminal",
    )


async def _read_line(reader: asyncio.StreamReader) -> bytes | None:
    """Reads the next line; returns None for one that is too long. Raises IncompleteReadError at the end."""
    too_long = False
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as overrun:
            too_long = True
            await reader.readexactly(overrun.consumed)
        else:
            return None if too_long else line


def _text_field(said: dict[str, object], key: str, default: str | None = None) -> str:
    value = said.get(key, default)
    if not isinstance(value, str):
        raise InvalidLineError(f"{key} must be a string")
    return _well_formed(value)


def _name_field(said: dict[str, object], key: str, default: str | None = None) -> str:
    value = _text_field(said, key, default)
    if not 0 < len(value) <= MAX_ID_CHARACTERS:
        raise InvalidLineError(f"{key} must have 1 to {MAX_ID_CHARACTERS} characters")
    return value


def _well_formed(text: str) -> str:
    """Replaces unpaired surrogates, which JSON can contain and UTF-8 cannot encode."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _encode(said: Mapping[str, object]) -> bytes:
    return _well_formed(json.dumps(said, ensure_ascii=False)).encode() + b"\n"


def _listen(path: Path) -> socket.socket:
    """Binds the socket, in place of one that a dead host left. Raises ChannelError.

    The kernel accepts no client between bind and listen, so the mode is set before the first client.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_socket_path(path) as short:
            if path.is_socket():
                _remove_stale_socket(path, short)
            listener.bind(short)
        path.chmod(0o600)
        listener.listen()
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ChannelError(f"the terminal's socket {path} cannot be opened: {error.strerror or error}") from error
    except ChannelError:
        listener.close()
        raise
    return listener


def _remove_stale_socket(path: Path, short: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Non-blocking: a running host with a full backlog answers "try again".
        probe.setblocking(False)
        try:
            probe.connect(short)
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass
    raise ChannelError(f"the terminal's socket {path} is served by another process; stop that one first")


def _unlink_if_present(path: Path) -> None:
    path.unlink(missing_ok=True)

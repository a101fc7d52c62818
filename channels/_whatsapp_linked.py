"""Connects WhatsApp as a linked device of one's own number: part of `whatsapp.py`, chosen by `backend = "linked"`.

The device is a separate program, `python -m nanohost_whatsapp_bridge` of the distribution in whatsapp_bridge/: this
file starts it, restarts it with growing pauses when it ends, and exchanges lines of JSON with it (protocol.py there has
all of them). It ends with the host. The bridge repeats a person's message until it is accepted here, across all
restarts.

This is unofficial, so it starts only after written consent, and uses a safe mode by default: it sends only to chats
that have written first or are allowed by name, slowly, and up to a daily limit. The sender cannot choose a WhatsApp
message's id: a send whose answer is lost may have been sent.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import os
import re
import shlex
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from nanohost.channel_api import (
    SLOWEST_UPLOAD,
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
)

CONSENT = "I accept the risk"
BRIDGE_PACKAGE = "nanohost_whatsapp_bridge"
BRIDGE = shlex.join([sys.executable, "-m", BRIDGE_PACKAGE])
BRIDGE_NOT_INSTALLED = (
    "the WhatsApp bridge is not installed. In a checkout, `pip install -e whatsapp_bridge` installs it; then start the"
    " host again"
)
MAX_LINE_BYTES = 4 * 1024 * 1024
RESTART_DELAYS_S = (0.1, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds before the bridge is restarted; after a healthy minute they begin again with the first."""
BANNED_RESTART_DELAY_S = 3600.0
"""A longer pause for a banned account."""
HEALTHY_AFTER_S = 60.0
SHUTDOWN_TIMEOUT_S = 5.0
STDERR_DRAIN_S = 1.0
RECONNECT_GRACE_S = 0.5
"""Seconds. A lost connection is often back by then."""
PAIRING_TIMEOUT_S = 180.0
WHATSAPP_WEB = "https://web.whatsapp.com"
_ALLOWED_VARIABLES = re.compile(r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|SSL_CERT_\w+|\w+_proxy", re.IGNORECASE)
"""Environment variables that the bridge gets: no secrets of the host."""

_log = structlog.get_logger()


# --- settings ---------------------------------------------------------------------------------------------------


def _split_list(value: object) -> object:
    return [one for one in re.split(r"[,;]\s*|\n", value) if one.strip()] if isinstance(value, str) else value


class Settings(BaseModel):
    """[channels.whatsapp] with backend = "linked"."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    backend: Literal["linked"]
    consent: str = ""
    phone: str = Field(default="", pattern=r"^[+\d ()-]*$", description="a phone number with its country code")
    allow: Annotated[list[str], BeforeValidator(_split_list)] = Field(
        default=[], description='a list of phone numbers with country code, or of chat ids: ["+49 170 1234567"]'
    )
    safe_mode: bool = Field(default=True, description="true or false")
    daily_cap: int = Field(default=200, ge=1, description="a whole number, 1 or more")
    pace_s: float = Field(default=3.0, ge=3.0, description="seconds, 3 or more")
    answer_limit_s: float = Field(default=25.0, gt=0, le=25, description="seconds, more than 0 and at most 25")
    bridge: str = Field(default=BRIDGE, min_length=1, description="a command line")


def read_settings(table: Mapping[str, object], *, instance: str = "default") -> Settings:
    """Reads the settings. Raises ChannelError that says what is missing, and what to write."""
    name = "channels.whatsapp" if instance == "default" else f"channels.whatsapp.{instance}"
    try:
        settings = Settings.model_validate(dict(table))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"])) or "the table"
        field = Settings.model_fields.get(str(first["loc"][0])) if first["loc"] else None
        wanted = f"; it has to be {field.description}" if field and field.description else ""
        raise ChannelError(f"[{name}] {key}: {first['msg']}{wanted}") from None
    if settings.consent != CONSENT:
        raise ChannelError(
            "a linked device is not an official way to use WhatsApp: its terms forbid automated use, and the number may"
            f' be banned. To use it nevertheless, write consent = "{CONSENT}" into [{name}]'
            " (docs/channels/whatsapp-linked.md says more)"
        )
    return settings


def to_chat_id(written: str) -> str:
    """Converts a phone number in any common form, or a chat id, to a chat id."""
    return written.strip() if "@" in written else re.sub(r"\D", "", written) + "@s.whatsapp.net"


def create(context: ChannelContext) -> Channel:
    """Creates the channel. Raises ChannelError when a setting is wrong, or the risk has not been accepted."""
    settings = read_settings(context.settings, instance=context.instance)
    return LinkedChannel(settings, context.home / "data" / "whatsapp" / context.instance)


# --- what the bridge says ---------------------------------------------------------------------------------------


class _Line(BaseModel):
    """A line of the bridge. Unknown keys are ignored: a newer bridge may send more."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class State(_Line):
    ev: Literal["state"]
    state: Literal["starting", "unpaired", "up", "down", "logged_out", "banned", "replaced", "busy", "missing"]
    text: str = ""
    me: str = ""


class Qr(_Line):
    ev: Literal["qr"]
    picture: str


class PairCode(_Line):
    ev: Literal["pair_code"]
    code: str


class File(_Line):
    ref: str
    name: str = ""
    media_type: str = ""
    size: int | None = None


class MessagePart(_Line):
    """A part of a message. An unknown kind is shown like a shared object."""

    kind: str
    text: str = ""
    title: str = ""
    author: str = ""
    chat: str = ""
    marked: str = ""
    url: str = ""


class Message(_Line):
    ev: Literal["message"]
    key: str
    kind: Literal["message", "edit", "deletion", "reaction", "reaction_removed"] = "message"
    id: str
    chat: str
    sender: str
    sender_name: str = ""
    text: str = ""
    sent_at: float = Field(ge=0, le=32_503_680_000)
    chat_name: str = ""
    is_group: bool = False
    is_bot: bool = False
    mentions_me: bool = False
    refers_to: str | None = None
    file: File | None = None
    parts: list[MessagePart] = []
    album: str | None = None


class Succeeded(_Line):
    ev: Literal["done"]
    id: str
    message: str | None = None


class Error(_Line):
    ev: Literal["error"]
    id: str
    reason: Literal["not_sent", "server_error", "down", "rate_limited", "ambiguous", "refused", "auth"]
    text: str
    retry_after_s: float | None = None


BridgeMessage = State | Qr | PairCode | Message | Succeeded | Error
_BRIDGE_MESSAGE: TypeAdapter[BridgeMessage] = TypeAdapter(Annotated[BridgeMessage, Field(discriminator="ev")])


def parse(line: bytes) -> BridgeMessage | None:
    """Parses a line of the bridge; returns None if it is invalid."""
    try:
        return _BRIDGE_MESSAGE.validate_json(line)
    except ValidationError:
        return None


def encode(op: Mapping[str, object]) -> bytes:
    """Encodes one line. Unpaired surrogates, which UTF-8 cannot encode, become U+FFFD."""
    text = json.dumps(op, ensure_ascii=False)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode() + b"\n"


def to_inbound_event(message: Message) -> InboundEvent:
    files = (message.file,) if message.file else ()
    return InboundEvent(
        platform_id=message.chat,
        platform_message_id=message.id,
        sender=Sender(handle=message.sender, name=message.sender_name, is_bot=message.is_bot),
        text=message.text,
        sent_at=datetime.fromtimestamp(message.sent_at, UTC),
        kind=EventKind(message.kind),
        is_group=message.is_group,
        mentions_bot=message.mentions_me,
        refers_to=message.refers_to,
        chat_name=message.chat_name,
        attachments=tuple(
            Attachment(ref=one.ref, name=one.name, media_type=one.media_type, size=one.size) for one in files
        ),
        parts=tuple(map(_to_part, message.parts)),
        album=message.album,
    )


def _to_part(said: MessagePart) -> Part:
    kind = PartKind(said.kind) if said.kind in list(PartKind) else PartKind.SHARED
    return Part(kind=kind, **said.model_dump(exclude={"kind"}))


def to_channel_error(error: Error) -> ChannelError:
    """Converts an error of the bridge to a ChannelError."""
    text = f"WhatsApp: {error.text}"
    match error.reason:
        case "not_sent" | "server_error":
            return NotSent(text, server_error=error.reason == "server_error")
        case "down":
            return ChannelDown(text)
        case "rate_limited":
            return RateLimited(text, retry_after_s=error.retry_after_s or 60.0)
        case "refused":
            return Refused(text)
        case "auth":
            return AuthFailed(text)
        case "ambiguous":
            return Ambiguous(text)


# --- the bridge -------------------------------------------------------------------------------------------------


def restart_delay_s(failures: int, state: str) -> float:
    """Returns the pause before a restart of the bridge. `failures`: short runs in a row, with the last one."""
    return (
        BANNED_RESTART_DELAY_S
        if state == "banned"
        else RESTART_DELAYS_S[min(max(failures - 1, 0), len(RESTART_DELAYS_S) - 1)]
    )


def bridge_environment(environ: Mapping[str, str], proxy: str | None) -> dict[str, str]:
    """Returns the bridge's environment. Of the proxy variables it reads only HTTPS_PROXY; SOCKS proxies always resolve
    names."""
    passed_on = {name: value for name, value in environ.items() if _ALLOWED_VARIABLES.fullmatch(name)}
    return passed_on if proxy is None else {**passed_on, "HTTPS_PROXY": proxy.replace("socks5h://", "socks5://", 1)}


class Bridge:
    """The child process, restarted when it ends. `events`: what people did; `state`: the last reported state."""

    def __init__(self, command: str, folder: Path, phone: str, *, answer_limit_s: float) -> None:
        self._command = shlex.split(command)
        self._environment = bridge_environment(os.environ, proxy_for(WHATSAPP_WEB))
        self._open_writer = {"op": "open", "folder": str(folder), "phone": re.sub(r"\D", "", phone)}
        self._folder = folder
        self._answer_timeout_s = answer_limit_s
        self._process: asyncio.subprocess.Process | None = None
        self._pending_requests: dict[str, asyncio.Future[Succeeded]] = {}
        self._request_ids = itertools.count(1)
        self._stderr_tail: deque[str] = deque(maxlen=5)
        self._last_heard_s = 0
        self._is_closing = asyncio.Event()
        self.events: asyncio.Queue[Message] = asyncio.Queue()
        self.state = State(ev="state", state="starting")
        self.me = ""
        self.pairing = ""
        self.changed = asyncio.Condition()

    async def run(self) -> None:
        """Keeps a bridge running until `close`."""
        failures = 0
        while not self._is_closing.is_set():
            began = asyncio.get_running_loop().time()
            try:
                await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
                await self._run_once()
            except OSError as error:
                _log.warning("whatsapp_bridge_failed", error=str(error))
                await self._set_state(State(ev="state", state="missing", text=str(error)))
            healthy = asyncio.get_running_loop().time() - began > HEALTHY_AFTER_S
            failures = 0 if healthy else failures + 1
            with suppress(TimeoutError):
                async with asyncio.timeout(restart_delay_s(failures, self.state.state)):
                    await self._is_closing.wait()

    async def close(self, running: asyncio.Task[None]) -> None:
        """Lets the bridge end by itself, and `running` with it; kills it if it does not."""
        self._is_closing.set()
        self._close_stdin()
        done, _ = await asyncio.wait([running], timeout=SHUTDOWN_TIMEOUT_S)
        if not done:
            if self._process is not None:
                self._process.kill()
            await asyncio.wait([running])

    def _close_stdin(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def send_op(self, op: Mapping[str, object]) -> bool:
        """Sends a line, if the bridge is running; returns whether it is."""
        if self._process is None or self._process.stdin is None or self._process.stdin.is_closing():
            return False
        self._process.stdin.write(encode(op))
        return True

    async def request(self, op: Mapping[str, object], *, extra_s: float = 0.0) -> Succeeded:
        """Sends a line and waits for its answer, `extra_s` longer than usual. Raises ChannelError."""
        id = str(next(self._request_ids))
        answer: asyncio.Future[Succeeded] = asyncio.get_running_loop().create_future()
        self._pending_requests[id] = answer
        try:
            if not self.send_op({**op, "id": id}):
                raise ChannelDown("the WhatsApp bridge is not running")
            async with asyncio.timeout(self._answer_timeout_s + extra_s):
                return await answer
        except TimeoutError:
            raise Ambiguous("the WhatsApp bridge did not answer in time") from None
        finally:
            del self._pending_requests[id]

    async def wait_until_up(self, timeout_s: float) -> None:
        """Waits while it starts. Raises ChannelError that says why it is not connected."""
        await self._wait_until(lambda: self.state.state != "starting", timeout_s)
        if self.state.state == "down":
            await self._wait_until(lambda: self.state.state == "up", RECONNECT_GRACE_S)
        if self.state.state in ("logged_out", "banned"):
            raise AuthFailed(f"WhatsApp: {self.state.text}")
        if self.state.state != "up":
            raise ChannelDown(f"WhatsApp is not connected: {self.state.text or self.state.state}")

    async def _wait_until(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self.changed:
                await self.changed.wait_for(is_done)

    async def _run_once(self) -> None:
        """Start one process and read what it writes until it ends. Raises OSError when there is none to start."""
        if self._command == shlex.split(BRIDGE) and importlib.util.find_spec(BRIDGE_PACKAGE) is None:
            raise FileNotFoundError(BRIDGE_NOT_INSTALLED)
        self._stderr_tail.clear()
        await self._save_pairing("")
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
            env=self._environment,
            start_new_session=True,
        )
        assert process.stderr is not None
        errors = asyncio.create_task(self._read_errors(process.stderr), name="whatsapp bridge errors")
        self._process = process
        try:
            if self._is_closing.is_set():
                self._close_stdin()
            await self._read_process(process)
        finally:
            self._process = None
            self._fail_pending_requests()
            if self.state.state in ("up", "unpaired"):
                await self._set_state(State(ev="state", state="starting", text="the bridge ended and is started again"))
            await _terminate(process)
            await asyncio.wait([errors], timeout=STDERR_DRAIN_S)
            errors.cancel()
        await self._log_exit(process.returncode)

    async def _read_process(self, process: asyncio.subprocess.Process) -> None:
        """Reads until its stdout ends; kills a bridge that is silent for too long."""
        assert process.stdout is not None
        self.send_op(self._open_writer)
        watch = asyncio.create_task(self._watch_liveness(process), name="whatsapp bridge watch")
        try:
            async for line in _read_lines(process.stdout):
                await self._handle_line(line)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _handle_line(self, line: bytes | None) -> None:
        self._last_heard_s += 1
        said = parse(line) if line is not None else None
        match said:
            case None:
                _log.warning("whatsapp_bridge_line_skipped", bytes=len(line) if line is not None else None)
            case Succeeded() if said.id in self._pending_requests and not self._pending_requests[said.id].done():
                self._pending_requests[said.id].set_result(said)
            case Error() if said.id in self._pending_requests and not self._pending_requests[said.id].done():
                self._pending_requests[said.id].set_exception(to_channel_error(said))
            case Message():
                self.events.put_nowait(said)
            case State():
                await self._set_state(said)
            case Qr(picture=picture):
                await self._save_pairing(picture)
            case PairCode(code=code):
                await self._save_pairing(f"pairing code: {code}\n")

    async def _set_state(self, state: State) -> None:
        self.me = state.me or self.me
        if state.state == "up":
            await self._save_pairing("")
        async with self.changed:
            self.state = state
            self.changed.notify_all()

    async def _save_pairing(self, shown: str) -> None:
        """Writes the pairing code to a file that the operator can read, as long as it is valid."""
        await asyncio.to_thread(_write_private, self._folder / "pairing.txt", shown)
        async with self.changed:
            self.pairing = shown
            self.changed.notify_all()

    async def _log_exit(self, code: int | None) -> None:
        words = "; ".join(self._stderr_tail)
        _log.warning("whatsapp_bridge_ended", code=code)
        _log.debug("whatsapp_bridge_ended", code=code, last_words=words)
        if self.state.state == "starting":
            text = f"the bridge ended with code {code}{f': {words}' if words else ''}"
            await self._set_state(State(ev="state", state="starting", text=text))

    async def _watch_liveness(self, process: asyncio.subprocess.Process) -> None:
        """Kills a bridge that hangs: one that does not answer a ping."""
        while True:
            await asyncio.sleep(self._answer_timeout_s)
            heard = self._last_heard_s
            with suppress(ChannelError):
                await self.request({"op": "ping"})
            if self._last_heard_s == heard and process.returncode is None:
                _log.warning("whatsapp_bridge_unresponsive", silent_s=2 * self._answer_timeout_s)
                process.kill()

    async def _read_errors(self, stderr: asyncio.StreamReader) -> None:
        async for line in _read_lines(stderr):
            text = (line or b"(a long line)").decode(errors="replace").strip()[:500]
            if text:
                self._stderr_tail.append(text)
                _log.debug("whatsapp_bridge_stderr_received", text=text)

    def _fail_pending_requests(self) -> None:
        for answer in self._pending_requests.values():
            if not answer.done():
                answer.set_exception(Ambiguous("the WhatsApp bridge ended before it answered"))


async def _read_lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes | None]:
    """Yields lines; None for one that is too long. Ignores bytes after the last line end."""
    too_long = False
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as overrun:
            too_long = True
            await reader.readexactly(overrun.consumed)
        except (asyncio.IncompleteReadError, OSError):
            return
        else:
            yield None if too_long else line
            too_long = False


async def _terminate(process: asyncio.subprocess.Process) -> None:
    """Closes its stdin, which asks it to end; kills it if it does not."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise


def _write_private(path: Path, text: str) -> None:
    if not text:
        path.unlink(missing_ok=True)
        return
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


class DailyCap:
    """Counts the messages sent today (UTC), in a file, so that a restart does not reset the count."""

    def __init__(self, path: Path, cap: int) -> None:
        self._path = path
        self._cap = cap

    def consume(self, now: datetime) -> None:
        """Counts one more. Raises RateLimited until tomorrow if the limit is reached, NotSent if it cannot be
        written."""
        today = now.date().isoformat()
        day, count = self._read()
        count = count if day == today else 0
        if count >= self._cap:
            tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            raise RateLimited(
                f"today's {self._cap} messages are sent; the next ones go tomorrow (UTC). daily_cap sets how many",
                retry_after_s=(tomorrow - now).total_seconds(),
                whole_channel=True,
            )
        try:
            _write_private(self._path, f"{today} {count + 1}")
        except OSError as error:
            raise NotSent(f"today's messages cannot be counted: {error}") from error

    def _read(self) -> tuple[str, int]:
        try:
            day, count = self._path.read_text(encoding="utf-8").split()
            return day, int(count)
        except (OSError, ValueError):
            return "", 0


# --- the channel ------------------------------------------------------------------------------------------------

_CONDITION_BY_STATE: dict[str, tuple[Condition, str]] = {
    "starting": (Condition.DOWN, "connecting"),
    "unpaired": (Condition.WAITING, "waiting to be linked to a phone"),
    "up": (Condition.UP, ""),
    "down": (Condition.DOWN, "not connected"),
    "logged_out": (Condition.AUTH_FAILED, "unlinked by the phone: link it again"),
    "banned": (Condition.AUTH_FAILED, "WhatsApp has banned this number"),
    "replaced": (Condition.CONFLICT, "another program uses this session"),
    "busy": (Condition.CONFLICT, "another process on this machine uses this session"),
    "missing": (Condition.DOWN, "the bridge cannot run"),
}


class LinkedChannel:
    """One linked device. `folder`: keeps its session, readable only by its user."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._bridge = self._new_bridge()
        self._daily_cap = DailyCap(folder / "sent-today", settings.daily_cap)
        self._spending = asyncio.Lock()
        self._allowed = {to_chat_id(one) for one in settings.allow}
        self._seen_chats: set[str] | None = None
        self._next: Message | None = None
        self._is_open = False

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            form=Form.WHATSAPP,
            text_limit=4096,
            pace=Pace(between_s=self._settings.pace_s, a_second=1),
            typing_every_s=8.0,
            file_bytes=16 * 1024 * 1024,
            caption_limit=1024,
            reactions=None,
        )

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Runs a bridge while entered."""
        self._bridge = self._new_bridge()
        running = asyncio.create_task(self._bridge.run(), name="whatsapp bridge")
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False
            self._next = None
            await self._bridge.close(running)

    async def receive(self, inbox: Inbox) -> None:
        """Passes events to the inbox in order. An event that could not be committed stays first for the next call."""
        self._seen_chats = (self._seen_chats or set()) | set(await inbox.latest())
        while True:
            if self._next is None:
                self._next = await self._bridge.events.get()
            message = self._next
            self._seen_chats.add(message.chat)
            await inbox.accept(to_inbound_event(message))
            self._next = None
            self._bridge.send_op({"op": "accepted", "key": message.key})

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        """Sends a message. WhatsApp has no idempotency keys: a repetition is another message."""
        op = {"op": "send", "chat": address.platform_id, "text": message.text, "reply_to": message.reply_to}
        return await self._send_new(address, op)

    async def send_file(self, address: Address, file: OutboundFile, *, idempotency_key: str) -> Receipt:
        op = {
            "op": "send_file",
            "chat": address.platform_id,
            "path": str(file.content),
            "name": file.name,
            "media_type": file.media_type,
            "text": file.text,
            "reply_to": file.reply_to,
        }
        return await self._send_new(address, op, extra_s=file.size / SLOWEST_UPLOAD)

    async def edit(self, address: Address, message_id: str, message: OutboundText | OutboundCard) -> None:
        op = {"op": "edit", "chat": address.platform_id, "message": message_id, "text": message.text}
        await self._send_idempotent(address, op)

    async def react(self, address: Address, message_id: str, emoji: str) -> None:
        op = {"op": "react", "chat": address.platform_id, "message": message_id, "emoji": emoji}
        await self._send_idempotent(address, op)

    async def typing(self, address: Address) -> None:
        if self._can_write(address.platform_id):
            self._bridge.send_op({"op": "typing", "chat": address.platform_id})

    async def open_dm(self, handle: str) -> Address:
        """Returns the chat of a person, which has their id. Raises Refused if safe mode forbids writing to them."""
        chat = to_chat_id(handle)
        self._check_safe_mode(chat)
        return Address(platform_id=chat)

    async def deep_link(self, text: str) -> str | None:
        number, _, server = self._bridge.me.partition("@")
        return f"https://wa.me/{number}?text={text}" if server == "s.whatsapp.net" else None

    async def fetch(self, attachment: Attachment, into: Path, *, most_bytes: int) -> None:
        await self._bridge.wait_until_up(self._settings.answer_limit_s)
        try:
            await self._bridge.request(
                {"op": "fetch", "ref": attachment.ref, "path": str(into), "most_bytes": most_bytes}
            )
        except Ambiguous as error:
            raise NotSent(str(error)) from error

    async def check(self) -> str:
        """Connects, for as long as it takes. If the device is not paired, prints what to scan or type on stderr."""
        if self._is_open:
            condition, sentence = self.condition()
            if condition is not Condition.UP:
                raise ChannelDown(sentence)
            return self._account_description()
        async with self.connected():
            await self._wait_for_pairing()
            await self._bridge.wait_until_up(self._settings.answer_limit_s)
            return self._account_description()

    def condition(self) -> tuple[Condition, str]:
        state = self._bridge.state
        condition, sentence = _CONDITION_BY_STATE[state.state]
        if condition is Condition.WAITING and self._bridge.pairing.startswith("pairing code"):
            return (
                condition,
                f"type the {self._bridge.pairing.strip()} in WhatsApp: Linked devices, Link with phone number",
            )
        if condition is Condition.WAITING:
            return condition, f"scan the code in {self._folder / 'pairing.txt'} (cat it) in WhatsApp: Linked devices"
        return condition, f"{sentence}: {state.text}" if sentence and state.text else sentence

    def _new_bridge(self) -> Bridge:
        settings = self._settings
        return Bridge(settings.bridge, self._folder, settings.phone, answer_limit_s=settings.answer_limit_s)

    def _account_description(self) -> str:
        careful = "in safe mode" if self._settings.safe_mode else "WITHOUT safe mode"
        return f"linked to WhatsApp as {self._bridge.me or 'an unknown number'}, {careful}"

    async def _wait_for_pairing(self) -> None:
        """Shows what to scan or type until the device is paired. Raises ChannelDown after three minutes."""
        bridge, shown = self._bridge, ""
        try:
            async with asyncio.timeout(PAIRING_TIMEOUT_S):
                while bridge.state.state in ("starting", "unpaired"):
                    if bridge.pairing != shown:
                        shown = bridge.pairing
                        sys.stderr.write(f"In WhatsApp: Settings, Linked devices, Link a device\n{shown}\n")
                    async with bridge.changed:
                        before = (bridge.state, bridge.pairing)
                        await bridge.changed.wait_for(lambda: (bridge.state, bridge.pairing) != before)  # noqa: B023
        except TimeoutError:
            raise ChannelDown("nobody linked the device; run the check again") from None

    async def _send_new(self, address: Address, op: Mapping[str, object], *, extra_s: float = 0.0) -> Receipt:
        """Sends a new message, which counts for the daily limit."""
        await self._require_ready(address.platform_id)
        async with self._spending:
            await asyncio.to_thread(self._daily_cap.consume, datetime.now(UTC))
        done = await self._bridge.request(op, extra_s=extra_s)
        return Receipt(platform_message_ids=(done.message,) if done.message else ())

    async def _send_idempotent(self, address: Address, op: Mapping[str, object]) -> None:
        """Changes an existing message, which is harmless to repeat."""
        await self._require_ready(address.platform_id)
        try:
            await self._bridge.request(op)
        except Ambiguous as error:
            raise NotSent(str(error)) from error

    async def _require_ready(self, chat: str) -> None:
        self._check_safe_mode(chat)
        await self._bridge.wait_until_up(self._settings.answer_limit_s)

    def _can_write(self, chat: str) -> bool:
        known = {self._bridge.me, *self._allowed, *(self._seen_chats or ())} - {""}
        return not self._settings.safe_mode or chat in known

    def _check_safe_mode(self, chat: str) -> None:
        """Raises Refused if safe mode forbids writing to the chat."""
        if self._can_write(chat):
            return
        if self._seen_chats is None:
            raise ChannelDown("it is not known yet who has written first")
        raise RefusedHere(
            f"safe mode: {chat} has not written first, so nothing is sent there. To write there nevertheless, add it to"
            " allow in [channels.whatsapp]"
        )

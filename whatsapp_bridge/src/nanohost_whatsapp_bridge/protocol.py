"""The lines between the host and the bridge: one JSON object a line, in UTF-8, strict in both directions.

The host writes first (`open`). An op with an `id` is answered once, by `done` or `error` with that id; the others are
not answered. The bridge keeps a message and writes it again after every start until the host answers `accepted`.
Chats, people and messages are opaque strings to the host.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

MAX_LINE_BYTES = 4 * 1024 * 1024


class Line(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


# --- host → bridge ----------------------------------------------------------------------------------------------


class Open(Line):
    """The session is in `folder`. With a `phone` (digits) an unpaired device asks for a code, else it shows a QR."""

    op: Literal["open"] = "open"
    folder: str
    phone: str = ""


class Send(Line):
    op: Literal["send"] = "send"
    id: str
    chat: str
    text: str
    reply_to: str | None = None


class SendFile(Line):
    op: Literal["send_file"] = "send_file"
    id: str
    chat: str
    path: str
    name: str
    media_type: str
    text: str = ""
    reply_to: str | None = None


class Edit(Line):
    op: Literal["edit"] = "edit"
    id: str
    chat: str
    message: str
    text: str


class React(Line):
    op: Literal["react"] = "react"
    id: str
    chat: str
    message: str
    emoji: str


class Fetch(Line):
    """Write the file that `ref` names into `path`, if it has at most `most_bytes`."""

    op: Literal["fetch"] = "fetch"
    id: str
    ref: str
    path: str
    most_bytes: int


class Typing(Line):
    op: Literal["typing"] = "typing"
    chat: str


class Accepted(Line):
    """The host has committed the message with this key, and the bridge forgets it."""

    op: Literal["accepted"] = "accepted"
    key: str


class Ping(Line):
    op: Literal["ping"] = "ping"
    id: str


Op = Open | Send | SendFile | Edit | React | Fetch | Typing | Accepted | Ping
_OPS: TypeAdapter[Op] = TypeAdapter(Annotated[Op, Field(discriminator="op")])


# --- bridge → host ----------------------------------------------------------------------------------------------

StateName = Literal["starting", "unpaired", "up", "down", "logged_out", "banned", "replaced", "busy", "missing"]
Reason = Literal["not_sent", "server_error", "down", "rate_limited", "ambiguous", "refused", "auth"]
"""`server_error`: not sent, because WhatsApp failed by itself."""


class State(Line):
    """The state of the device; `me` is the chat with oneself, once known."""

    ev: Literal["state"] = "state"
    state: StateName
    text: str = ""
    me: str = ""


class Qr(Line):
    """What the phone has to scan within seconds; a newer one replaces it. `picture` is for a terminal."""

    ev: Literal["qr"] = "qr"
    picture: str


class PairCode(Line):
    ev: Literal["pair_code"] = "pair_code"
    code: str


class File(Line):
    ref: str
    name: str = ""
    media_type: str = ""
    size: int | None = None


class Part(Line):
    """What a message holds beside its sender's own words: a quote, a forwarded message, a link, something shared."""

    kind: Literal["quoted", "forwarded", "link", "shared"]
    text: str = ""
    title: str = ""
    author: str = ""
    chat: str = ""
    marked: str = ""
    url: str = ""


class Message(Line):
    """What a person did. `id` is unique to the event, `refers_to` is the message it is about; `sent_at` in seconds.
    `text` is what they wrote, `parts` what comes with it; `album` is the id of the series that a file belongs to."""

    ev: Literal["message"] = "message"
    key: str
    kind: Literal["message", "edit", "deletion", "reaction", "reaction_removed"] = "message"
    id: str
    chat: str
    sender: str
    sender_name: str = ""
    text: str = ""
    sent_at: float
    chat_name: str = ""
    is_group: bool = False
    is_bot: bool = False
    mentions_me: bool = False
    refers_to: str | None = None
    file: File | None = None
    parts: list[Part] = []
    album: str | None = None


class Done(Line):
    ev: Literal["done"] = "done"
    id: str
    message: str | None = None


class Error(Line):
    ev: Literal["error"] = "error"
    id: str
    reason: Reason
    text: str
    retry_after_s: float | None = None


Event = State | Qr | PairCode | Message | Done | Error
_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="ev")])


class InvalidLine(ValueError):
    """The line is not one of the protocol; the text says why, without the line."""


def parse_op(line: bytes) -> Op:
    """The op in a line of the host. Raises InvalidLine."""
    return _parsed(_OPS, line)


def parse_event(line: bytes) -> Event:
    """The event in a line of the bridge. Raises InvalidLine."""
    return _parsed(_EVENTS, line)


def encode(line: Op | Event) -> bytes:
    """One line. Halves of surrogate pairs, which UTF-8 cannot carry, become U+FFFD."""
    text = json.dumps(line.model_dump(exclude_none=True), ensure_ascii=False)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode() + b"\n"


_T = TypeVar("_T")


def _parsed(adapter: TypeAdapter[_T], line: bytes) -> _T:
    try:
        return adapter.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise InvalidLine(f"{where}: {first['msg']}") from None

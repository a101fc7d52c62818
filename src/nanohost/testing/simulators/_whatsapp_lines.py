"""The lines between the channel and its WhatsApp bridge, as the simulator reads and writes them: JSON, one object each.

The simulator has models of its own because the bridge is another distribution, which the host never imports. A test
compares their JSON schemas with the bridge's.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

MAX_LINE_BYTES = 4 * 1024 * 1024


class _Line(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


# --- channel → bridge -------------------------------------------------------------------------------------------


class Open(_Line):
    op: Literal["open"] = "open"
    folder: str
    phone: str = ""


class Send(_Line):
    op: Literal["send"] = "send"
    id: str
    chat: str
    text: str
    reply_to: str | None = None


class SendFile(_Line):
    op: Literal["send_file"] = "send_file"
    id: str
    chat: str
    path: str
    name: str
    media_type: str
    text: str = ""
    reply_to: str | None = None


class Edit(_Line):
    op: Literal["edit"] = "edit"
    id: str
    chat: str
    message: str
    text: str


class React(_Line):
    op: Literal["react"] = "react"
    id: str
    chat: str
    message: str
    emoji: str


class Fetch(_Line):
    op: Literal["fetch"] = "fetch"
    id: str
    ref: str
    path: str
    most_bytes: int


class Typing(_Line):
    op: Literal["typing"] = "typing"
    chat: str


class Accepted(_Line):
    op: Literal["accepted"] = "accepted"
    key: str


class Ping(_Line):
    op: Literal["ping"] = "ping"
    id: str


Op = Open | Send | SendFile | Edit | React | Fetch | Typing | Accepted | Ping
OPS: TypeAdapter[Op] = TypeAdapter(Annotated[Op, Field(discriminator="op")])


# --- bridge → channel -------------------------------------------------------------------------------------------

StateName = Literal["starting", "unpaired", "up", "down", "logged_out", "banned", "replaced", "busy", "missing"]
Reason = Literal["not_sent", "server_error", "down", "rate_limited", "ambiguous", "refused", "auth"]


class State(_Line):
    ev: Literal["state"] = "state"
    state: StateName
    text: str = ""
    me: str = ""


class Qr(_Line):
    ev: Literal["qr"] = "qr"
    picture: str


class PairCode(_Line):
    ev: Literal["pair_code"] = "pair_code"
    code: str


class File(_Line):
    ref: str
    name: str = ""
    media_type: str = ""
    size: int | None = None


class Part(_Line):
    kind: Literal["quoted", "forwarded", "link", "shared"]
    text: str = ""
    title: str = ""
    author: str = ""
    chat: str = ""
    marked: str = ""
    url: str = ""


class Message(_Line):
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


class Done(_Line):
    ev: Literal["done"] = "done"
    id: str
    message: str | None = None


class Error(_Line):
    ev: Literal["error"] = "error"
    id: str
    reason: Reason
    text: str
    retry_after_s: float | None = None


Event = State | Qr | PairCode | Message | Done | Error
EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="ev")])


def parse_op(line: bytes) -> Op:
    """The op in a line of the channel. Raises ValidationError."""
    return OPS.validate_json(line)


def parse_message(line: bytes) -> Message | None:
    """The message in a line of the bridge, None for `null`. Raises ValidationError."""
    return Message.model_validate_json(line) if line.strip() != b"null" else None


def encode(event: Event) -> bytes:
    """One line. Halves of surrogate pairs, which UTF-8 cannot carry, become U+FFFD."""
    text = json.dumps(event.model_dump(exclude_none=True), ensure_ascii=False)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode() + b"\n"

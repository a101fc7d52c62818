"""Defines the content of a row for each kind, as JSON.

Decoding is strict: unknown keys, missing keys and wrong types are rejected with the path of the key. Both sides decode
what the other wrote; a container may write anything.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union

from nanohost_protocol.errors import PayloadError
from nanohost_protocol.rows import InKind, OutKind

MAX_CONTENT_BYTES = 4 * 1024 * 1024
"""The most bytes of one row's content. Larger things are sent as files."""


OMIT_IF_DEFAULT = {"later": True}
"""Marks a field that was added after its kind: it is left out if it has its default, so that earlier content, and ids
that are derived from it, do not change."""
DELETION = "deletion"
"""The `event` of a deleted message."""
STOP = "stop"
"""A control command: end the running turn, send nothing more of it, keep the conversation."""
CLEAR = "clear"
"""A control command: end the running turn, send nothing more of it, and begin a new conversation."""


# --- inbound ---


@dataclass(frozen=True, slots=True, kw_only=True)
class PartIn:
    """A part of a message that is not its sender's own words. `kind`: quoted, forwarded, link or shared; the runner
    shows an unknown kind as shared. `sent_at`: an ISO time with its zone, or empty."""

    kind: str
    text: str = ""
    title: str = ""
    author: str = ""
    chat: str = ""
    sent_at: str = ""
    marked: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatIn:
    """Something a person did in a chat.

    `event`: message, edit, deletion, reaction, reaction_removed or notice. `refers_to`: the platform's id of the
    message that the event is about, or that a message replies to. `answers`: the id of the agent's row whose question
    this answers. `parts`: in the order in which people see them. `files`: for a deletion of files only, the names of
    the deleted files; `text` is the text that stays.
    """

    text: str
    sender: str
    sender_id: str
    event: str = "message"
    refers_to: str | None = None
    answers: str | None = field(default=None, metadata=OMIT_IF_DEFAULT)
    parts: tuple[PartIn, ...] = field(default=(), metadata=OMIT_IF_DEFAULT)
    files: tuple[str, ...] = field(default=(), metadata=OMIT_IF_DEFAULT)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskIn:
    """A task that is due."""

    prompt: str
    script: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookIn:
    """A request that another program posted."""

    source: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemIn:
    """A message of the host to the agent, such as the outcome of a request or a note after a restart."""

    text: str
    about: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlIn:
    """A command of the host to the runner; the agent never sees it. `command`: STOP, CLEAR, or a command that the host
    has handled itself. `answer`: the reply that the host has already sent to the person."""

    command: str
    answer: str | None = field(default=None, metadata=OMIT_IF_DEFAULT)


# --- outbound ---


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOut:
    """A text for people, in Markdown."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardOut:
    """A titled text with options, which are buttons on platforms that have buttons."""

    title: str
    body: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionOut:
    """A question, with options or without. The answer is a ChatIn whose `answers` is this row's id."""

    text: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EditOut:
    """A new text for a message of the agent. `message`: its number."""

    message: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionOut:
    """An emoji on a message. `message`: its number."""

    message: int
    emoji: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOut:
    """A file in outbox/<row id>/. `name`: its name without folders."""

    name: str
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOut:
    """A task to schedule. `due`: as a person types it (see typed_times.py), or empty if `recurrence`, a cron
    expression, is given. `timezone`: the zone's name; None: the session's zone."""

    prompt: str
    due: str
    recurrence: str | None = None
    timezone: str | None = field(default=None, metadata=OMIT_IF_DEFAULT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemOut:
    """A request to the host. `action`: its name. `arguments`: JSON text."""

    action: str
    arguments: str


InPayload = ChatIn | TaskIn | WebhookIn | SystemIn | ControlIn
OutPayload = ChatOut | CardOut | QuestionOut | EditOut | ReactionOut | FileOut | TaskOut | SystemOut

IN_PAYLOADS: dict[InKind, type[InPayload]] = {
    InKind.CHAT: ChatIn,
    InKind.TASK: TaskIn,
    InKind.WEBHOOK: WebhookIn,
    InKind.SYSTEM: SystemIn,
    InKind.CONTROL: ControlIn,
}
OUT_PAYLOADS: dict[OutKind, type[OutPayload]] = {
    OutKind.CHAT: ChatOut,
    OutKind.CARD: CardOut,
    OutKind.QUESTION: QuestionOut,
    OutKind.EDIT: EditOut,
    OutKind.REACTION: ReactionOut,
    OutKind.FILE: FileOut,
    OutKind.TASK: TaskOut,
    OutKind.SYSTEM: SystemOut,
}


def encode(payload: InPayload | OutPayload) -> str:
    """Returns a payload as the JSON text of a row. Equal payloads give equal texts."""
    document = dataclasses.asdict(payload)
    for field_ in dataclasses.fields(payload):
        if "later" in field_.metadata and document[field_.name] == field_.default:
            del document[field_.name]
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def decode_in(kind: str, content: str) -> InPayload:
    """Returns the payload of an inbound row. Raises PayloadError with the problem and its key."""
    try:
        wanted = IN_PAYLOADS[InKind(kind)]
    except ValueError:
        raise PayloadError(f"unknown kind {kind!r}") from None
    return _decode(wanted, content)


def decode_out(kind: str, content: str) -> OutPayload:
    """Returns the payload of an outbound row. Raises PayloadError with the problem and its key."""
    try:
        wanted = OUT_PAYLOADS[OutKind(kind)]
    except ValueError:
        raise PayloadError(f"unknown kind {kind!r}") from None
    return _decode(wanted, content)


P = TypeVar("P")


def _decode(payload_type: type[P], content: str) -> P:
    if len(content) > MAX_CONTENT_BYTES:
        raise PayloadError(f"content is longer than {MAX_CONTENT_BYTES} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"content is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise PayloadError("content is not a JSON object")
    return payload_type(**_validate(payload_type, document))


_SCHEMAS: dict[type[Any], dict[str, tuple[Any, bool]]] = {}


def _validate(payload_type: type[Any], document: dict[str, Any]) -> dict[str, Any]:
    if payload_type not in _SCHEMAS:
        _SCHEMAS[payload_type] = _schema_of(payload_type)
    shape = _SCHEMAS[payload_type]
    if unknown := sorted(set(document) - set(shape)):
        raise PayloadError(f"unknown key {unknown[0][:40]!r}")
    values = {}
    for key, (hint, required) in shape.items():
        if key in document:
            values[key] = _validate_value(key, hint, document[key])
        elif required:
            raise PayloadError(f"key {key!r} is missing")
    return values


def _schema_of(payload_type: type[Any]) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(payload_type)
    return {
        field.name: (hints[field.name], field.default is dataclasses.MISSING)
        for field in dataclasses.fields(payload_type)
    }


def _validate_value(key: str, hint: Any, value: Any) -> Any:
    """Returns the value if it has the hinted type: str, int, `X | None`, a dataclass or a tuple of these. Converts
    nothing. Raises PayloadError."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        hint = next(arm for arm in typing.get_args(hint) if arm is not type(None))
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise PayloadError(f"key {key!r} must be a list")
        return tuple(_validate_value(f"{key}[{at}]", typing.get_args(hint)[0], item) for at, item in enumerate(value))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise PayloadError(f"key {key!r} must be an object")
        return hint(**_validate(hint, value))
    if type(value) is not hint:
        raise PayloadError(f"key {key!r} must be {hint.__name__}, not {type(value).__name__}")
    return value

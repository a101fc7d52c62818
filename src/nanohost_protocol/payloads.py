"""The content of a row, per kind: what must be in the JSON, and nothing else.

Decoding is strict: unknown keys, missing keys and wrong types are refused with the path of the offending key.
Both sides decode what the other wrote; the host must, since a container may write anything.
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
"""The most one row may carry. Larger things travel as files."""


OMIT_IF_DEFAULT = {"later": True}
"""Marks a field that is younger than its kind: left out while it has its default, so that content written before, and
the ids that are made of it, stay what they were."""
DELETION = "deletion"
"""What `event` is where a message is gone."""
STOP = "stop"
"""A control command: end the turn that runs, send nothing more of it, keep the conversation."""
CLEAR = "clear"
"""A control command: the same, and begin a new conversation."""


# --- what the agent is told -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PartIn:
    """What a message holds beside its sender's own words. `kind` is quoted, forwarded, link or shared; `sent_at` an
    ISO time with its zone, or empty. A kind that the runner does not know is shown like shared."""

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
    """Something a person did in a chat. `event` is message, edit, deletion, reaction, reaction_removed or notice;
    `refers_to` is the platform's id of the message that this concerns, or of the one that a message replies to.
    `answers` is the id of the agent's row whose question this answers; `parts` come in the order in which people see
    them.
    `files` of a deletion are the names of those that alone are gone from its message, with the words in `text`."""

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
    """A task that fell due."""

    prompt: str
    script: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookIn:
    """Something another program posted."""

    source: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemIn:
    """The host tells the agent something: what became of a request, a note after a restart."""

    text: str
    about: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlIn:
    """The host tells the runner something; the agent never sees it. `command` is STOP, CLEAR, or one that the host has
    handled by itself. `answer`: what the host has said to it already."""

    command: str
    answer: str | None = field(default=None, metadata=OMIT_IF_DEFAULT)


# --- what the agent says and asks for ---


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOut:
    """Text for people, in Markdown."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardOut:
    """A titled block, with buttons where the platform has them."""

    title: str
    body: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionOut:
    """A question, with choices or without; the answer comes back as a message that `answers` it."""

    text: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EditOut:
    """A new text for a message of ours, named by its number."""

    message: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionOut:
    """An emoji on a message, named by its number."""

    message: int
    emoji: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOut:
    """A file in outbox/<row id>/, by bare name."""

    name: str
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOut:
    """A task to schedule. `due` as a person would type it (see moments.py), or empty when `recurrence`, a cron
    expression, says it; `timezone` is the zone's name, the session's own when left out."""

    prompt: str
    due: str
    recurrence: str | None = None
    timezone: str | None = field(default=None, metadata=OMIT_IF_DEFAULT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemOut:
    """A request to the host: an action's name and its arguments, as JSON text."""

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
    """A payload as the JSON text of a row. Stable: equal payloads give equal text."""
    document = dataclasses.asdict(payload)
    for field_ in dataclasses.fields(payload):
        if "later" in field_.metadata and document[field_.name] == field_.default:
            del document[field_.name]
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def decode_in(kind: str, content: str) -> InPayload:
    """Raises PayloadError with what is wrong and where."""
    try:
        wanted = IN_PAYLOADS[InKind(kind)]
    except ValueError:
        raise PayloadError(f"unknown kind {kind!r}") from None
    return _decode(wanted, content)


def decode_out(kind: str, content: str) -> OutPayload:
    """Raises PayloadError with what is wrong and where."""
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
    """The value if it is of the hinted type: str, int, `X | None`, a dataclass or a tuple of these; no coercion."""
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

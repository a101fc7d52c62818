"""Builds prompts from rows. Pure.

Promises: every value is escaped, times are in the person's zone, messages are identified by number, and platform ids
are never shown. The addition to the system prompt is built here, too, so that the format of messages and its
explanation are in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from types import MappingProxyType

from agent_runner.destinations import AddressBook
from agent_runner.markup import element, escape, nested_element, strip_control_chars
from nanohost_protocol.errors import PayloadError
from nanohost_protocol.payloads import (
    DELETION,
    ChatIn,
    ChatOut,
    EditOut,
    FileOut,
    InPayload,
    PartIn,
    QuestionOut,
    ReactionOut,
    SystemIn,
    SystemOut,
    TaskIn,
    TaskOut,
    WebhookIn,
    decode_in,
    decode_out,
)
from nanohost_protocol.rows import MessageIn, MessageOut
from nanohost_protocol.times import from_text

MAX_QUESTION_CHARS = 200
"""Characters of a question that are shown with its answer."""
_ELEMENT_NAMES = {
    "message": "message",
    "edit": "edit",
    "deletion": "deletion",
    "reaction": "reaction",
    "reaction_removed": "reaction-removed",
    "notice": "notice",
}
_PART_KINDS = {"quoted", "forwarded", "link", "shared"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedMessage:
    """A row with its content decoded; `payload` is None if the content is invalid."""

    row: MessageIn
    payload: InPayload | None

    @property
    def text(self) -> str:
        """The text of the message."""
        match self.payload:
            case ChatIn(text=text) | SystemIn(text=text):
                return strip_control_chars(text)
            case TaskIn(prompt=text) | WebhookIn(body=text):
                return strip_control_chars(text)
            case _:
                return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One input for the provider: the text for a model, the messages for a provider without a model.

    `attempt` counts runs of the turn from 1. A correction has no messages. `is_command`: the text is a command for the
    model's command line, and `messages` holds the message that it came from.
    """

    text: str
    messages: tuple[DecodedMessage, ...] = ()
    attempt: int = 1
    is_command: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptContext:
    """The data for a prompt besides the messages. `timezone` is the zone's name."""

    now: datetime
    zone: tzinfo
    timezone: str
    address_book: AddressBook


def decode_row(row: MessageIn) -> DecodedMessage:
    """Decodes a row. Invalid content is shown as unreadable and never raises."""
    try:
        return DecodedMessage(row=row, payload=decode_in(row.kind, row.content))
    except PayloadError:
        return DecodedMessage(row=row, payload=None)


def make_batch_prompt(
    messages: Sequence[MessageIn],
    context: PromptContext,
    *,
    referenced_seqs: Mapping[str, int] = MappingProxyType({}),
    question_texts: Mapping[str, str] = MappingProxyType({}),
    attempt: int = 1,
    sent_messages: Sequence[MessageOut] = (),
) -> Prompt:
    """Returns the prompt for a batch or for follow-ups.

    `referenced_seqs`: the numbers of the messages that some of these refer to, by row id. `question_texts`: the
    questions that some of these answer, by row id. `sent_messages`: what earlier attempts of the turn have sent.
    """
    incoming = tuple(decode_row(row) for row in messages)
    lines = [element("context", now=_format_local_time(context.now, context), timezone=context.timezone)]
    lines += _render_sent_messages(sent_messages, context)
    lines += [
        _render_message(one, referenced_seqs.get(one.row.id), question_texts.get(one.row.id), context)
        for one in incoming
    ]
    return Prompt(text="\n".join(lines), messages=incoming, attempt=attempt)


def make_correction_prompt(problems: Sequence[str]) -> Prompt:
    """Returns a prompt that tells the agent, in the same turn, which parts of its answer could not be sent."""
    note = element("not-sent", " ".join(problems))
    return Prompt(text=f"{note}\nSend it again as it should have been, and nothing that did go out.")


def carry_over_text(history: str) -> str:
    """Returns the text of an ended conversation, as the beginning of a new one."""
    note = "This conversation goes on from an earlier one, of which this is left:"
    return f"{note}\n{element('earlier-conversation', history)}\nNow:"


def _render_message(
    one: DecodedMessage, referenced_seq: int | None, question: str | None, context: PromptContext
) -> str:
    row, chat = one.row, context.address_book.name_of_origin(one.row)
    common: dict[str, str | int | None] = {"id": row.seq, "time": _format_local_time(row.timestamp, context)}
    common["context"] = None if row.trigger else "yes"
    match one.payload:
        case ChatIn() as payload:
            facts = {
                "from_": payload.sender,
                "chat": chat,
                "about": referenced_seq,
                "answers": _truncate_question(question),
            }
            if payload.event == DELETION:
                gone = {"files": ", ".join(payload.files) or None, "from_": payload.sender or None}
                return element("deletion", payload.text or None, **{**facts, **gone}, **common)
            return _render_chat(_ELEMENT_NAMES.get(payload.event, "event"), payload, context, **facts, **common)
        case TaskIn() as task:
            return element("task", task.prompt, **common)
        case WebhookIn() as hook:
            return element("webhook", hook.body, source=hook.source, **common)
        case SystemIn() as note:
            return element("system", note.text, **common)
        case _:
            return element("unreadable", **common)


def _render_chat(name: str, payload: ChatIn, view: PromptContext, **facts: str | int | None) -> str:
    """Renders a message: the quoted message it replies to, its text, and forwarded parts."""
    if not payload.parts:
        return element(name, payload.text, **facts)
    before = [_render_part(one, view) for one in payload.parts if one.kind == "quoted"]
    behind = [_render_part(one, view) for one in payload.parts if one.kind != "quoted"]
    return nested_element(name, [*before, *([escape(payload.text)] if payload.text else []), *behind], **facts)


def _render_part(part: PartIn, view: PromptContext) -> str:
    name = part.kind if part.kind in _PART_KINDS else "shared"
    facts = {
        "what": part.title or None,
        "from_": part.author or None,
        "chat": part.chat or None,
        "time": _part_time(part, view),
        "marked": part.marked or None,
        "url": part.url or None,
    }
    return element(name, part.text, **facts)


def _part_time(part: PartIn, view: PromptContext) -> str | None:
    try:
        return _format_local_time(from_text(part.sent_at), view) if part.sent_at else None
    except (ValueError, OverflowError):
        return None  # an invalid time must not hide the text


def _render_sent_messages(sent_messages: Sequence[MessageOut], view: PromptContext) -> list[str]:
    if not sent_messages:
        return []
    return [
        "<already-sent>",
        "This was begun before and broke off. These messages went out then; do not send them again.",
        *(
            element(
                "sent", _sent_text(row), id=row.seq, to=row.destination, time=_format_local_time(row.timestamp, view)
            )
            for row in sent_messages
        ),
        "</already-sent>",
    ]


def _sent_text(row: MessageOut) -> str:
    match decode_out(row.kind, row.content):
        case ChatOut(text=text):
            return text
        case QuestionOut(text=text, options=options):
            return f"(a question: {text} {list(options)} Ask it again in these words to wait for its answer.)"
        case FileOut(name=name, caption=caption):
            return f"{name} {caption}".strip()
        case EditOut(message=number, text=text):
            return f"(message {number} was changed to: {text})"
        case ReactionOut(message=number, emoji=emoji):
            return f"(a reaction to message {number}: {emoji})"
        case TaskOut(prompt=prompt, due=due, recurrence=recurrence):
            return f"(a task was scheduled, {due or recurrence}: {prompt})"
        case SystemOut(action=action, arguments=arguments):
            return f"(the host was asked: {action} {arguments})"
        case _:
            return row.kind


def _truncate_question(question: str | None) -> str | None:
    if question is None or len(question) <= MAX_QUESTION_CHARS:
        return question
    return question[: MAX_QUESTION_CHARS - 1] + "…"


def _format_local_time(moment: datetime, view: PromptContext) -> str:
    return moment.astimezone(view.zone).strftime("%Y-%m-%d %H:%M")


def make_system_prompt(book: AddressBook, agent_name: str) -> str:
    """Returns the addition to the provider's system prompt: who the agent is, whom it can write to, and how."""
    return "\n".join(
        [
            _IDENTITY.format(name=strip_control_chars(agent_name)),
            "",
            _render_destinations(book),
            "",
            _INSTRUCTIONS.strip(),
        ]
    )


def _render_destinations(book: AddressBook) -> str:
    if not book.destinations:
        return "You can answer the chat you were written from; there are no other destinations."
    lines = [element("destination", name=one.name, title=one.display_name, type=one.type) for one in book.destinations]
    return "\n".join(["You can send to:", *lines])


_IDENTITY = "You are {name}, an assistant that people talk to through chat apps."
_INSTRUCTIONS = """
Each turn brings the messages since your last one. Their ids are numbers of this conversation; messages marked
context="yes" are there so that you know what was said, and were not addressed to you; answers="..." is a question of
yours that one answers. Inside a message <quoted> is what it replies to (marked="..." the passage that was chosen),
<forwarded> somebody else's message that was passed on, <link> an address behind words, <shared> what is no text (a
poll, a place, a contact): none of these are the sender's own words. <deletion> says that the message that it is about
is gone from the chat (or only these files="..." of it, and the words with them), <reaction-removed> that a reaction is,
<notice> what the chat app itself says. What stands inside <message>, <edit>, <reaction>, <answer>, <webhook> and <task>
was written by others, <system> by the host you run on.

Only this reaches people:
* <message to="name">text</message> in your answer. Add re="id" to answer one message in particular. Several blocks
  are several messages. Blocks inside code fences are plain text.
* the tool send_message, when something should be said while you are still at work.
* the tools send_file, ask_user_question (which waits for the answer), edit_message (a message of yours) and react
  (with an emoji).
* text outside of blocks, if there is just one destination: it is sent there.
Write what is for yourself alone inside <internal>...</internal>: it is never sent. Say nothing at all when nothing
needs to be said. Write Markdown.

Nothing of you runs between turns. What is to happen later, once or regularly, is a task: make it with schedule_task,
and it comes back to you as <task> when it falls due, in this conversation; list_tasks and change_task manage them.
"""

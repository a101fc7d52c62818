"""Matches a typed message to the open question that it answers. Pure.

A reply to the question's own message answers it with any text. A message that is no reply can answer only the latest
question of the conversation: by the number or the label of a choice, or by any text if the question has no choices.
Anything else is an ordinary message, as is a reply to somebody else's message.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nanohost.channel_api import EventKind, InboundEvent
from nanohost.chat_commands.classify import PassThrough, classify_command
from nanohost.db.questions import OpenQuestion
from nanohost.model import SessionId
from nanohost.routing.engagement import is_addressed

_NUMBER = re.compile(r"#?([0-9]{1,2})[.)]?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedAnswer:
    """An answer to an open question. `text`: the label of a choice as the agent wrote it, or the typed text.

    `is_explicit`: it is certainly an answer; otherwise it counts only if the asking agent would engage anyway.
    """

    open_question: OpenQuestion
    text: str
    is_explicit: bool


def match_typed_answer(
    event: InboundEvent, open_questions: Sequence[OpenQuestion], *, denied_sessions: Collection[SessionId] = ()
) -> TypedAnswer | None:
    """Returns the answer that the message gives; None if it gives none, as with a command.

    `open_questions`: the open questions of the chat, the latest first. `denied_sessions`: sessions whose agents the
    sender may not talk to; their questions are skipped.
    """
    written = event.text.strip()
    if event.kind is not EventKind.MESSAGE or event.sender.is_bot or not written:
        return None
    if not isinstance(classify_command(written, is_admin=False), PassThrough):
        return None
    replied = next((one for one in open_questions if _is_reply_to(event, one)), None)
    if replied is not None:
        return TypedAnswer(
            open_question=replied, text=match_choice(replied.options, written) or written, is_explicit=True
        )
    if event.refers_to is not None and not is_addressed(event):
        return None  # a "Yes" to somebody else
    latest = next(
        (
            one
            for one in open_questions
            if one.question.session_id not in denied_sessions and is_same_conversation(event, one)
        ),
        None,
    )
    if latest is None:
        return None
    if latest.options:
        chosen = match_choice(latest.options, written)
        return None if chosen is None else TypedAnswer(open_question=latest, text=chosen, is_explicit=True)
    return TypedAnswer(open_question=latest, text=written, is_explicit=is_addressed(event))


def match_choice(options: Sequence[str], text: str) -> str | None:
    """Returns the choice that was typed: by its label, in any case and spacing, else by its number from 1."""
    words = {_normalize(option): option for option in reversed(options)}
    if _normalize(text) in words:
        return words[_normalize(text)]
    number = _NUMBER.fullmatch(text)
    return options[int(number[1]) - 1] if number is not None and 0 < int(number[1]) <= len(options) else None


def _is_reply_to(event: InboundEvent, open_question: OpenQuestion) -> bool:
    """Returns whether the event replies to the question. A message in a thread under the question is a reply, too."""
    return any(id is not None and id in open_question.receipt for id in (event.refers_to, event.thread_id))


def is_same_conversation(event: InboundEvent, open_question: OpenQuestion) -> bool:
    """Returns whether both are in one conversation. A direct chat is one conversation, whatever its threads.

    A message that begins a thread of its own also counts as written outside any thread.
    """
    thread = None if event.thread_id == event.platform_message_id else event.thread_id
    return not event.is_group or open_question.question.thread_id in (thread, event.thread_id)


def _normalize(text: str) -> str:
    return " ".join(text.split()).casefold()

"""Matches a typed message to the open question that it answers. Pure.

A reply to the question's own message answers it whatever it says. What is no reply is for the latest question of the
conversation alone: the number or the words of one of its choices, or anything at all if it gives none. All else is an
ordinary message, and so is a reply to what somebody else wrote.
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
    """`text` is a choice in the agent's words, or what was written. `is_explicit`: it is an answer whatever else it
    could be; otherwise only if the agent that asked would have been told of it anyway."""

    open_question: OpenQuestion
    text: str
    is_explicit: bool


def match_typed_answer(
    event: InboundEvent, open_questions: Sequence[OpenQuestion], *, denied_sessions: Collection[SessionId] = ()
) -> TypedAnswer | None:
    """`open_questions`: the open questions of the chat, the latest first. `denied_sessions`: the sessions whose agents
    may not hear the sender; what they ask hides no earlier question. A command answers nothing."""
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
        return None  # "Yes", said to somebody else
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
    """The choice that was typed: its words, whatever their case and spacing, else its number from 1."""
    words = {_normalize(option): option for option in reversed(options)}
    if _normalize(text) in words:
        return words[_normalize(text)]
    number = _NUMBER.fullmatch(text)
    return options[int(number[1]) - 1] if number is not None and 0 < int(number[1]) <= len(options) else None


def _is_reply_to(event: InboundEvent, open_question: OpenQuestion) -> bool:
    """A thread that begins with the question is a reply, too."""
    return any(id is not None and id in open_question.receipt for id in (event.refers_to, event.thread_id))


def is_same_conversation(event: InboundEvent, open_question: OpenQuestion) -> bool:
    """Whether both are in one conversation: a direct chat is one, whatever its threads. What begins a thread of its own
    was written where there is none."""
    thread = None if event.thread_id == event.platform_message_id else event.thread_id
    return not event.is_group or open_question.question.thread_id in (thread, event.thread_id)


def _normalize(text: str) -> str:
    return " ".join(text.split()).casefold()

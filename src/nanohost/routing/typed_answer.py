"""Which open question a message answers, and with what. Pure.

A reply to the question's own message answers it whatever it says. What is no reply is for the latest question of the
conversation alone: the number or the words of one of its choices, or anything at all if it gives none. All else is an
ordinary message, and so is a reply to what somebody else wrote.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from nanohost.channel_api import EventKind, InboundEvent
from nanohost.chat_commands.gate import Passes, gate
from nanohost.model import SessionId
from nanohost.routing.engage import is_addressed
from nanohost.store.questions import Asked

_NUMBER = re.compile(r"#?([0-9]{1,2})[.)]?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedAnswer:
    """`text` is a choice in the agent's words, or what was written. `is_meant`: it is an answer whatever else it could
    be; otherwise only if the agent that asked would have been told of it anyway."""

    asked: Asked
    text: str
    is_meant: bool


def typed_answer(
    event: InboundEvent, asked: Sequence[Asked], *, deaf: Collection[SessionId] = ()
) -> TypedAnswer | None:
    """`asked`: the open questions of the chat, the latest first. `deaf`: the sessions whose agents may not hear the
    sender; what they ask hides no earlier question. A command answers nothing."""
    written = event.text.strip()
    if event.kind is not EventKind.MESSAGE or event.sender.is_bot or not written:
        return None
    if not isinstance(gate(written, is_admin=False), Passes):
        return None
    replied = next((one for one in asked if _replies(event, one)), None)
    if replied is not None:
        return TypedAnswer(asked=replied, text=choice(replied.options, written) or written, is_meant=True)
    if event.refers_to is not None and not is_addressed(event):
        return None  # "Yes", said to somebody else
    latest = next((one for one in asked if one.question.session_id not in deaf and is_beside(event, one)), None)
    if latest is None:
        return None
    if latest.options:
        chosen = choice(latest.options, written)
        return None if chosen is None else TypedAnswer(asked=latest, text=chosen, is_meant=True)
    return TypedAnswer(asked=latest, text=written, is_meant=is_addressed(event))


def choice(options: Sequence[str], written: str) -> str | None:
    """The choice that was typed: its words, whatever their case and spacing, else its number from 1."""
    words = {_folded(option): option for option in reversed(options)}
    if _folded(written) in words:
        return words[_folded(written)]
    number = _NUMBER.fullmatch(written)
    return options[int(number[1]) - 1] if number is not None and 0 < int(number[1]) <= len(options) else None


def _replies(event: InboundEvent, asked: Asked) -> bool:
    """A thread that begins with the question is a reply, too."""
    return any(id is not None and id in asked.receipt for id in (event.refers_to, event.thread_id))


def is_beside(event: InboundEvent, asked: Asked) -> bool:
    """Whether both are in one conversation: a direct chat is one, whatever its threads. What begins a thread of its own
    was written where there is none."""
    thread = None if event.thread_id == event.platform_message_id else event.thread_id
    return not event.is_group or asked.question.thread_id in (thread, event.thread_id)


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()

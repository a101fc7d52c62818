"""Builds the mailbox row of an event for one wiring. Pure: the same event gives the same row with the same id."""

from __future__ import annotations

from nanohost.channel_api import EventKind, Part
from nanohost.db.events import StoredEvent
from nanohost.db.questions import Question
from nanohost.model import WiringId
from nanohost_protocol.ids import channel_message_id
from nanohost_protocol.payloads import ChatIn, PartIn, encode
from nanohost_protocol.rows import InKind, NewMessageIn, Origin
from nanohost_protocol.times import to_text

_MESSAGE_KINDS = {EventKind.MESSAGE, EventKind.CLICK}


def build_message(
    stored: StoredEvent,
    wiring: WiringId,
    *,
    answered_question: Question | None = None,
    is_newly_addressed: bool = False,
) -> NewMessageIn:
    """Returns the row in which this wiring's agent reads the event.

    `answered_question`: the question that the event answers. `is_newly_addressed`: the event is an edit of a message
    that was not for the agent, so the agent reads it as a message.
    """
    event, chat = stored.event, stored.chat
    is_message = is_newly_addressed or event.kind in _MESSAGE_KINDS
    return NewMessageIn(
        id=channel_message_id(
            channel_type=chat.channel_type,
            instance=chat.instance,
            platform_id=chat.platform_id,
            platform_message_id=event.platform_message_id,
            event_kind=event.kind,
            wiring=wiring,
        ),
        kind=InKind.CHAT,
        timestamp=event.sent_at,
        content=encode(
            ChatIn(
                text=event.text
                if answered_question is None or answered_question.answer is None
                else answered_question.answer,
                sender=event.sender.name,
                sender_id=event.sender.handle,
                event=EventKind.MESSAGE if is_message else event.kind,
                refers_to=None if is_newly_addressed else event.refers_to,
                answers=None if answered_question is None else answered_question.out_id,
                parts=tuple(map(_to_part_in, event.parts)),
                files=tuple(file.name for file in event.attachments) if event.kind is EventKind.DELETION else (),
            )
        ),
        origin=Origin(
            channel_type=chat.channel_type,
            instance=chat.instance,
            platform_id=chat.platform_id,
            thread_id=event.thread_id,
            # The message that an answer replies to. The id of an edit, a reaction or a press is not a message's.
            platform_message_id=event.platform_message_id if event.kind is EventKind.MESSAGE else event.refers_to,
        ),
    )


def _to_part_in(part: Part) -> PartIn:
    return PartIn(
        kind=part.kind,
        text=part.text,
        title=part.title,
        author=part.author,
        chat=part.chat,
        sent_at="" if part.sent_at is None else to_text(part.sent_at),
        marked=part.marked,
        url=part.url,
    )

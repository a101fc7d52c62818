"""What is done to an event before it is kept. Pure.

Text is made storable, not pretty: what the agent sees is escaped where the prompt is made. An event that can never be
used is named as such, so that it is put on record instead of coming back for ever.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from nanohost.channel_api import Attachment, EventKind, InboundEvent, Sender
from nanohost_protocol.ids import derive
from nanohost_protocol.times import to_text

LONGEST_TEXT = 300_000
"""Characters of one message that are kept. No platform of people sends more; a file does. Even if each is escaped in
the worst way, its row stays below the mailbox's MAX_CONTENT_BYTES."""
LONGEST_NAME = 200
MOST_ATTACHMENTS = 20
"""Of one message; no platform of people sends more."""


def problem_of(event: InboundEvent) -> str | None:
    """Why the event can never be used, or None. Types are looked at: a channel file may be anybody's."""
    if not _is_id(event.platform_id):
        return "it has no chat id"
    if not _is_id(event.platform_message_id):
        return "it has no message id"
    if event.kind not in list(EventKind):
        return "its kind is not known"
    if not isinstance(event.sender, Sender) or not _is_storable(event.sender.handle):
        return "its sender's id is not text"
    if not event.sender.handle and not event.sender.is_bot:
        return "its sender has no id"  # all of these would be one user, with the roles of any of them
    if any(each is not None and not _is_storable(each) for each in (event.thread_id, event.refers_to, event.value)):
        return "the id of its thread, of what it refers to or of its button is not text"
    if not isinstance(event.attachments, tuple | list) or not all(_is_attachment(one) for one in event.attachments):
        return "what is said of its files makes no sense"
    if not _is_text(event.text):
        return "its text is not text"
    if not _is_time(event.sent_at):
        return "its time has no zone, or is none that can be kept"
    return _problem_of_flags(event)


def _problem_of_flags(event: InboundEvent) -> str | None:
    flags = (event.is_group, event.mentions_bot, event.sender.is_self, event.sender.is_bot)
    if not all(isinstance(flag, bool) for flag in flags):
        return "what should be yes or no is neither"
    if event.sender.is_self:
        return "it is our own message"
    return None


def cleaned(event: InboundEvent, *, threads: bool) -> InboundEvent:
    """The event as it is kept. `threads`: whether the platform has any; without, a thread id is dropped."""
    return replace(
        event,
        kind=EventKind(event.kind),
        text=_cut(_storable(event.text)),
        chat_name=_shown(event.chat_name),
        sender=replace(event.sender, name=_shown(event.sender.name)),
        thread_id=event.thread_id if threads else None,
        attachments=tuple(
            replace(one, name=_shown(one.name), media_type=_shown(one.media_type))
            for one in event.attachments[:MOST_ATTACHMENTS]
        ),
    )


def recordable(event: InboundEvent, now: datetime) -> InboundEvent:
    """A stand-in for an event that cannot be kept as it is: enough to say that it came, and from where."""
    return InboundEvent(
        platform_id=event.platform_id if _is_id(event.platform_id) else "",
        platform_message_id=(
            event.platform_message_id if _is_id(event.platform_message_id) else derive("x", repr(event))
        ),
        sender=_shown_sender(event.sender),
        text=_cut(_storable(event.text)) if _is_text(event.text) else "",
        sent_at=now,
        kind=event.kind if event.kind in list(EventKind) else EventKind.MESSAGE,
    )


def _is_attachment(value: object) -> bool:
    if not isinstance(value, Attachment) or not _is_storable(value.ref):
        return False
    return value.size is None or isinstance(value.size, int)


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, datetime) and bool(to_text(value))
    except ValueError:
        return False


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_storable(value: object) -> bool:
    """Ids are kept as they are, so they must be storable as they are."""
    return isinstance(value, str) and _storable(value) == value


def _is_id(value: object) -> bool:
    return _is_storable(value) and value != ""


def _shown(value: object) -> str:
    """A name as people may see it; what is no text has none."""
    return _storable(value)[:LONGEST_NAME] if isinstance(value, str) else ""


def _shown_sender(sender: object) -> Sender:
    if not isinstance(sender, Sender):
        return Sender(handle="", name="")
    return Sender(handle=_shown(sender.handle), name=_shown(sender.name), is_bot=sender.is_bot is True)


def _storable(text: str) -> str:
    """Half surrogate pairs cannot be stored as UTF-8, and NUL ends text for too many readers."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _cut(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    return text[:LONGEST_TEXT] + f"\n[cut: {len(text) - LONGEST_TEXT} more characters]"

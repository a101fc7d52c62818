"""Cleans an event before it is stored: limits, invalid characters, unsafe names. Pure.

Text is made storable, not pretty: it is escaped for the agent where the prompt is built. An invalid event is reported
as such, so that it is recorded as dropped, and the platform does not send it again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from nanohost.channel_api import Attachment, EventKind, InboundEvent, Part, PartKind, Sender
from nanohost.text.file_names import shorten_file_name
from nanohost.text.quoting import is_blank
from nanohost_protocol.ids import derive_id
from nanohost_protocol.times import to_text

EMPTY_MESSAGE = "it holds neither text nor a file, nor anything that can be shown"
MAX_TEXT_CHARS = 300_000
"""Characters of one message that are stored. No chat platform sends more, only a channel file may. Even if each is
escaped in the longest way, the row stays below the mailbox's MAX_CONTENT_BYTES."""
MAX_NAME_CHARS = 200
MAX_ATTACHMENTS = 20
"""Files of one message; no chat platform sends more."""
MAX_PARTS = 40
"""Parts of one message. Nobody writes a message with more links than that; a note says what was cut."""
MAX_QUOTE_CHARS = 4_000
"""Characters of a quoted message: as many as the longest message of most platforms."""


def find_problem(event: InboundEvent) -> str | None:
    """Returns why the event is invalid; None if it is valid. Also checks types: an install may add channel files."""
    if not is_valid_id(event.platform_id):
        return "it has no chat id"
    if not is_valid_id(event.platform_message_id):
        return "it has no message id"
    if event.kind not in list(EventKind):
        return "its kind is not known"
    if not isinstance(event.sender, Sender) or not _is_storable(event.sender.handle):
        return "its sender's id is not text"
    if not event.sender.handle and not event.sender.is_bot and event.kind != EventKind.DELETION:
        return "its sender has no id"  # all of these would be one user, with the roles of any of them
    names = (event.thread_id, event.refers_to, event.value, event.album)
    if any(each is not None and not _is_storable(each) for each in names):
        return "the id of its thread, of its album, of what it refers to or of its button is not text"
    if not _is_time(event.sent_at):
        return "its time has no zone, or is none that can be kept"
    return _find_content_problem(event) or _find_flag_problem(event)


def _find_content_problem(event: InboundEvent) -> str | None:
    if not isinstance(event.attachments, tuple | list) or not all(_is_attachment(one) for one in event.attachments):
        return "what is said of its files makes no sense"
    if not isinstance(event.parts, tuple | list) or not all(_is_part(one) for one in event.parts):
        return "what is said of its parts makes no sense"
    if not _is_text(event.text):
        return "its text is not text"
    if (
        event.kind == EventKind.MESSAGE
        and is_blank(_to_storable(event.text))
        and not (event.attachments or event.parts)
    ):
        return EMPTY_MESSAGE
    return None


def _find_flag_problem(event: InboundEvent) -> str | None:
    flags = (event.is_group, event.mentions_bot, event.sender.is_self, event.sender.is_bot)
    if not all(isinstance(flag, bool) for flag in flags):
        return "what should be yes or no is neither"
    if event.sender.is_self:
        return "it is our own message"
    return None


def sanitize(event: InboundEvent, *, has_threads: bool) -> InboundEvent:
    """Returns the event as it is stored. `has_threads`: whether the platform has threads; if not, drops thread ids."""
    return replace(
        event,
        kind=EventKind(event.kind),
        text=(text := _truncate(_to_storable(event.text))),
        parts=(*_sanitize_parts(event.parts, MAX_TEXT_CHARS - len(text)), *_omitted_files_part(event.attachments)),
        chat_name=_sanitize_name(event.chat_name),
        sender=replace(event.sender, name=_sanitize_name(event.sender.name)),
        thread_id=event.thread_id if has_threads else None,
        album=event.album if event.kind == EventKind.MESSAGE else None,
        attachments=tuple(
            replace(one, name=_sanitize_file_name(one.name), media_type=_sanitize_name(one.media_type))
            for one in event.attachments[:MAX_ATTACHMENTS]
        ),
    )


def placeholder_event(event: InboundEvent, now: datetime) -> InboundEvent:
    """Returns a replacement for an invalid event: it only records that one arrived, and from where."""
    return InboundEvent(
        platform_id=event.platform_id if is_valid_id(event.platform_id) else "",
        platform_message_id=(
            event.platform_message_id if is_valid_id(event.platform_message_id) else derive_id("x", repr(event))
        ),
        sender=_sanitize_sender(event.sender),
        text=_truncate(_to_storable(event.text)) if _is_text(event.text) else "",
        sent_at=now,
        kind=event.kind if event.kind in list(EventKind) else EventKind.MESSAGE,
    )


def _is_attachment(value: object) -> bool:
    if not isinstance(value, Attachment) or not _is_storable(value.ref):
        return False
    return value.size is None or isinstance(value.size, int)


def _is_part(value: object) -> bool:
    return (
        isinstance(value, Part)
        and value.kind in list(PartKind)
        and all(map(_is_text, (value.text, value.title, value.author, value.chat, value.marked, value.url)))
        and (value.sent_at is None or _is_time(value.sent_at))
    )


def _sanitize_parts(parts: Sequence[Part], max_chars: int) -> tuple[Part, ...]:
    """Returns the parts within the limit of their number, and of `max_chars` characters in all."""
    kept = []
    for one in map(_sanitize_part, parts[:MAX_PARTS]):
        size = len(one.text) + len(one.marked) + len(one.url)
        kept.append(one if size <= max_chars else replace(one, text="[cut: too long]", marked="", url=""))
        max_chars -= min(size, max_chars)
    if left_out := len(parts) - len(kept):
        kept.append(Part(kind=PartKind.SHARED, text=f"[cut: {left_out} more parts of this message]"))
    return tuple(kept)


def _omitted_files_part(files: Sequence[Attachment]) -> tuple[Part, ...]:
    """Returns a part that says how many files were left out; empty if none."""
    more = len(files) - MAX_ATTACHMENTS
    return (Part(kind=PartKind.SHARED, text=f"[cut: {more} more files of this message]"),) if more > 0 else ()


def _sanitize_part(part: Part) -> Part:
    text, marked = _truncate(_to_storable(part.text)), _to_storable(part.marked)[:MAX_QUOTE_CHARS]
    if part.kind is PartKind.QUOTED and len(text) > MAX_QUOTE_CHARS:
        text = f"{text[:MAX_QUOTE_CHARS]}\n[cut: {len(text) - MAX_QUOTE_CHARS} more characters]"
    return Part(
        kind=PartKind(part.kind),
        text=text,
        title=_sanitize_name(part.title),
        author=_sanitize_name(part.author),
        chat=_sanitize_name(part.chat),
        sent_at=part.sent_at,
        marked=marked,
        url=_to_storable(part.url)[:MAX_QUOTE_CHARS],
    )


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, datetime) and bool(to_text(value))
    except ValueError:
        return False


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_storable(value: object) -> bool:
    """Returns whether an id can be stored unchanged."""
    return isinstance(value, str) and _to_storable(value) == value


def is_valid_id(value: object) -> bool:
    """Returns whether the value is a valid id of a chat or a message."""
    return _is_storable(value) and value != ""


def _sanitize_name(value: object) -> str:
    """Returns a name that is safe to show; empty if the value is no text."""
    return _to_storable(value)[:MAX_NAME_CHARS] if isinstance(value, str) else ""


def _sanitize_file_name(value: object) -> str:
    return shorten_file_name(_to_storable(value), MAX_NAME_CHARS) if isinstance(value, str) else ""


def _sanitize_sender(sender: object) -> Sender:
    if not isinstance(sender, Sender):
        return Sender(handle="", name="")
    return Sender(handle=_sanitize_name(sender.handle), name=_sanitize_name(sender.name), is_bot=sender.is_bot is True)


def _to_storable(text: str) -> str:
    """Replaces unpaired surrogates, which UTF-8 cannot encode, and NUL, which ends text for many readers."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def _truncate(text: str) -> str:
    if len(text) <= MAX_TEXT_CHARS:
        return text
    return text[:MAX_TEXT_CHARS] + f"\n[cut: {len(text) - MAX_TEXT_CHARS} more characters]"

"""Tells people who write during a pause that the host is paused, once per pause and person."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from nanohost.channel_api import EventKind
from nanohost.chat_commands.classify import PassThrough, classify_command
from nanohost.chat_commands.pause import PAUSED_TEXT
from nanohost.db import host_messages, paused
from nanohost.db.database import Transaction
from nanohost.db.events import StoredEvent
from nanohost.routing.engagement import is_addressed
from nanohost.text.translation import _
from nanohost_protocol.ids import derive_id
from nanohost_protocol.payloads import ChatOut
from nanohost_protocol.rows import Origin
from nanohost_protocol.times import to_text

_NOTIFIED_KINDS = {EventKind.MESSAGE, EventKind.CLICK}


async def notify_paused(tx: Transaction, stored_events: Iterable[StoredEvent], now: datetime) -> bool:
    """Replies to the senders of events that wake an agent, if the host is paused.

    A command gets no such reply: it is answered even during a of it.
    Returns whether all is paused."""
    pause = await paused.find(tx)
    if pause is None:
        return False
    for stored in stored_events:
        event, chat = stored.event, stored.chat
        verdict = classify_command(event.text, is_admin=True, is_addressed=is_addressed(event))
        if event.kind not in _NOTIFIED_KINDS or event.sender.is_bot or not isinstance(verdict, PassThrough):
            continue
        place = Origin(
            channel_type=chat.channel_type,
            instance=chat.instance,
            platform_id=chat.platform_id,
            thread_id=event.thread_id,
            platform_message_id=event.platform_message_id if event.kind is EventKind.MESSAGE else None,
        )
        out_id = derive_id(
            "h", "paused", to_text(pause.created_at), *_chat_address(place), chat.user_id_of(event.sender.handle)
        )
        await host_messages.enqueue(tx, place, ChatOut(text=_(PAUSED_TEXT)), out_id=out_id, now=now)
    return True


def _chat_address(origin: Origin) -> tuple[str, str, str]:
    return (origin.channel_type, origin.instance, origin.platform_id)

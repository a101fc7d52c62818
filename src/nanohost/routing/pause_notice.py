"""People who write while all is paused are told so: each once a pause and chat, by the host itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from nanohost.channel_api import EventKind
from nanohost.chat_commands.gate import Passes, gate
from nanohost.chat_commands.pause import PAUSED
from nanohost.routing.engage import is_addressed
from nanohost.store import host_messages, paused
from nanohost.store.database import Transaction
from nanohost.store.events import StoredEvent
from nanohost_protocol.ids import derive
from nanohost_protocol.rows import Origin
from nanohost_protocol.times import to_text

_HEARD = {EventKind.MESSAGE, EventKind.CLICK}


async def tell_of_pause(tx: Transaction, heard: Iterable[StoredEvent], now: datetime) -> None:
    """`heard`: what wakes an agent, or would. A command is answered at once, and is no reason to speak of it."""
    pause = await paused.find(tx)
    if pause is None:
        return
    for stored in heard:
        event, chat = stored.event, stored.chat
        verdict = gate(event.text, is_admin=True, is_to_us=is_addressed(event))
        if event.kind not in _HEARD or event.sender.is_bot or not isinstance(verdict, Passes):
            continue
        place = Origin(
            channel_type=chat.channel_type,
            instance=chat.instance,
            platform_id=chat.platform_id,
            thread_id=event.thread_id,
            platform_message_id=event.platform_message_id if event.kind is EventKind.MESSAGE else None,
        )
        out_id = derive("h", "paused", to_text(pause.at), *_names(place), chat.user(event.sender.handle))
        await host_messages.say(tx, place, PAUSED, out_id=out_id, now=now)


def _names(place: Origin) -> tuple[str, str, str]:
    return (place.channel_type, place.instance, place.platform_id)

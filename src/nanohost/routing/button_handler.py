"""Handles button presses on the host's own cards: an approval or a denial."""

from __future__ import annotations

from datetime import datetime, tzinfo

import structlog

from nanohost.approvals.decision import ApprovalNotFound, decide_by_button
from nanohost.channel_api import EventKind
from nanohost.db import approvals, cards, dropped
from nanohost.db.cards import CardChoice
from nanohost.db.database import Queries, ReportReader
from nanohost.db.events import StoredEvent
from nanohost.errors import UsageError
from nanohost.model import HOST_SESSION_ID, ApprovalId
from nanohost.routing.host_request import HostRequest
from nanohost.text.phrases import capitalize_first
from nanohost.text.translation import _, gettext_noop, translate_error

CARD_OF_OTHER_CHAT = "the button is on a card of another chat"
APPROVAL_CLOSED = "the card asks nothing any more"
NOT_ALLOWED_TO_DECIDE = gettext_noop("This is not yours to decide, so nothing was changed.")

_log = structlog.get_logger()


class ButtonHandler:
    """Handles button presses as a RequestHandler. Ignores a button value that the host has not recorded."""

    async def can_handle(self, db: Queries, stored: StoredEvent) -> bool:
        return await _find_host_choice(db, stored) is not None

    async def prefetch(self, reports: ReportReader, stored: StoredEvent, now: datetime, zone: tzinfo) -> object:
        return None

    async def handle(self, request: HostRequest) -> bool:
        choice = await _find_host_choice(request.tx, request.stored)
        if choice is None:
            return False
        approval = await approvals.find_by_card(request.tx, choice.card.seq)
        if choice.card.queue.chat != request.stored.chat or approval is None:
            await _drop_press(request, APPROVAL_CLOSED if approval is None else CARD_OF_OTHER_CHAT)
            return True
        try:
            await decide_by_button(
                request.tx,
                approval,
                actor=request.actor,
                number=choice.number,
                now=request.now,
                zone=request.zone,
            )
        except ApprovalNotFound:
            await _reply_once(request, approval, _(NOT_ALLOWED_TO_DECIDE))
        except UsageError as error:
            await _reply_once(request, approval, capitalize_first(f"{translate_error(error)}."))
        return True


async def _find_host_choice(db: Queries, stored: StoredEvent) -> CardChoice | None:
    if stored.event.kind is not EventKind.CLICK:
        return None
    choice = await cards.find_choice(db, stored.event.value)
    return choice if choice is not None and choice.card.queue.session_id == HOST_SESSION_ID else None


async def _reply_once(request: HostRequest, approval: ApprovalId, text: str) -> None:
    """Replies with the same text once per person and card, however often they press."""
    await approvals.count_unauthorized(request.tx, approval, request.user_id)
    await request.reply(text, once_key=approval)


async def _drop_press(request: HostRequest, reason: str) -> None:
    _log.info("button_press_dropped", user=request.user_id, chat=request.stored.chat.platform_id, reason=reason)
    await dropped.record(request.tx, request.stored.chat, request.user_id, reason, now=request.now)

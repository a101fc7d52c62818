"""Presses on the host's own cards: a yes or a no of somebody who was asked."""

from __future__ import annotations

from datetime import datetime, tzinfo

import structlog

from nanohost.approvals.decide import NotTheirs, press
from nanohost.channel_api import EventKind
from nanohost.errors import UsageError
from nanohost.model import HOST, ApprovalId
from nanohost.phrases import sentence
from nanohost.reception.visit import Visit
from nanohost.store import approvals, cards, dropped
from nanohost.store.cards import Choice
from nanohost.store.database import Queries, Reports
from nanohost.store.events import StoredEvent

ANOTHER_CHATS = "the button is on a card of another chat"
NO_APPROVAL = "the card asks nothing any more"
NOT_YOURS = "This is not yours to decide, so nothing was changed."

_log = structlog.get_logger()


class Presses:
    """A counter of the reception. What a button means is on record: a value that was made up is none of ours."""

    async def wants(self, db: Queries, stored: StoredEvent) -> bool:
        return await _chosen(db, stored) is not None

    async def look(self, reports: Reports, stored: StoredEvent, now: datetime, zone: tzinfo) -> object:
        return None

    async def serve(self, visit: Visit) -> bool:
        choice = await _chosen(visit.tx, visit.stored)
        if choice is None:
            return False
        approval = await approvals.of_card(visit.tx, choice.card.seq)
        if choice.card.lane.chat != visit.stored.chat or approval is None:
            await _drop(visit, NO_APPROVAL if approval is None else ANOTHER_CHATS)
            return True
        try:
            await press(
                visit.tx,
                approval,
                actor=visit.actor,
                label=choice.label,
                now=visit.now,
                zone=visit.zone,
            )
        except NotTheirs:
            await _tell_once(visit, approval, NOT_YOURS)
        except UsageError as error:
            await _tell_once(visit, approval, sentence(f"{error}."))
        return True


async def _chosen(db: Queries, stored: StoredEvent) -> Choice | None:
    if stored.event.kind is not EventKind.CLICK:
        return None
    choice = await cards.chosen(db, stored.event.value)
    return choice if choice is not None and choice.card.lane.session_id == HOST else None


async def _tell_once(visit: Visit, approval: ApprovalId, text: str) -> None:
    """Each person the same thing once a card, however often they press."""
    await approvals.count_refusal(visit.tx, approval, visit.user)
    await visit.say(text, once=approval)


async def _drop(visit: Visit, reason: str) -> None:
    _log.info("press_dropped", user=visit.user, chat=visit.stored.chat.platform_id, reason=reason)
    await dropped.count(visit.tx, visit.stored.chat, visit.user, reason, now=visit.now)

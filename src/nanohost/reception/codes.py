"""One-time codes, typed in a chat: bare, after /pair or /link, or as a deep link sends them, after /start.

A text that only looks like a code is a message like any other, unless somebody waits for a code to be typed. Never: an
open code where somebody else reads it, be it in a group or among the words that an agent is told: it is void then. Nor
is one ever good where a wrong one would have been no guess.
"""

from __future__ import annotations

from datetime import datetime, tzinfo

from nanohost.access import codes as access
from nanohost.access.acquaintance import meet
from nanohost.access.codes import Typed, Word
from nanohost.access.first_owner import become_owner
from nanohost.access.linking import become_one
from nanohost.approvals.settled import settle
from nanohost.channel_api import EventKind, InboundEvent
from nanohost.phrases import planned_time
from nanohost.reception.visit import Visit
from nanohost.store import codes, dropped
from nanohost.store.codes import Code, CodeStatus, Purpose
from nanohost.store.database import Queries, Reports
from nanohost.store.events import StoredEvent

SILENT = "codes are not looked at for an hour after a wrong one"
OVERHEARD = (
    "Others read this here, so that code is void now. Have a new one made, and write it to me in a direct message."
)
NOT_ALONE = (
    "That code is void now, for I take one only as a message of its own, without other words. Have a new one made, and "
    "write me that, just as it is and nothing else."
)
BY_AN_EDIT = (
    "That code is void now, for I take none from a message that was changed. Have a new one made, and write me that as "
    "a message of its own."
)
TOO_LATE = {
    CodeStatus.USED: "That code was used before; each works once.",
    CodeStatus.BURNED: "That code is void; have a new one made.",
    CodeStatus.EXPIRED: "That code is too old; have a new one made.",
}


class Codes:
    """A counter of the reception."""

    async def wants(self, db: Queries, stored: StoredEvent) -> bool:
        """One look at an index for what looks like a code, and none for anything else."""
        if stored.event.sender.is_bot:
            return False
        typed = _typed(stored.event)
        if typed is None:
            return bool(await access.open_in(db, stored.event))
        return typed.word in (Word.PAIR, Word.LINK) or await _may_be_one(db, typed)

    async def look(self, reports: Reports, stored: StoredEvent, now: datetime, zone: tzinfo) -> object:
        return None

    async def serve(self, visit: Visit) -> bool:
        await codes.expire(visit.tx, visit.now)
        typed = _typed(visit.stored.event)
        return await (_serve_said(visit) if typed is None else _serve_typed(visit, typed))


def _typed(event: InboundEvent) -> Typed | None:
    """The code that somebody means to use: it stands alone, and nobody else reads it."""
    if event.is_group or event.kind is not EventKind.MESSAGE:
        return None
    return access.typed(event.text)


async def _serve_typed(visit: Visit, typed: Typed) -> bool:
    code = await codes.find(visit.tx, typed.hash)
    if code is None and typed.word in (Word.NONE, Word.START) and not await codes.any_open(visit.tx):
        return False
    if await access.is_silent(visit.tx, visit.user, visit.now):
        await _ignore(visit)
    elif code is None:
        await _refuse(visit)
    else:
        await visit.say(await _use(visit, code), once=code.hash)
    return True


async def _may_be_one(db: Queries, typed: Typed) -> bool:
    return await codes.any_open(db) or await codes.find(db, typed.hash) is not None


async def _serve_said(visit: Visit) -> bool:
    """In a group whoever reads it could be quicker than the one who was meant. In a direct message it was no guess that
    a wrong one would have had a price for, or everybody had as many as they like. What is no open code is a message
    like any other."""
    burned = await access.open_in(visit.tx, visit.stored.event)
    for code in burned:
        await _burn(visit, code)
    if burned:
        await visit.say(_why_void(visit))
    return bool(burned)


def _why_void(visit: Visit) -> str:
    if not visit.is_private:
        return OVERHEARD
    event = visit.stored.event
    return BY_AN_EDIT if event.kind is EventKind.EDIT and access.typed(event.text) is not None else NOT_ALONE


async def _ignore(visit: Visit) -> None:
    await codes.count_guess(visit.tx, visit.user, now=visit.now, silence=access.SILENCE)
    await dropped.count(visit.tx, visit.stored.chat, visit.user, SILENT, now=visit.now)


async def _refuse(visit: Visit) -> None:
    until = await access.guess(visit.tx, user_id=visit.user, origin=visit.origin, now=visit.now)
    when = planned_time(until, visit.now, visit.zone)
    await visit.say(f"That is no code of mine. Until {when} I look at no code of yours.")


async def _use(visit: Visit, code: Code) -> str:
    """What came of a code that is one."""
    chat = visit.stored.chat
    if code.status is not CodeStatus.OPEN:
        return TOO_LATE[code.status]
    if not await access.stands(visit.tx, code):
        await _burn(visit, code)
        return TOO_LATE[CodeStatus.BURNED]
    if code.channel_type not in (None, chat.channel_type):
        return f"That code is for {code.channel_type}: write it to me there."
    if code.user_id == visit.user:
        return "That code is yours: write it to me in a direct message on the other platform."
    await access.close(visit.tx, code, CodeStatus.USED, by=visit.user, origin=visit.origin, now=visit.now)
    await meet(visit.tx, visit.stored, visit.now)
    become = become_owner if code.purpose is Purpose.OWNER else become_one
    text = await become(visit.tx, code, visit.stored, now=visit.now)
    await settle(visit.tx, now=visit.now, zone=visit.zone)
    return text


async def _burn(visit: Visit, code: Code) -> None:
    await access.close(visit.tx, code, CodeStatus.BURNED, by=visit.user, origin=visit.origin, now=visit.now)

"""Handles one-time codes typed in a chat: bare, after /pair or /link, or after /start as a deep link sends them.

A text that only looks like a code is an ordinary message, unless there is an open code. An open code is revoked if
others can read it: in a group, or among other text that an agent reads.
Never: a code is redeemed where a wrong one would not have counted as a guess.
"""

from __future__ import annotations

from datetime import datetime, tzinfo

from nanohost.access import codes as access
from nanohost.access.codes import CodePrefix, TypedCode
from nanohost.access.contacts import record_contact
from nanohost.access.linking import link_identities
from nanohost.access.owners import make_owner
from nanohost.approvals.obsolete import withdraw_obsolete
from nanohost.channel_api import EventKind, InboundEvent
from nanohost.db import codes, dropped
from nanohost.db.codes import Code, CodePurpose, CodeStatus
from nanohost.db.database import Queries, ReportReader
from nanohost.db.events import StoredEvent
from nanohost.routing.host_request import HostRequest
from nanohost.text.phrases import format_time_with_zone
from nanohost.text.translation import _, gettext_noop

LOCKED_OUT = "codes are not looked at for an hour after a wrong one"
CODE_EXPOSED_IN_GROUP = gettext_noop(
    "Others read this here, so that code is void now. Have a new one made, and write it to me in a direct message."
)
CODE_WITH_OTHER_TEXT = gettext_noop(
    "That code is void now: I accept a code only as a message of its own, without other words. Have a new one made, and"
    " write me that and nothing else."
)
CODE_IN_EDIT = gettext_noop(
    "That code is void now: I accept no code from an edited message. Have a new one made, and write me that as a"
    " message of its own."
)
INVALID_CODE_TEXTS = {
    CodeStatus.USED: gettext_noop("That code was used before; each works once."),
    CodeStatus.REVOKED: gettext_noop("That code is void; have a new one made."),
    CodeStatus.EXPIRED: gettext_noop("That code is too old; have a new one made."),
}


class CodeHandler:
    """Handles one-time codes as a RequestHandler."""

    async def can_handle(self, db: Queries, stored: StoredEvent) -> bool:
        """Returns whether the event may hold a code. Queries an index only for what looks like a code."""
        if stored.event.sender.is_bot:
            return False
        typed = _parse_direct_code(stored.event)
        if typed is None:
            return bool(await access.find_open_codes(db, stored.event))
        return typed.prefix in (CodePrefix.PAIR, CodePrefix.LINK) or await _may_be_code(db, typed)

    async def prefetch(self, reports: ReportReader, stored: StoredEvent, now: datetime, zone: tzinfo) -> object:
        return None

    async def handle(self, request: HostRequest) -> bool:
        await codes.expire(request.tx, request.now)
        typed = _parse_direct_code(request.stored.event)
        return await (_void_exposed_codes(request) if typed is None else _handle_typed(request, typed))


def _parse_direct_code(event: InboundEvent) -> TypedCode | None:
    """Returns the code that the sender wants to use: the only text of a direct message. None if there is none."""
    if event.is_group or event.kind is not EventKind.MESSAGE:
        return None
    return access.parse_code(event.text)


async def _handle_typed(request: HostRequest, typed: TypedCode) -> bool:
    code = await codes.find(request.tx, typed.hash)
    if code is None and typed.prefix in (CodePrefix.NONE, CodePrefix.START) and not await codes.has_open(request.tx):
        return False
    if await access.is_locked_out(request.tx, request.user_id, request.now):
        await _count_ignored(request)
    elif code is None:
        await _refuse_wrong_code(request)
    else:
        await request.reply(await _redeem(request, code), once_key=code.hash)
    return True


async def _may_be_code(db: Queries, typed: TypedCode) -> bool:
    return await codes.has_open(db) or await codes.find(db, typed.hash) is not None


async def _void_exposed_codes(request: HostRequest) -> bool:
    """Revokes open codes in the event; returns whether there were any.

    In a group, anybody who reads the code could use it first. In a direct message with other text, a wrong code would
    not count as a guess, so accepting one there would allow unlimited guesses.
    """
    burned = await access.find_open_codes(request.tx, request.stored.event)
    for code in burned:
        await _void_code(request, code)
    if burned:
        await request.reply(_void_reply(request))
    return bool(burned)


def _void_reply(request: HostRequest) -> str:
    if not request.is_private:
        return _(CODE_EXPOSED_IN_GROUP)
    event = request.stored.event
    is_edit = event.kind is EventKind.EDIT and access.parse_code(event.text) is not None
    return _(CODE_IN_EDIT if is_edit else CODE_WITH_OTHER_TEXT)


async def _count_ignored(request: HostRequest) -> None:
    await codes.record_guess(request.tx, request.user_id, now=request.now, lockout=access.LOCKOUT)
    await dropped.record(request.tx, request.stored.chat, request.user_id, LOCKED_OUT, now=request.now)


async def _refuse_wrong_code(request: HostRequest) -> None:
    until = await access.record_wrong_guess(request.tx, user_id=request.user_id, origin=request.origin, now=request.now)
    when = format_time_with_zone(until, request.now, request.zone)
    await request.reply(_("That code is wrong. I accept no code from you until {time}.", time=when))


async def _redeem(request: HostRequest, code: Code) -> str:
    """Redeems a known code and returns the reply."""
    chat = request.stored.chat
    if code.status is not CodeStatus.OPEN:
        return _(INVALID_CODE_TEXTS[code.status])
    if not await access.is_issuer_still_authorized(request.tx, code):
        await _void_code(request, code)
        return _(INVALID_CODE_TEXTS[CodeStatus.REVOKED])
    if code.channel_type not in (None, chat.channel_type):
        return _("That code is for {channel}: write it to me there.", channel=code.channel_type)
    if code.user_id == request.user_id:
        return _("That code is yours: write it to me in a direct message on the other platform.")
    await access.close(
        request.tx, code, CodeStatus.USED, actor_id=request.user_id, origin=request.origin, now=request.now
    )
    await record_contact(request.tx, request.stored, request.now)
    become = make_owner if code.purpose is CodePurpose.OWNER else link_identities
    text = await become(request.tx, code, request.stored, now=request.now)
    await withdraw_obsolete(request.tx, now=request.now, zone=request.zone)
    return text


async def _void_code(request: HostRequest, code: Code) -> None:
    await access.close(
        request.tx, code, CodeStatus.REVOKED, actor_id=request.user_id, origin=request.origin, now=request.now
    )

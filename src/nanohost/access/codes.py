"""One-time codes: whoever types one in a direct message is who was meant.

Promises: a code works once, in a direct message only, and for minutes; whoever types a wrong one is not heard for an
hour, and nobody else notices. So every account has one guess at what 39 bits say, and takes no code from who has it.
Never: a code on record, anywhere but in what its owner is told and what people write. Its hash is.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from nanohost.channel_api import EventKind, InboundEvent
from nanohost.model import Role
from nanohost.store import audit, codes, roles
from nanohost.store.audit import AuditOutcome
from nanohost.store.codes import Code, CodeStatus, Purpose
from nanohost.store.database import Queries, Transaction
from nanohost_protocol.times import to_text

LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ"
DIGITS = "23456789"
"""Nothing that looks like something else: no I, L, O, 0 and 1."""
LENGTH = 8
LIVES: Mapping[Purpose, timedelta] = {Purpose.OWNER: timedelta(minutes=15), Purpose.LINK: timedelta(minutes=10)}
SILENCE = timedelta(hours=1)
"""For how long nobody looks at codes of somebody who typed a wrong one."""
_FORM = re.compile(rf"[{LETTERS}{DIGITS}]{{{LENGTH}}}")
_MIDDLE = LENGTH // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A new code as it is shown, once."""

    code: str
    expires_at: datetime


class Word(StrEnum):
    """What stood before a typed code."""

    PAIR = "pair"
    LINK = "link"
    START = "start"
    """Telegram's deep links say so."""
    NONE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A text that has the form of a code. `word`: the command before it."""

    code: str
    word: Word = Word.NONE

    @property
    def hash(self) -> str:
        return _hash(self.code)


_HALF = "[a-z0-9]{4}"
_WRITTEN = rf"({_HALF}(?u:[\W_]{{0,3}}){_HALF})"
"""With any dash, a blank in its place, or nothing: keyboards, platforms and people put one in the place of another."""
_MARKS = r"(?u:[\W_]*)"
"""What stands around it and is no word in any script: blanks, a full stop, the marks of bold or code."""
_BELOW = r"(?:\n(?s:.*))?"
_TYPED = re.compile(
    rf"{_MARKS}(?:/(pair|link|start)(?:@\w+)?\s{_MARKS})?{_WRITTEN}{_MARKS}{_BELOW}", re.IGNORECASE | re.ASCII
)
_AMONG_OTHERS = re.compile(rf"(?<![a-z0-9])(?={_WRITTEN}(?![a-z0-9]))", re.IGNORECASE | re.ASCII)


def typed(text: str) -> Typed | None:
    """The code that a text is, with whatever stands for its dash, in any case and between any marks; or that it begins
    with, on a line of its own: a phone copies the whole message in which it came. Words have no digits and numbers no
    letters, so hardly anything else looks like one."""
    match = _TYPED.fullmatch(text)
    code = _bare(match[2]) if match else ""
    if match is None or not _is_code(code):
        return None
    return Typed(code=code, word=Word((match[1] or "").lower()))


async def open_in(db: Queries, event: InboundEvent) -> list[Code]:
    """The open codes that anybody who reads the event could type, whatever other words it has."""
    if event.kind not in (EventKind.MESSAGE, EventKind.EDIT):
        return []
    said = set(_said(event.text))
    waiting = await codes.all_open(db) if said else []
    heard = {_hash(code) for code in said} if waiting else set()
    return [code for code in waiting if code.hash in heard]


def _said(text: str) -> Iterator[str]:
    for match in _AMONG_OTHERS.finditer(text):
        if _is_code(code := _bare(match[1])):
            yield code


async def issue(
    tx: Transaction,
    purpose: Purpose,
    *,
    channel_type: str | None,
    user_id: str | None,
    created_by: str,
    origin: str,
    now: datetime,
) -> Issued:
    """Make a code; one that the same one asked for before, for the same, is void."""
    code = _draw()
    expires_at = now + LIVES[purpose]
    await codes.add(
        tx,
        hash=_hash(code),
        purpose=purpose,
        channel_type=channel_type,
        user_id=user_id,
        created_by=created_by,
        expires_at=expires_at,
        now=now,
    )
    await audit.record(
        tx,
        who=created_by,
        what="codes.create",
        outcome=AuditOutcome.DONE,
        now=now,
        about=user_id or "",
        origin=origin,
        details={"purpose": purpose, "channel": channel_type, "expires_at": to_text(expires_at)},
    )
    return Issued(code=f"{code[:_MIDDLE]}-{code[_MIDDLE:]}", expires_at=expires_at)


async def is_silent(db: Queries, user_id: str, now: datetime) -> bool:
    """Whether nobody looks at codes of this user now."""
    since = await codes.guessed_at(db, user_id)
    return since is not None and timedelta() <= now - since < SILENCE


async def guess(tx: Transaction, *, user_id: str, origin: str, now: datetime) -> datetime:
    """A wrong code. Until when its user is not heard."""
    await codes.count_guess(tx, user_id, now=now, silence=SILENCE)
    await audit.record(
        tx,
        who=user_id,
        what="codes.guess",
        outcome=AuditOutcome.REFUSED,
        now=now,
        origin=origin,
    )
    return now + SILENCE


async def stands(db: Queries, code: Code) -> bool:
    """Whether whoever had it made could do so still: an owner who is one no more must not come back by it."""
    if code.purpose is not Purpose.OWNER or audit.local_name(code.created_by) is not None:
        return True
    return any(grant.role is Role.OWNER for grant in await roles.of_user(db, code.created_by))


async def close(tx: Transaction, code: Code, status: CodeStatus, *, by: str, origin: str, now: datetime) -> bool:
    """Use a code up, or void it. False if it was not open any more."""
    if not await codes.close(tx, code, status, by=by, now=now):
        return False
    await audit.record(
        tx,
        who=by,
        what="codes.use" if status is CodeStatus.USED else "codes.burn",
        outcome=AuditOutcome.DONE if status is CodeStatus.USED else AuditOutcome.REFUSED,
        now=now,
        about=code.user_id or "",
        origin=origin,
        details={"purpose": code.purpose, "asked_for_by": code.created_by},
    )
    return True


def _draw() -> str:
    while True:
        code = "".join(secrets.choice(LETTERS + DIGITS) for _ in range(LENGTH))
        if _is_code(code):
            return code


def _bare(written: str) -> str:
    return "".join(char for char in written if char.isalnum()).upper()


def _is_code(text: str) -> bool:
    """At least a letter and a digit."""
    return _FORM.fullmatch(text) is not None and not text.isalpha() and not text.isdigit()


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()

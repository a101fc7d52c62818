"""Issues and redeems one-time codes: whoever types the code in a direct message gets what it was issued for.

Promises: a code works once, in a direct message only, and for minutes. Whoever types a wrong one is locked out for an
hour, without affecting others. So every account has one guess at 39 bits, and cannot invalidate another's code.
Never: a code is stored, except in the message to its owner and in what people write. Its hash is stored.
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
from nanohost.db import audit, codes, roles
from nanohost.db.audit import AuditOutcome
from nanohost.db.codes import Code, CodePurpose, CodeStatus
from nanohost.db.database import Queries, Transaction
from nanohost.model import Role
from nanohost_protocol.times import to_text

LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ"
DIGITS = "23456789"
"""No characters that look alike: no I, L, O, 0 and 1."""
CODE_LENGTH = 8
LIFETIMES: Mapping[CodePurpose, timedelta] = {
    CodePurpose.OWNER: timedelta(minutes=15),
    CodePurpose.LINK: timedelta(minutes=10),
}
LOCKOUT = timedelta(hours=1)
"""How long codes of a user are ignored after a wrong one."""
_CODE_FORMAT = re.compile(rf"[{LETTERS}{DIGITS}]{{{CODE_LENGTH}}}")
_DASH_POSITION = CODE_LENGTH // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCode:
    """A new code in the form that is shown, once."""

    code: str
    expires_at: datetime


class CodePrefix(StrEnum):
    """The command before a typed code."""

    PAIR = "pair"
    LINK = "link"
    START = "start"
    """Sent by Telegram's deep links."""
    NONE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedCode:
    """A text that has the form of a code. `prefix`: the command before it."""

    code: str
    prefix: CodePrefix = CodePrefix.NONE

    @property
    def hash(self) -> str:
        return _hash(self.code)


_HALF_PATTERN = "[a-z0-9]{4}"
_CODE_PATTERN = rf"({_HALF_PATTERN}(?u:[\W_]{{0,3}}){_HALF_PATTERN})"
"""With any dash, a blank, or nothing between the halves: keyboards, platforms and people replace the dash."""
_PUNCTUATION = r"(?u:[\W_]*)"
"""Characters around a code that are no words: blanks, a full stop, the marks of bold or code."""
_TRAILING_LINES = r"(?:\n(?s:.*))?"
_TYPED_CODE = re.compile(
    rf"{_PUNCTUATION}(?:/(pair|link|start)(?:@\w+)?\s{_PUNCTUATION})?{_CODE_PATTERN}{_PUNCTUATION}{_TRAILING_LINES}",
    re.IGNORECASE | re.ASCII,
)
_EMBEDDED_CODE = re.compile(rf"(?<![a-z0-9])(?={_CODE_PATTERN}(?![a-z0-9]))", re.IGNORECASE | re.ASCII)


def parse_code(text: str) -> TypedCode | None:
    """Returns the code if the text consists of one, or begins with a line that does; else None.

    It may be in any case, between any marks, with anything for its dash. It may be followed by other lines, because a
    phone copies the whole message that it came in. A code has letters and digits, so hardly any other text matches.
    """
    match = _TYPED_CODE.fullmatch(text)
    code = _normalize(match[2]) if match else ""
    if match is None or not _is_code(code):
        return None
    return TypedCode(code=code, prefix=CodePrefix((match[1] or "").lower()))


async def find_open_codes(db: Queries, event: InboundEvent) -> list[Code]:
    """Returns the open codes in the event's text, which anybody who reads it could use."""
    if event.kind not in (EventKind.MESSAGE, EventKind.EDIT):
        return []
    said = set(_codes_in(event.text))
    waiting = await codes.list_open(db) if said else []
    heard = {_hash(code) for code in said} if waiting else set()
    return [code for code in waiting if code.hash in heard]


def _codes_in(text: str) -> Iterator[str]:
    for match in _EMBEDDED_CODE.finditer(text):
        if _is_code(code := _normalize(match[1])):
            yield code


async def issue(
    tx: Transaction,
    purpose: CodePurpose,
    *,
    channel_type: str | None,
    user_id: str | None,
    created_by: str,
    origin: str,
    now: datetime,
) -> IssuedCode:
    """Issues a code, and revokes an earlier one of the same user and purpose."""
    code = _generate_code()
    expires_at = now + LIFETIMES[purpose]
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
        actor=created_by,
        action="codes.create",
        outcome=AuditOutcome.DONE,
        now=now,
        target=user_id or "",
        origin=origin,
        details={"purpose": purpose, "channel": channel_type, "expires_at": to_text(expires_at)},
    )
    return IssuedCode(code=f"{code[:_DASH_POSITION]}-{code[_DASH_POSITION:]}", expires_at=expires_at)


async def is_locked_out(db: Queries, user_id: str, now: datetime) -> bool:
    """Returns whether codes of this user are ignored now."""
    since = await codes.last_guess_at(db, user_id)
    return since is not None and timedelta() <= now - since < LOCKOUT


async def record_wrong_guess(tx: Transaction, *, user_id: str, origin: str, now: datetime) -> datetime:
    """Records a wrong code; returns until when the user is locked out."""
    await codes.record_guess(tx, user_id, now=now, lockout=LOCKOUT)
    await audit.record(
        tx,
        actor=user_id,
        action="codes.guess",
        outcome=AuditOutcome.REFUSED,
        now=now,
        origin=origin,
    )
    return now + LOCKOUT


async def is_issuer_still_authorized(db: Queries, code: Code) -> bool:
    """Returns whether the issuer could still issue it: a former owner must not become owner again by it."""
    if code.purpose is not CodePurpose.OWNER or audit.local_name(code.created_by) is not None:
        return True
    return any(grant.role is Role.OWNER for grant in await roles.list_for_user(db, code.created_by))


async def close(tx: Transaction, code: Code, status: CodeStatus, *, actor_id: str, origin: str, now: datetime) -> bool:
    """Marks a code as used or revoked. Returns False if it was not open any more."""
    if not await codes.close(tx, code, status, used_by=actor_id, now=now):
        return False
    await audit.record(
        tx,
        actor=actor_id,
        action="codes.use" if status is CodeStatus.USED else "codes.burn",
        outcome=AuditOutcome.DONE if status is CodeStatus.USED else AuditOutcome.REFUSED,
        now=now,
        target=code.user_id or "",
        origin=origin,
        details={"purpose": code.purpose, "asked_for_by": code.created_by},
    )
    return True


def _generate_code() -> str:
    while True:
        code = "".join(secrets.choice(LETTERS + DIGITS) for _ in range(CODE_LENGTH))
        if _is_code(code):
            return code


def _normalize(written: str) -> str:
    return "".join(char for char in written if char.isalnum()).upper()


def _is_code(text: str) -> bool:
    """Returns whether the text has at least one letter and one digit."""
    return _CODE_FORMAT.fullmatch(text) is not None and not text.isalpha() and not text.isdigit()


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()

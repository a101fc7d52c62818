"""Becoming an owner: by a code that was made at the machine, or asked for by an owner. Never by being first to write.

An owner without an agent to talk to could do nothing, so the chat of the code gets one: see first_wiring.
"""

from __future__ import annotations

from datetime import datetime

from nanohost import quoting
from nanohost.access.first_wiring import ensure_agent_wired
from nanohost.access.telling import notify_owners
from nanohost.model import Role
from nanohost.store import audit, roles
from nanohost.store.audit import AuditOutcome
from nanohost.store.codes import Code
from nanohost.store.database import Transaction
from nanohost.store.events import StoredEvent

NEXT_STEPS = "/help shows what I understand. /link makes you known to me on another platform, too."


async def make_owner(tx: Transaction, code: Code, stored: StoredEvent, *, now: datetime) -> str:
    """Make the sender of this event an owner; what they are told. The code is used up by the caller."""
    user, name = stored.user_id, stored.event.sender.name
    is_first = not any(grant.role is Role.OWNER for grant in await roles.list_deciders(tx))
    is_new = not any(grant.role is Role.OWNER for grant in await roles.list_for_user(tx, user))
    if is_new:
        await roles.grant(tx, user_id=user, role=Role.OWNER, agent_group=None, now=now)
        await audit.record(
            tx,
            actor=user,
            action="roles.create",
            outcome=AuditOutcome.DONE,
            now=now,
            target=user,
            origin=audit.chat_origin(stored.chat),
            details={"role": Role.OWNER, "code_by": code.created_by},
        )
        text = f"{quoting.user(user, name)} is an owner now, by a code that {quoting.user(code.created_by)} asked for."
        await notify_owners(tx, text, exclude=[user], cause=code.hash, now=now)
    welcome = _welcome(is_new=is_new, is_first=is_first)
    return f"{welcome} {await ensure_agent_wired(tx, stored, now)}\n{NEXT_STEPS}"


def _welcome(*, is_new: bool, is_first: bool) -> str:
    if not is_new:
        return "You were an owner before."
    return "You are the owner now." if is_first else "You are an owner now."

"""Makes somebody an owner by a one-time code, and protects the last owner. Writing first makes nobody an owner.

An owner without an agent could do nothing, so the chat of the code is wired to one: see first_wiring.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from nanohost.access.first_wiring import ensure_agent_wired
from nanohost.access.notify import notify_owners
from nanohost.db import audit, roles
from nanohost.db.audit import AuditOutcome
from nanohost.db.codes import Code
from nanohost.db.database import Transaction
from nanohost.db.events import StoredEvent
from nanohost.db.roles import RoleGrant
from nanohost.errors import UsageError
from nanohost.model import Role
from nanohost.text import quoting
from nanohost.text.translation import _, gettext_noop

NEXT_STEPS = gettext_noop("/help shows what I understand. /link links your account on another platform.")


async def make_owner(tx: Transaction, code: Code, stored: StoredEvent, *, now: datetime) -> str:
    """Makes the sender of this event an owner; returns the reply. The caller marks the code as used."""
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
        text = _(
            "{user} is an owner now, by a code that {other} asked for.",
            user=quoting.user(user, name),
            other=quoting.user(code.created_by),
        )
        await notify_owners(tx, text, exclude=[user], cause=code.hash, now=now)
    welcome = _welcome(is_new=is_new, is_first=is_first)
    return f"{welcome} {await ensure_agent_wired(tx, stored, now)}\n{_(NEXT_STEPS)}"


def _welcome(*, is_new: bool, is_first: bool) -> str:
    if not is_new:
        return _("You were an owner before.")
    return _("You are the owner now.") if is_first else _("You are an owner now.")


def is_last_owner(grants: Sequence[RoleGrant], user_id: str, configured_channels: Collection[str]) -> bool:
    """Returns whether this user is the only owner. Pure.

    Another identity of the same person counts as another owner. If this user's channel is in `configured_channels`, an
    owner on a channel that is not does not count: it may be a typing error, and nobody would ever write from there.
    """
    owners = {grant.user_id for grant in grants if grant.role is Role.OWNER}
    others = owners - {user_id}
    if _channel_type(user_id) in configured_channels:
        others = {one for one in others if _channel_type(one) in configured_channels}
    return user_id in owners and not others


def _channel_type(user_id: str) -> str:
    return user_id.partition(":")[0]


async def check_not_last_owner(tx: Transaction, user_id: str, configured_channels: Collection[str]) -> None:
    """Raises UsageError if the user is the last owner. Call it in the transaction that revokes the role."""
    if is_last_owner(await roles.list_deciders(tx), user_id, configured_channels):
        raise UsageError(
            f"{user_id} is the last owner and stays it",
            hint="nanohost roles create CHANNEL:HANDLE owner makes another first, on a channel that is set up",
        )

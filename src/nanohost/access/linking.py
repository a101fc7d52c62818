"""Two identities of one human. Who asked for the code shares what they may do with who types it, never the reverse.

Else a stranger could ask for a code and talk an owner into typing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nanohost import quoting
from nanohost.access.decision import may_talk
from nanohost.access.first_wiring import agent_here
from nanohost.access.telling import tell
from nanohost.aftermath import Aftermath
from nanohost.model import Role, UnknownSender
from nanohost.store import agent_groups, audit, roles, rules, users
from nanohost.store.audit import AuditOutcome
from nanohost.store.codes import Code
from nanohost.store.database import Queries, Transaction
from nanohost.store.events import StoredEvent
from nanohost.store.roles import Grant
from nanohost.store.rules import RuleEffect
from nanohost.store.users import user_of
from nanohost_protocol.ids import derive

SENDER = "sender"
"""The kind of rules about who may talk to an agent: see approvals/kinds/sender.py."""


def would_gain(asker: Sequence[Grant], typist: Sequence[Grant]) -> bool:
    """Whether whoever asked for the code could do more than now, if the two were one. Pure."""
    theirs = {(grant.role, grant.agent_group_id) for grant in asker}
    if (Role.OWNER, None) in theirs:
        return False
    gained = {(grant.role, grant.agent_group_id) for grant in typist} - theirs
    if (Role.ADMIN, None) in theirs:
        gained = {(role, scope) for role, scope in gained if role is Role.OWNER}
    return bool(gained)


async def become_one(tx: Transaction, code: Code, stored: StoredEvent, *, now: datetime, aftermath: Aftermath) -> str:
    """Link the sender of this event, who is known, with who asked for the code, and tell the latter; what the sender is
    told. An owner's chat gets an agent. The code is used up by the caller, whatever comes of it."""
    user, asker = user_of(stored.chat, stored.event.sender.handle), code.user_id
    assert asker is not None, "a code for linking says whom"
    origin = f"{stored.chat.channel_type}:{stored.chat.platform_id}"
    if await users.find(tx, asker) is None:
        return "I do not know any more who asked for that code."
    if would_gain(await roles.of_user(tx, asker), await roles.of_user(tx, user)):
        await _record(tx, AuditOutcome.REFUSED, user, asker, origin, now)
        they = quoting.user(asker)
        return f"You may do more here than {they} may. If that is you: write /link here, and the code there."
    if await _is_kept_away(tx, user, by=asker, now=now):
        await _record(tx, AuditOutcome.REFUSED, user, asker, origin, now)
        return "You were refused here: only an owner's code makes you one with them."
    if not await users.link(tx, asker, user):
        return f"You and {quoting.user(asker)} are one person to me already."
    await _record(tx, AuditOutcome.DONE, user, asker, origin, now)
    text = (
        f"{quoting.user(user, stored.event.sender.name)} is you from now on, and may do what you may. "
        f"If that is not you: `nanohost users unlink {user}`"
    )
    await tell(tx, asker, text, out_id=derive("h", "link", str(code.id)), now=now, aftermath=aftermath)
    said = f"You and {quoting.user(asker)} are one person to me now: what one of you may do, both may."
    is_owner = any(grant.role is Role.OWNER for grant in await roles.of_user(tx, user))
    return f"{said} {await agent_here(tx, stored, now)}" if is_owner else said


async def _is_kept_away(db: Queries, user: str, *, by: str, now: datetime) -> bool:
    """Whether somebody refused this human for an agent that they could talk to then. An owner may think otherwise."""
    grants = await roles.of_user(db, by)
    if any(grant.role is Role.OWNER for grant in grants):
        return False
    for agent in await agent_groups.every(db):
        if not may_talk(grants, UnknownSender.STRICT, agent.id).allowed:
            continue
        for one in await users.identities(db, user):
            rule = await rules.that_applies(db, kind=SENDER, subject=one.user_id, agent_group=agent.id, now=now)
            if rule is not None and rule.effect is RuleEffect.DENY:
                return True
    return False


async def _record(tx: Transaction, outcome: AuditOutcome, user: str, asker: str, origin: str, now: datetime) -> None:
    await audit.record(
        tx, who=user, what="users.link", outcome=outcome, now=now, about=asker, origin=origin, details={"with": user}
    )

"""Two identities of one human. Who asked for the code shares what they may do with who types it, never the reverse.

Else a stranger could ask for a code and talk an owner into typing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nanohost import quoting
from nanohost.access.decision import may_talk
from nanohost.access.first_wiring import agent_here
from nanohost.access.refusals import refused_by
from nanohost.access.telling import tell, tell_owners
from nanohost.model import Role, UnknownSender
from nanohost.store import agent_groups, audit, roles, users
from nanohost.store.audit import AuditOutcome
from nanohost.store.codes import Code
from nanohost.store.database import Queries, Transaction
from nanohost.store.events import StoredEvent
from nanohost.store.roles import Grant
from nanohost_protocol.ids import derive

_RANKS = {Role.MEMBER: 0, Role.ADMIN: 1, Role.OWNER: 2}


def would_gain(asker: Sequence[Grant], typist: Sequence[Grant]) -> bool:
    """Whether whoever asked for the code could do more than now, if the two were one. Pure."""
    return not all(any(_covers(mine, theirs) for mine in asker) for theirs in typist)


def _covers(one: Grant, other: Grant) -> bool:
    """Whether who has the one may do all that the other is good for."""
    in_scope = one.agent_group_id in (None, other.agent_group_id)
    return one.role is Role.OWNER or (in_scope and _RANKS[one.role] >= _RANKS[other.role])


async def become_one(tx: Transaction, code: Code, stored: StoredEvent, *, now: datetime) -> str:
    """Link the sender of this event, who is known, with who asked for the code, and tell the latter, and all owners if
    that makes one; what the sender is told. An owner's chat gets an agent. The code is used up by the caller, whatever
    comes of it."""
    user, name, asker = stored.user, stored.event.sender.name, code.user_id
    assert asker is not None, "a code for linking says whom"
    origin = audit.chat(stored.chat)
    if await users.find(tx, asker) is None:
        return "I do not know any more who asked for that code."
    if asker in [one.user_id for one in await users.identities(tx, user)]:
        return f"You and {quoting.user(asker)} are one person to me already."
    theirs, own = await roles.of_user(tx, asker), await roles.of_user(tx, user)
    refusal = await _refusal(tx, user, own, by=asker, theirs=theirs, now=now)
    if refusal is not None:
        await _record(tx, AuditOutcome.REFUSED, user, asker, origin, now)
        return refusal
    await users.link(tx, asker, user)
    await _record(tx, AuditOutcome.DONE, user, asker, origin, now)
    text = (
        f"{quoting.user(user, name)} is you from now on, and may do what you may. "
        f"If that is not you: {quoting.command('nanohost', 'users', 'unlink', user)}"
    )
    await tell(tx, asker, text, out_id=derive("h", "link", code.hash), now=now)
    said = f"You and {quoting.user(asker)} are one person to me now: what one of you may do, both may."
    if not _is_owner(theirs):
        return said
    if not _is_owner(own):
        text = f"{quoting.user(user, name)} is an owner now, being one person with {quoting.user(asker)}."
        await tell_owners(tx, text, but=[user, asker], cause=code.hash, now=now)
    return f"{said} {await agent_here(tx, stored, now)}"


async def _refusal(
    db: Queries, user: str, own: Sequence[Grant], *, by: str, theirs: Sequence[Grant], now: datetime
) -> str | None:
    """Why the code does not link them, for whoever typed it; None: it does. `theirs`: of who asked for it."""
    if would_gain(theirs, own):
        they = quoting.user(by)
        if would_gain(own, theirs):
            by_hand = quoting.command("nanohost", "users", "link", by, user)
            return (
                f"You may do things here that {they} may not. If that is you, whoever runs me has to say so: {by_hand}"
            )
        return f"You may do more here than {they} may. If that is you: write /link here, and the code there."
    if await _is_kept_away(db, user, theirs, now):
        return "You were refused here: only an owner's code makes you one with them."
    return None


def _is_owner(grants: Sequence[Grant]) -> bool:
    return any(grant.role is Role.OWNER for grant in grants)


async def _is_kept_away(db: Queries, user: str, theirs: Sequence[Grant], now: datetime) -> bool:
    """Whether somebody refused this human for an agent that they could talk to then. An owner may think otherwise."""
    if _is_owner(theirs):
        return False
    for agent in await agent_groups.every(db):
        may = may_talk(theirs, UnknownSender.STRICT, agent.id).allowed
        if may and await refused_by(db, user, agent.id, now) is not None:
            return True
    return False


async def _record(tx: Transaction, outcome: AuditOutcome, user: str, asker: str, origin: str, now: datetime) -> None:
    await audit.record(
        tx, who=user, what="users.link", outcome=outcome, now=now, about=asker, origin=origin, details={"with": user}
    )

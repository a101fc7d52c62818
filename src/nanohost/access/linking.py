"""Links two identities of one person. Only the identity that requested the code may share its roles.

Otherwise an unknown sender could request a code and persuade an owner to type it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nanohost.access.decision import check_access
from nanohost.access.denials import find_refusal
from nanohost.access.first_wiring import ensure_agent_wired
from nanohost.access.notify import notify, notify_owners
from nanohost.db import agent_groups, audit, roles, users
from nanohost.db.audit import AuditOutcome
from nanohost.db.codes import Code
from nanohost.db.database import Queries, Transaction
from nanohost.db.events import StoredEvent
from nanohost.db.roles import RoleGrant
from nanohost.model import Role, UnknownSender
from nanohost.text import quoting
from nanohost.text.translation import _
from nanohost_protocol.ids import derive_id

_ROLE_RANKS = {Role.MEMBER: 0, Role.ADMIN: 1, Role.OWNER: 2}


def would_gain(asker: Sequence[RoleGrant], redeemer: Sequence[RoleGrant]) -> bool:
    """Returns whether the requester of the code would gain permissions by the link. Pure."""
    return not all(any(_covers(mine, theirs) for mine in asker) for theirs in redeemer)


def _covers(one: RoleGrant, other: RoleGrant) -> bool:
    """Returns whether the first grant includes all permissions of the second."""
    in_scope = one.agent_group_id in (None, other.agent_group_id)
    return one.role is Role.OWNER or (in_scope and _ROLE_RANKS[one.role] >= _ROLE_RANKS[other.role])


async def link_identities(tx: Transaction, code: Code, stored: StoredEvent, *, now: datetime) -> str:
    """Links the sender of this event with the requester of the code; returns the reply to the sender.

    Notifies the requester, and all owners if the link creates an owner. Wires an owner's chat to an agent. The caller
    marks the code as used, whatever the result.
    """
    user, name, asker = stored.user_id, stored.event.sender.name, code.user_id
    assert asker is not None, "a code for linking says whom"
    origin = audit.chat_origin(stored.chat)
    if await users.find(tx, asker) is None:
        return _("I do not know any more who asked for that code.")
    if asker in [one.user_id for one in await users.list_identities(tx, user)]:
        return _("You and {other} are linked already.", other=quoting.user(asker))
    theirs, own = await roles.list_for_user(tx, asker), await roles.list_for_user(tx, user)
    refusal = await _link_refusal(tx, user, own, asker=asker, asker_grants=theirs, now=now)
    if refusal is not None:
        await _record(tx, AuditOutcome.REFUSED, user, asker, origin, now)
        return refusal
    await users.link(tx, asker, user)
    await _record(tx, AuditOutcome.DONE, user, asker, origin, now)
    text = _(
        "{other} is linked with you now, and may do what you may. If that is not you: {command}",
        other=quoting.user(user, name),
        command=quoting.command("nanohost", "users", "unlink", user),
    )
    await notify(tx, asker, text, out_id=derive_id("h", "link", code.hash), now=now)
    said = _("You and {other} are linked now: what one of you may do, both may.", other=quoting.user(asker))
    if not _is_owner(theirs):
        return said
    if not _is_owner(own):
        text = _(
            "{user} is an owner now, because they are linked with {other}.",
            user=quoting.user(user, name),
            other=quoting.user(asker),
        )
        await notify_owners(tx, text, exclude=[user, asker], cause=code.hash, now=now)
    return f"{said} {await ensure_agent_wired(tx, stored, now)}"


async def _link_refusal(
    db: Queries, user: str, grants: Sequence[RoleGrant], *, asker: str, asker_grants: Sequence[RoleGrant], now: datetime
) -> str | None:
    """Returns why they cannot be linked, for the sender; None if they can. `asker_grants`: of the code's requester."""
    if would_gain(asker_grants, grants):
        they = quoting.user(asker)
        if would_gain(grants, asker_grants):
            by_hand = quoting.command("nanohost", "users", "link", asker, user)
            return _(
                "You may do things here that {other} may not. If that is you, whoever runs me has to link you:"
                " {command}",
                other=they,
                command=by_hand,
            )
        return _(
            "You may do more here than {other} may. If that is you: write /link here, and the code there.", other=they
        )
    if await _is_refused_elsewhere(db, user, asker_grants, now):
        return _("You were refused here: only an owner's code can link you.")
    return None


def _is_owner(grants: Sequence[RoleGrant]) -> bool:
    return any(grant.role is Role.OWNER for grant in grants)


async def _is_refused_elsewhere(db: Queries, user: str, asker_grants: Sequence[RoleGrant], now: datetime) -> bool:
    """Returns whether a rule denies this person an agent that the link would give them. An owner may link anyway."""
    if _is_owner(asker_grants):
        return False
    for agent in await agent_groups.list_all(db):
        may = check_access(asker_grants, UnknownSender.STRICT, agent.id).is_allowed
        if may and await find_refusal(db, user, agent.id, now) is not None:
            return True
    return False


async def _record(tx: Transaction, outcome: AuditOutcome, user: str, asker: str, origin: str, now: datetime) -> None:
    await audit.record(
        tx,
        actor=user,
        action="users.link",
        outcome=outcome,
        now=now,
        target=asker,
        origin=origin,
        details={"with": user},
    )

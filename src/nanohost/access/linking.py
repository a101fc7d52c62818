"""Two identities of one human. Who asked for the code shares what they may do with who types it, never the reverse.

Else a stranger could ask for a code and talk an owner into typing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from nanohost.access.first_wiring import agent_here
from nanohost.access.naming import called
from nanohost.access.telling import tell
from nanohost.aftermath import Aftermath
from nanohost.model import Role
from nanohost.store import audit, roles, users
from nanohost.store.audit import AuditOutcome
from nanohost.store.codes import Code
from nanohost.store.database import Transaction
from nanohost.store.events import StoredEvent
from nanohost.store.roles import Grant
from nanohost.store.users import user_of
from nanohost_protocol.ids import derive


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
        return f"You may do more here than {called(asker)} may. If that is you: write /link here, and the code there."
    if not await users.link(tx, asker, user):
        return f"You and {called(asker)} are one person to me already."
    await _record(tx, AuditOutcome.DONE, user, asker, origin, now)
    text = (
        f"{called(user, stored.event.sender.name)} is you from now on, and may do what you may. "
        f"If that is not you: `nanohost users unlink {user}`"
    )
    await tell(tx, asker, text, out_id=derive("h", "link", str(code.id)), now=now, aftermath=aftermath)
    said = f"You and {called(asker)} are one person to me now: what one of you may do, both may."
    is_owner = any(grant.role is Role.OWNER for grant in await roles.of_user(tx, user))
    return f"{said} {await agent_here(tx, stored, now)}" if is_owner else said


async def _record(tx: Transaction, outcome: AuditOutcome, user: str, asker: str, origin: str, now: datetime) -> None:
    await audit.record(
        tx, who=user, what="users.link", outcome=outcome, now=now, about=asker, origin=origin, details={"with": user}
    )

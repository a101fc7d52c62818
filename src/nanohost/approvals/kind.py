"""The type of a kind of approval: its name, how long it waits, who decides, and its effect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from nanohost.db import audit
from nanohost.db.approvals import Approval
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Queries, Transaction
from nanohost.db.roles import RoleGrant
from nanohost.model import AgentGroupId, Role
from nanohost.text.translation import translate


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionContext:
    """A decision while it takes effect, in the transaction that claims it. `actor_id`: as the record names them;
    `label`: the option; `reason`: what was said with a denial; `origin`: where they were."""

    tx: Transaction
    approval: Approval
    actor_id: str
    label: str
    reason: str
    origin: str
    now: datetime

    async def record_audit(self, audit_action: str, target: str, **details: object) -> None:
        """Put on record what follows from it."""
        await audit.record(
            self.tx,
            actor=self.actor_id,
            action=audit_action,
            target=target,
            origin=self.origin,
            outcome=AuditOutcome.DONE,
            now=self.now,
            details={"approval": self.approval.id, **details},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryContext:
    """It comes to nothing, and nobody said no: nobody decided in time, nobody could be asked, or it cannot be done.
    `reason`: in a sentence, without a full stop."""

    tx: Transaction
    approval: Approval
    reason: str
    now: datetime


ExpiryHandler = Callable[[ExpiryContext], Awaitable[None]]
"""Ends what waits for it."""


async def _no_unlisted_choice(db: Queries, typed: str) -> str | None:
    del db, typed
    return None


async def _never_obsolete(expiry: ExpiryContext) -> str | None:
    del expiry
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalKind:
    """`is_group_scoped`: admins of the agent group that it is about may decide, too. `max_open`: how many of its kind
    wait at a time. `is_by_unknown_sender`: anybody can bring it about, so only a few cards of such kinds are shown at a
    time.

    `approve` and `deny` return in a sentence its outcome. `approve` raises UsageError, before it changes anything, for
    what cannot be any more; all else it takes from the approval as it is stored. `expire` ends what waits.
    `match_unlisted_choice`: an option that is not on the card, by what is typed for it. `typed_example`: what may be
    typed for a yes, "" where nothing need be. `resolve_obsolete`: lets go on what waits and needs no approval any more,
    by what is so now; in a sentence why there is nothing left to decide, or None while there is. `deciding_group`: the
    agent group whose admins may decide about this one, where it is `is_group_scoped`; None: it is about others, too.
    `option_label`: an option as its button says it; options are kept in English.
    """

    name: str
    lifetime: timedelta
    is_group_scoped: bool
    approve: Callable[[DecisionContext], Awaitable[str]]
    deny: Callable[[DecisionContext], Awaitable[str]]
    expire: ExpiryHandler
    max_open: int | None = None
    is_by_unknown_sender: bool = False
    match_unlisted_choice: Callable[[Queries, str], Awaitable[str | None]] = _no_unlisted_choice
    typed_example: Callable[[Approval], str] = lambda _: ""
    resolve_obsolete: Callable[[ExpiryContext], Awaitable[str | None]] = _never_obsolete
    deciding_group: Callable[[Approval], AgentGroupId | None] = lambda approval: approval.agent_group_id
    option_label: Callable[[str], str] = translate

    def may_decide(self, grants: Sequence[RoleGrant], agent_group: AgentGroupId | None) -> bool:
        """Whether somebody with these grants may: owners, admins, and where it is `scoped` the agent group's admins."""
        return any(self.approver_tier(grant, agent_group) is not None for grant in grants)

    def approver_tier(self, grant: RoleGrant, agent_group: AgentGroupId | None) -> int | None:
        """When somebody with this grant is asked: admins of the agent group 0, of all 1, owners 2. None: never."""
        match grant.role:
            case Role.OWNER:
                return 2
            case Role.ADMIN if grant.agent_group_id is None:
                return 1
            case Role.ADMIN if self.is_group_scoped and grant.agent_group_id == agent_group:
                return 0
            case _:
                return None

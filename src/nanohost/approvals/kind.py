"""Defines the type of approval kinds: name, waiting time, who decides, and the effect."""

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
    """A decision that is being carried out, in the transaction that claims it. `actor_id`: as in the audit log;
    `label`: the option; `reason`: of a denial; `origin`: where it was made."""

    tx: Transaction
    approval: Approval
    actor_id: str
    label: str
    reason: str
    origin: str
    now: datetime

    async def record_audit(self, audit_action: str, target: str, **details: object) -> None:
        """Adds an audit entry for an effect of the decision."""
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
    """An approval that ends without a denial: nobody decided in time, nobody could be asked, or it is not possible.
    `reason`: a sentence without a full stop."""

    tx: Transaction
    approval: Approval
    reason: str
    now: datetime


ExpiryHandler = Callable[[ExpiryContext], Awaitable[None]]
"""Ends what waits for the approval."""


async def _no_unlisted_choice(db: Queries, typed: str) -> str | None:
    del db, typed
    return None


async def _never_obsolete(expiry: ExpiryContext) -> str | None:
    del expiry
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalKind:
    """A kind of approval.

    `is_group_scoped`: admins of its agent group may decide, too. `max_open`: how many of its kind may be open at a
    time. `is_by_unknown_sender`: anybody can cause it, so only a few cards of such kinds are shown at a time.

    `approve` and `deny` return the outcome in a sentence. `approve` raises UsageError, before it changes anything, if
    the effect is not possible any more; it uses the approval as stored. `expire` ends what waits.
    `match_unlisted_choice`: returns the option that is not on the card, by the typed text. `typed_example`: an example
    of text that approves, "" if none is needed. `resolve_obsolete`: releases what needs no approval any more; returns
    why there is nothing left to decide, or None while there is. `deciding_group`: the agent group whose
    admins may decide, if `is_group_scoped`; None if it affects other groups, too.
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
        """Returns whether these grants permit a decision: owner, admin, and if `is_group_scoped` the group's admin."""
        return any(self.approver_tier(grant, agent_group) is not None for grant in grants)

    def approver_tier(self, grant: RoleGrant, agent_group: AgentGroupId | None) -> int | None:
        """Returns the order of asking: admins of the agent group 0, global admins 1, owners 2. None: never asked."""
        match grant.role:
            case Role.OWNER:
                return 2
            case Role.ADMIN if grant.agent_group_id is None:
                return 1
            case Role.ADMIN if self.is_group_scoped and grant.agent_group_id == agent_group:
                return 0
            case _:
                return None

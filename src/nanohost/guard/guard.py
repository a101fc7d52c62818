"""The one place that is asked before anything is done that an agent asks for.

Promises: it answers inside the transaction of the effect, by what is true in it; what came of a request is put into the
audit log in the transaction that does it, holds it, or turns it down. It never carries anything out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from nanohost.guard.ruling import GuardDecision, GuardFacts, Permission, decide
from nanohost.model import AgentGroupId
from nanohost.store import audit, rules
from nanohost.store.actions import ActionRow
from nanohost.store.audit import AuditOutcome
from nanohost.store.database import Queries, Transaction

GuardPolicy = Mapping[str, Permission]
"""What the operator set, by the action's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """`policy` holds while the host runs."""

    policy: GuardPolicy = field(default_factory=dict)

    async def check(
        self,
        db: Queries,
        *,
        action: str,
        default: Permission,
        scope: str,
        agent_group: AgentGroupId,
        is_approved: bool,
        now: datetime,
    ) -> GuardDecision:
        """May an agent of this group do this? `scope`: what of it a rule would be about."""
        rule = await rules.find_applicable(db, kind=action, subject=scope, agent_group=agent_group, now=now)
        facts = GuardFacts(
            action=action, default=default, policy=self.policy.get(action), rule=rule, is_approved=is_approved
        )
        return decide(facts)


async def record_outcome(
    tx: Transaction, action: ActionRow, outcome: AuditOutcome, *, reason: str, now: datetime, rule: int | None = None
) -> None:
    """Put what came of a request on record: who asked for what, where, and why it came so."""
    origin = action.origin
    await audit.record(
        tx,
        actor=audit.agent_actor(action.session_id),
        action=action.name,
        target=action.approval_id or "",
        origin=audit.chat_origin(origin),
        outcome=outcome,
        now=now,
        details={
            "request": action.out_id,
            "arguments": action.arguments,
            "reason": reason,
            **({} if rule is None else {"rule": rule}),
        },
    )

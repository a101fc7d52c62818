"""Decides whether a request of an agent is allowed, held for an approval, or denied, before anything is done.

Promises: it answers inside the transaction of the effect, by what is true in it; what came of a request is put into the
audit log in the transaction that does it, holds it, or turns it down. It never carries anything out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from nanohost.db import audit, rules
from nanohost.db.actions import ActionRow
from nanohost.db.audit import AuditOutcome
from nanohost.db.database import Queries, Transaction
from nanohost.db.rules import Rule, RuleEffect
from nanohost.model import AgentGroupId


class Permission(StrEnum):
    ALLOW = "allow"
    HOLD = "hold"
    """A person is asked first."""
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardFacts:
    """What is to be known of a request. `default`: what the action says of itself; `policy`: what the operator set for
    it, if anything; `rule`: the live rule that is closest to it; `is_approved`: a person approved this very request,
    and that is checked."""

    action: str
    default: Permission
    policy: Permission | None
    rule: Rule | None
    is_approved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardDecision:
    """`reason`: in a sentence without its full stop, for the agent and the record. `rule`: the one that decided."""

    permission: Permission
    reason: str
    rule: Rule | None = None


def decide(facts: GuardFacts) -> GuardDecision:
    """The operator's no comes first, then a rule's no; both also against an approval, for they may be younger. What
    needs an approval has it from an approval or a rule, and from nothing that an agent could do itself."""
    if facts.policy is Permission.DENY:
        return GuardDecision(permission=Permission.DENY, reason=f"the operator allows no agent to use {facts.action}")
    if facts.rule is not None and facts.rule.effect is RuleEffect.DENY:
        reason = f"a person refused it on {facts.rule.created_at:%Y-%m-%d}, and that holds"
        return GuardDecision(permission=Permission.DENY, reason=reason, rule=facts.rule)
    asks = facts.policy or facts.default
    if asks is Permission.DENY:
        return GuardDecision(permission=Permission.DENY, reason=f"{facts.action} is not for agents here")
    if facts.is_approved:
        return GuardDecision(permission=Permission.ALLOW, reason="a person approved it")
    if asks is Permission.ALLOW:
        return GuardDecision(permission=Permission.ALLOW, reason="nobody needs to be asked")
    if facts.rule is not None:
        return GuardDecision(permission=Permission.ALLOW, reason="a person approved it for a while", rule=facts.rule)
    return GuardDecision(permission=Permission.HOLD, reason="a person has to approve it")


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

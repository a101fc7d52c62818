"""Decides whether a request of an agent is allowed, held for an approval, or denied, before anything is done.

Promises: decides inside the transaction of the effect, from what that reads. The outcome of a request is added to the
audit log in the transaction that carries it out, holds it or refuses it. Never: carries anything out.
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
    """A person has to approve it first."""
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardFacts:
    """The facts of a request. `default`: the action's own permission. `policy`: the operator's setting for it, if any.
    `rule`: the most specific live rule for it. `is_approved`: a person approved this request, which has been verified.
    """

    action: str
    default: Permission
    policy: Permission | None
    rule: Rule | None
    is_approved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardDecision:
    """The guard's decision. `reason`: a sentence without its full stop, for the agent and the audit log. `rule`: the
    rule that decided, if one did."""

    permission: Permission
    reason: str
    rule: Rule | None = None


def decide(facts: GuardFacts) -> GuardDecision:
    """Decide about a request. Denials come first, the operator's and then a rule's; they also override an approval,
    since they may be newer. A request that needs an approval is only allowed by a person's approval or a rule."""
    if facts.policy is Permission.DENY:
        return GuardDecision(permission=Permission.DENY, reason=f"the operator allows no agent to use {facts.action}")
    if facts.rule is not None and facts.rule.effect is RuleEffect.DENY:
        reason = f"a person refused it on {facts.rule.created_at:%Y-%m-%d}, and that holds"
        return GuardDecision(permission=Permission.DENY, reason=reason, rule=facts.rule)
    permission = facts.policy or facts.default
    if permission is Permission.DENY:
        return GuardDecision(permission=Permission.DENY, reason=f"{facts.action} is not for agents here")
    if facts.is_approved:
        return GuardDecision(permission=Permission.ALLOW, reason="a person approved it")
    if permission is Permission.ALLOW:
        return GuardDecision(permission=Permission.ALLOW, reason="nobody needs to be asked")
    if facts.rule is not None:
        return GuardDecision(permission=Permission.ALLOW, reason="a person approved it for a while", rule=facts.rule)
    return GuardDecision(permission=Permission.HOLD, reason="a person has to approve it")


GuardPolicy = Mapping[str, Permission]
"""The operator's settings, by the action's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Checks requests by the operator's `policy`, which does not change while the host runs, and by rules."""

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
        """Decide whether an agent of this group may do this. `scope`: the subject that a rule for it would have."""
        rule = await rules.find_applicable(db, kind=action, subject=scope, agent_group=agent_group, now=now)
        facts = GuardFacts(
            action=action, default=default, policy=self.policy.get(action), rule=rule, is_approved=is_approved
        )
        return decide(facts)


async def record_outcome(
    tx: Transaction, action: ActionRow, outcome: AuditOutcome, *, reason: str, now: datetime, rule: int | None = None
) -> None:
    """Add a request's outcome to the audit log: who requested what, where, and the reason."""
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

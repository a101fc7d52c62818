"""May an agent have what it asks for? One pure function: facts in, allowed, held or denied out, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nanohost.store.rules import Rule, RuleEffect


class Permission(StrEnum):
    ALLOW = "allow"
    HOLD = "hold"
    """A person is asked first."""
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardFacts:
    """What is to be known of a request. `default`: what the action says of itself; `policy`: what the operator set for
    it, if anything; `rule`: the live rule that is closest to it; `is_approved`: a person said yes to this very request,
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
    needs a yes has it from an approval or a rule, and from nothing that an agent could do itself."""
    if facts.policy is Permission.DENY:
        return GuardDecision(permission=Permission.DENY, reason=f"the operator allows no agent to use {facts.action}")
    if facts.rule is not None and facts.rule.effect is RuleEffect.DENY:
        reason = f"a person refused it on {facts.rule.created_at:%Y-%m-%d}, and that holds"
        return GuardDecision(permission=Permission.DENY, reason=reason, rule=facts.rule)
    asks = facts.policy or facts.default
    if asks is Permission.DENY:
        return GuardDecision(permission=Permission.DENY, reason=f"{facts.action} is not for agents here")
    if facts.is_approved:
        return GuardDecision(permission=Permission.ALLOW, reason="a person said yes")
    if asks is Permission.ALLOW:
        return GuardDecision(permission=Permission.ALLOW, reason="nobody needs to be asked")
    if facts.rule is not None:
        return GuardDecision(permission=Permission.ALLOW, reason="a person said yes for a while", rule=facts.rule)
    return GuardDecision(permission=Permission.HOLD, reason="a person has to say yes")

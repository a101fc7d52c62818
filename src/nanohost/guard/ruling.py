"""May an agent have what it asks for? One pure function: facts in, allowed, held or denied out, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nanohost.store.rules import Rule, RuleEffect


class Ruling(StrEnum):
    ALLOW = "allow"
    HOLD = "hold"
    """A person is asked first."""
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is to be known of a request. `usual`: what the action says of itself; `policy`: what the operator set for
    it, if anything; `rule`: the live rule that is closest to it; `approved`: a person said yes to this very request,
    and that is checked."""

    action: str
    usual: Ruling
    policy: Ruling | None
    rule: Rule | None
    approved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`reason`: in a sentence without its full stop, for the agent and the record. `rule`: the one that decided."""

    ruling: Ruling
    reason: str
    rule: Rule | None = None


def decide(facts: Facts) -> Decision:
    """The operator's no comes first, then a rule's no; both also against an approval, for they may be younger. What
    needs a yes has it from an approval or a rule, and from nothing that an agent could do itself."""
    if facts.policy is Ruling.DENY:
        return Decision(ruling=Ruling.DENY, reason=f"the operator allows no agent to use {facts.action}")
    if facts.rule is not None and facts.rule.effect is RuleEffect.DENY:
        reason = f"a person refused it on {facts.rule.created_at:%Y-%m-%d}, and that holds"
        return Decision(ruling=Ruling.DENY, reason=reason, rule=facts.rule)
    asks = facts.policy or facts.usual
    if asks is Ruling.DENY:
        return Decision(ruling=Ruling.DENY, reason=f"{facts.action} is not for agents here")
    if facts.approved:
        return Decision(ruling=Ruling.ALLOW, reason="a person said yes")
    if asks is Ruling.ALLOW:
        return Decision(ruling=Ruling.ALLOW, reason="nobody needs to be asked")
    if facts.rule is not None:
        return Decision(ruling=Ruling.ALLOW, reason="a person said yes for a while", rule=facts.rule)
    return Decision(ruling=Ruling.HOLD, reason="a person has to say yes")

"""The guard's decision for every combination of facts."""

from __future__ import annotations

from itertools import product

import pytest

from nanohost.db.rules import Rule, RuleEffect
from nanohost.guard.guard import GuardFacts, Permission, decide
from nanohost.model import AgentGroupId
from nanohost.testing.manual_clock import START

ALLOW, HOLD, DENY = Permission.ALLOW, Permission.HOLD, Permission.DENY
ANY = "*"

# policy, rule, default, approved: the first row that fits decides.
TABLE = (
    (DENY, ANY, ANY, ANY, DENY),
    (ANY, "deny", ANY, ANY, DENY),
    (None, ANY, DENY, ANY, DENY),
    (ALLOW, ANY, ANY, ANY, ALLOW),
    (ANY, ANY, ANY, True, ALLOW),
    (None, ANY, ALLOW, ANY, ALLOW),
    (ANY, "allow", ANY, ANY, ALLOW),
    (ANY, ANY, ANY, ANY, HOLD),
)
COMBINATIONS = list(product((None, *Permission), (None, "allow", "deny"), Permission, (False, True)))


def rule(effect: str | None) -> Rule | None:
    if effect is None:
        return None
    return Rule(
        id=1,
        kind="tasks.create",
        effect=RuleEffect(effect),
        agent_group_id=AgentGroupId(1),
        subject=None,
        created_by="fake:owner",
        created_at=START,
        expires_at=None,
        uses=0,
        last_used_at=None,
        ended_at=None,
        ended_by=None,
    )


def row_for(case: tuple[object, ...]) -> int:
    return next(
        at
        for at, row in enumerate(TABLE)
        if all(wanted in (ANY, given) for wanted, given in zip(row, case, strict=False))
    )


@pytest.mark.behaviour("AP-05")
@pytest.mark.parametrize(("policy", "effect", "usual", "approved"), COMBINATIONS)
def test_a_request_is_decided_as_the_table_says(
    policy: Permission | None, effect: str | None, usual: Permission, approved: bool
) -> None:
    facts = GuardFacts(action="tasks.create", default=usual, policy=policy, rule=rule(effect), is_approved=approved)
    decision = decide(facts)
    assert decision.permission is TABLE[row_for((policy, effect, usual, approved))][-1]
    assert decision.reason


def test_every_row_of_the_table_applies_somewhere() -> None:
    assert {row_for(case) for case in COMBINATIONS} == set(range(len(TABLE)))


def test_only_the_deciding_rule_is_counted_as_used() -> None:
    spared = GuardFacts(action="a", default=HOLD, policy=None, rule=rule("allow"), is_approved=False)
    free = GuardFacts(action="a", default=ALLOW, policy=None, rule=rule("allow"), is_approved=False)
    refused = GuardFacts(action="a", default=ALLOW, policy=None, rule=rule("deny"), is_approved=False)
    assert (decide(spared).rule, decide(free).rule, decide(refused).rule) == (rule("allow"), None, rule("deny"))

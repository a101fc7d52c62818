"""Which of several rules decides: the most specific one, and of two equally specific ones the denial."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nanohost.db import agent_groups, rules
from nanohost.db.database import Store, Transaction
from nanohost.db.rules import RuleEffect
from nanohost.model import AgentGroupId

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ALLOW, DENY = RuleEffect.ALLOW, RuleEffect.DENY


async def _applies(store: Store, *made: tuple[RuleEffect, bool, bool]) -> RuleEffect | None:
    """The effect of these rules, made in this order: (effect, of this agent only, of this subject only)."""
    async with store.transaction() as tx:
        group = await agent_groups.add(tx, folder="a", name="a", provider=None, model=None, now=NOON)
        for effect, of_group, of_subject in made:
            await _add(tx, effect, group.id if of_group else None, "x" if of_subject else None)
    found = await rules.find_applicable(store, kind="k", subject="x", agent_group=group.id, now=NOON)
    return None if found is None else found.effect


async def _add(tx: Transaction, effect: RuleEffect, group: AgentGroupId | None, subject: str | None) -> None:
    await rules.add(
        tx, kind="k", effect=effect, agent_group=group, subject=subject, created_by="test", expires_at=None, now=NOON
    )


@pytest.mark.parametrize(
    ("made", "effect"),
    [
        ([(ALLOW, True, True), (DENY, True, True)], DENY),
        ([(DENY, True, True), (ALLOW, True, True)], DENY),
        ([(ALLOW, False, False), (DENY, False, False)], DENY),
        ([(DENY, True, False), (ALLOW, True, True)], ALLOW),
        ([(DENY, False, True), (ALLOW, True, True)], ALLOW),
        ([(ALLOW, True, False), (DENY, False, True)], DENY),
        ([], None),
    ],
)
async def test_the_closest_rule_decides_and_a_denial_comes_before_an_approval(
    store: Store, made: list[tuple[RuleEffect, bool, bool]], effect: RuleEffect | None
) -> None:
    assert await _applies(store, *made) is effect


async def test_a_rule_applies_to_its_kind_agent_and_subject_until_it_ends(store: Store) -> None:
    async with store.transaction() as tx:
        one, other = [
            await agent_groups.add(tx, folder=name, name=name, provider=None, model=None, now=NOON) for name in "ab"
        ]
        soon = NOON + timedelta(hours=1)
        rule = await rules.add(
            tx, kind="k", effect=ALLOW, agent_group=one.id, subject="x", created_by="t", expires_at=soon, now=NOON
        )

    async def applies(kind: str = "k", group: AgentGroupId = one.id, subject: str = "x", now: datetime = NOON) -> bool:
        found = await rules.find_applicable(store, kind=kind, subject=subject, agent_group=group, now=now)
        return found is not None

    assert await applies()
    assert not await applies(kind="l")
    assert not await applies(group=other.id)
    assert not await applies(subject="y")
    assert not await applies(now=soon)
    async with store.transaction() as tx:
        await rules.end(tx, rule.id, ended_by="t", now=NOON)
    assert not await applies()

"""Whom somebody with a say refused, by whatever identity they come."""

from __future__ import annotations

import pytest

from nanohost.access.refusals import refused_by
from nanohost.approvals.kinds import sender
from nanohost.store import agent_groups, rules, users
from nanohost.store.rules import RuleEffect
from tests.access.hall import Hall

EVE, EVE_ON_SLACK = "telegram:eve", "slack:eve"


async def is_refused(hall: Hall, user: str) -> bool:
    agent = await agent_groups.find(hall.store, "main")
    assert agent is not None
    return await refused_by(hall.store, user, agent.id, hall.clock.now()) is not None


@pytest.mark.behaviour("AP-10")
async def test_a_refusal_counts_for_somebody_who_was_never_seen(hall: Hall) -> None:
    await hall.group("main")
    await hall.operator("rules create", kind=sender.NAME, effect="deny", subject=EVE, group="main")
    assert await users.find(hall.store, EVE) is None
    assert (await is_refused(hall, EVE), await is_refused(hall, EVE_ON_SLACK)) == (True, False)


@pytest.mark.behaviour("AP-10")
async def test_a_rule_that_allows_is_no_refusal(hall: Hall) -> None:
    await hall.group("main")
    async with hall.store.transaction() as tx:
        await rules.add(
            tx,
            kind=sender.NAME,
            effect=RuleEffect.ALLOW,
            agent_group=None,
            subject=EVE,
            created_by="local:test",
            expires_at=None,
            now=hall.clock.now(),
        )
    assert not await is_refused(hall, EVE)

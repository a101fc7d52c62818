"""People who were denied, under any of their identities."""

from __future__ import annotations

import pytest

from nanohost.access.denials import find_refusal
from nanohost.approvals.kinds import sender
from nanohost.db import agent_groups, rules, users
from nanohost.db.rules import RuleEffect
from tests.access.harness import AccessTestHost

EVE, EVE_ON_SLACK = "telegram:eve", "slack:eve"


async def is_refused(hall: AccessTestHost, user: str) -> bool:
    agent = await agent_groups.find(hall.store, "main")
    assert agent is not None
    return await find_refusal(hall.store, user, agent.id, hall.clock.now()) is not None


@pytest.mark.behaviour("AP-10")
async def test_a_denial_rule_applies_to_somebody_never_seen(host: AccessTestHost) -> None:
    await host.make_group("main")
    await host.run_command("rules create", kind=sender.KIND_NAME, effect="deny", subject=EVE, group="main")
    assert await users.find(host.store, EVE) is None
    assert (await is_refused(host, EVE), await is_refused(host, EVE_ON_SLACK)) == (True, False)


@pytest.mark.behaviour("AP-10")
async def test_an_allow_rule_is_not_a_denial(host: AccessTestHost) -> None:
    await host.make_group("main")
    async with host.store.transaction() as tx:
        await rules.add(
            tx,
            kind=sender.KIND_NAME,
            effect=RuleEffect.ALLOW,
            agent_group=None,
            subject=EVE,
            created_by="local:test",
            expires_at=None,
            now=host.clock.now(),
        )
    assert not await is_refused(host, EVE)

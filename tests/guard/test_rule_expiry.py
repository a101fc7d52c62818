"""Expired rules end on record, and their makers are notified once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from nanohost.db import agent_groups, audit, rules, users
from nanohost.db.database import Store, open_store
from nanohost.db.domain_events import QueueHasWork
from nanohost.db.rules import Rule, RuleEffect
from nanohost.guard.rule_expiry import RuleExpirer, expiry_text
from nanohost.model import AgentGroup
from nanohost.testing.manual_clock import START, ManualClock
from nanohost_protocol.payloads import ChatOut, decode_out
from nanohost_protocol.rows import Origin, OutKind
from tests.support.template_home import make_database

DAY_S = 86_400.0
DM = Origin(channel_type="fake", instance="default", platform_id="dm-of-owner")


@dataclass(kw_only=True)
class Register:
    """Rules, their maker, and the recorded notices."""

    store: Store
    clock: ManualClock
    group: AgentGroup
    poked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store.bus.subscribe(QueueHasWork, lambda event: self.poked.append(event.queue.platform_id))

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """The service runs while entered."""
        service = asyncio.create_task(RuleExpirer(store=self.store, clock=self.clock).run())
        await self.clock.wait_for_sleeper()
        try:
            yield
        finally:
            service.cancel()
            with suppress(asyncio.CancelledError):
                await service

    async def pass_days(self, days: int) -> None:
        """Advance hour by hour, as the service checks."""
        for _ in range(days * 24):
            await self.clock.advance(3600)
            await self.clock.wait_for_sleeper()

    async def rule(self, *, days: int | None, subject: str | None = None, by: str = "fake:owner") -> Rule:
        now = self.clock.now()
        async with self.store.transaction() as tx:
            return await rules.add(
                tx,
                kind="tasks.create",
                effect=RuleEffect.ALLOW,
                agent_group=self.group.id,
                subject=subject,
                created_by=by,
                expires_at=None if days is None else now + timedelta(days=days),
                now=now,
            )

    async def said(self) -> list[str]:
        rows = await self.store.fetch_all("SELECT content FROM deliveries WHERE session_id = 'host' ORDER BY seq")
        payloads = [decode_out(OutKind.CHAT, row["content"]) for row in rows]
        return [payload.text for payload in payloads if isinstance(payload, ChatOut)]


@pytest.fixture
async def register(tmp_path: Path) -> AsyncIterator[Register]:
    database = tmp_path / "nanohost.db"
    make_database(database)
    async with open_store(database, durable=False) as store:
        async with store.transaction() as tx:
            group = await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=START)
            await users.record_seen(tx, "fake:owner", name="Olga", now=START)
            await users.save_dm(tx, "fake:owner", DM, START)
        yield Register(store=store, clock=ManualClock(), group=group)


@pytest.mark.behaviour("AP-05")
async def test_a_thirty_day_rule_ends_with_a_notice_to_its_maker(
    register: Register,
) -> None:
    unused, used = await register.rule(days=30), await register.rule(days=30, subject="any`\n**bold**")
    lasting = await register.rule(days=None)
    async with register.kept():
        await register.pass_days(10)
        async with register.store.transaction() as tx:
            await rules.record_use(tx, used, register.clock.now())
        await register.pass_days(19)
        assert await register.said() == []
        await register.pass_days(2)
        said = await register.said()
        await register.pass_days(60)
    assert said == [
        "Your permission of 2026-01-01 (tasks.create, for main) has ended: nobody used it. You will be asked again.\n"
        "Your permission of 2026-01-01 (tasks.create, `any' **bold**`, for main) has ended: it was used once, on"
        " 2026-01-11. You will be asked again."
    ]
    assert (await register.said(), register.poked) == (said, ["dm-of-owner"])
    assert [rule.id for rule in await rules.list_all(register.store.reports, limit=10)] == [lasting.id]
    ended = await rules.find(register.store, unused.id)
    assert ended is not None
    assert (ended.ended_by, ended.ended_at) == ("host", START + timedelta(days=30))
    kept = await audit.latest(register.store.reports, limit=10, action="rules.end")
    assert {(one.actor, one.target) for one in kept} == {("host", str(unused.id)), ("host", str(used.id))}


async def test_a_rule_decides_nothing_from_its_end_on_even_before_the_end_is_recorded(register: Register) -> None:
    await register.rule(days=1)

    async def applies() -> bool:
        now, group = register.clock.now(), register.group.id
        found = await rules.find_applicable(
            register.store, kind="tasks.create", subject="x", agent_group=group, now=now
        )
        return found is not None

    assert await applies()
    await register.clock.advance(DAY_S)
    assert not await applies()


async def test_a_rule_by_the_command_line_or_an_unreachable_user_ends_without_a_notice(
    register: Register,
) -> None:
    await register.rule(days=1, by="local:root")
    await register.rule(days=1, by="fake:gone")
    async with register.kept():
        await register.pass_days(2)
    assert await register.said() == []
    assert await rules.list_all(register.store.reports, limit=10) == []


async def test_rules_that_end_together_make_one_notice(register: Register) -> None:
    for number in range(30):
        await register.rule(days=1, subject=str(number))
    async with register.kept():
        await register.pass_days(2)
    [said] = await register.said()
    assert said.endswith("and 10 more: nanohost rules list --ended")


async def test_the_notice_of_an_ended_denial_rule_calls_it_a_refusal(register: Register) -> None:
    rule = await register.rule(days=1)
    refusal = Rule(**{name: getattr(rule, name) for name in Rule.__slots__} | {"effect": RuleEffect.DENY})
    assert expiry_text(refusal, None).startswith("Your refusal of 2026-01-01 (tasks.create, for all agents)")

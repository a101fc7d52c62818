"""Retention is invisible: repeated events are still recognised, and a starting host finds nothing to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nanohost.maintenance.retention import Retention
from nanohost.testing.manual_clock import ManualClock
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import RunningHost
from tests.support.invariants import assert_clean

pytestmark = pytest.mark.behaviour("OP-02")


async def run_retention(flow: RunningHost, *, days: int) -> None:
    """Run retention as a host that keeps one day, so many days from now."""
    later = ManualClock(datetime.now(UTC) + timedelta(days=days))
    host = flow.host
    await Retention(store=host.store, mailboxes=host.mailboxes, clock=later, keep_days=1).run_once()


async def rows(flow: RunningHost, table: str) -> int:
    found = await flow.host.store.fetch_one(f"SELECT count(*) AS n FROM {table}")
    assert found is not None
    return int(found["n"])


async def test_an_event_repeated_after_retention_and_a_restart_changes_nothing(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        for number in range(4):
            await host_env_with_events.fake.person_writes(f"text {number}", message_id=f"p{number}")
        await host_env_with_events.fake.wait_for_sent(4)
        await assert_clean(flow)
        await run_retention(flow, days=29)
        assert await rows(flow, "deliveries") == 0
    async with host_env_with_events.run_host() as flow:
        for number in range(4):
            again = await host_env_with_events.fake.person_writes(f"text {number}", message_id=f"p{number}")
            assert not again.new
        await host_env_with_events.fake.person_writes("one more")
        await host_env_with_events.fake.wait_for_sent(5)
    assert [sent.text for sent in host_env_with_events.fake.sent][-1] == "echo: one more"
    assert len(host_env_with_events.fake.sent) == 5


async def test_a_conversation_continues_after_retention_deleted_all_of_it(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("one")
        await host_env_with_events.fake.person_writes("two")
        await host_env_with_events.fake.wait_for_sent(2)
        await assert_clean(flow)
        await run_retention(flow, days=60)
        assert await rows(flow, "inbound_events") == 1
        await host_env_with_events.fake.person_writes("three")
        await host_env_with_events.fake.wait_for_sent(3)
    assert host_env_with_events.fake.sent[-1].text == "echo: three"

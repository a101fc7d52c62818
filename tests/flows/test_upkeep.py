"""After upkeep nobody notices: what is delivered again is still known, and a host that starts finds nothing to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from nanohost.testing.manual_clock import ManualClock
from nanohost.upkeep.upkeep import Upkeep
from tests.flows.stage import Stage
from tests.support.flow import Flow
from tests.support.invariants import assert_clean

pytestmark = pytest.mark.behaviour("OP-02")


async def tidied(flow: Flow, *, days: int) -> None:
    """What upkeep of a host that keeps one day does so many days from now."""
    later = ManualClock(datetime.now(UTC) + timedelta(days=days))
    host = flow.host
    await Upkeep(store=host.store, mailboxes=host.mailboxes, clock=later, keep_days=1).tidy()


async def rows(flow: Flow, table: str) -> int:
    found = await flow.host.store.one(f"SELECT count(*) AS n FROM {table}")
    assert found is not None
    return int(found["n"])


async def test_what_is_delivered_again_after_upkeep_and_a_restart_changes_nothing(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire()
        for number in range(4):
            await watched.fake.person_writes(f"text {number}", message_id=f"p{number}")
        await watched.fake.wait_for(4)
        await assert_clean(flow)
        await tidied(flow, days=29)
        assert await rows(flow, "deliveries") == 0
    async with watched.host() as flow:
        for number in range(4):
            again = await watched.fake.person_writes(f"text {number}", message_id=f"p{number}")
            assert not again.new
        await watched.fake.person_writes("one more")
        await watched.fake.wait_for(5)
    assert [sent.text for sent in watched.fake.sent][-1] == "echo: one more"
    assert len(watched.fake.sent) == 5


async def test_a_conversation_goes_on_after_all_of_it_was_forgotten(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire()
        await watched.fake.person_writes("one")
        await watched.fake.person_writes("two")
        await watched.fake.wait_for(2)
        await assert_clean(flow)
        await tidied(flow, days=60)
        assert await rows(flow, "inbound_events") == 1
        await watched.fake.person_writes("three")
        await watched.fake.wait_for(3)
    assert watched.fake.sent[-1].text == "echo: three"

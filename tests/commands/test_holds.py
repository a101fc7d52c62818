"""Holding and releasing sessions and agents: recorded, and emitted as events for the running host."""

from __future__ import annotations

import pytest

from nanohost.containers.notices import Notice, notice_delivery
from nanohost.db import agent_groups, audit, deliveries, holds, sessions
from nanohost.db.domain_events import HoldChanged
from nanohost.db.notice_numbers import FAILED_NOTICE, ON_HOLD_NOTICE
from nanohost.errors import UsageError
from nanohost.model import SessionId
from nanohost_protocol.rows import Origin
from tests.commands.conftest import Operator
from tests.support.recorded_events import record_events
from tests.support.rows import make_pending_message


async def make_sessions(operator: Operator) -> list[SessionId]:
    """Two of one agent group, one of another."""
    store, now = operator.context.store, operator.context.clock.now()
    found = []
    async with store.transaction() as tx:
        for folder, threads in (("main", ("t1", "t2")), ("work", ("t1",))):
            group = await agent_groups.add(tx, folder=folder, name=folder, provider=None, model=None, now=now)
            found += [
                await sessions.add(tx, agent_group=group.id, messaging_group=None, thread_id=thread, now=now)
                for thread in threads
            ]
    return found


async def test_a_hold_and_a_release_are_recorded_once_and_emit_an_event(operator: Operator) -> None:
    session, other, _ = await make_sessions(operator)
    at = operator
    changed = record_events(at.context.store.bus, HoldChanged, lambda event: event.session)
    await at.run("sessions hold", id=session, reason="too loud")
    hold = await holds.find(at.context.store, session)
    assert hold is not None
    assert (hold.created_by, hold.reason) == (at.context.who, "too loud")
    assert await holds.find(at.context.store, other) is None
    with pytest.raises(UsageError, match="held already"):
        await at.run("sessions hold", id=session)
    await at.run("sessions release", id=session)
    assert await holds.find(at.context.store, session) is None
    with pytest.raises(UsageError, match="is not held"):
        await at.run("sessions release", id=session)
    assert changed == [session, session]
    recorded = [one.action for one in await audit.latest(at.context.store.reports, limit=10)]
    assert recorded == ["sessions.release", "sessions.hold"]


async def test_a_hold_of_an_agent_group_covers_its_present_and_future_sessions(operator: Operator) -> None:
    first, second, other = await make_sessions(operator)
    store = operator.context.store
    told = await operator.run("agents hold", folder="main")
    assert "nanohost agents release main" in str(told)
    assert [await holds.find(store, one) is not None for one in (first, second, other)] == [True, True, False]
    with pytest.raises(UsageError, match="held with its agent group only"):
        await operator.run("sessions release", id=first)
    await operator.run("sessions hold", id=second)
    held = await holds.find(store, second)
    assert held is not None
    assert held.reason == "no reason given"
    await operator.run("agents release", folder="main")
    assert [await holds.find(store, one) is not None for one in (first, second, other)] == [False, True, False]


async def enqueue_notice(operator: Operator, session: SessionId, number: int) -> None:
    """Enqueue a notice about a message that was not sent yet."""
    now, found = operator.context.clock.now(), await sessions.get(operator.context.store, session)
    origin = Origin(channel_type="terminal", instance="default", platform_id="local", platform_message_id="1")
    message = make_pending_message(now, origin=origin)
    async with operator.context.store.transaction() as tx:
        await deliveries.add(tx, notice_delivery(found, Notice(message=message, number=number, text="said"), now))


async def waiting_notices(operator: Operator, session: SessionId) -> list[str]:
    lane = deliveries.DeliveryQueueKey(session, "terminal", "default", "local")
    return [one.status for one in await deliveries.list_waiting(operator.context.store, lane)]


async def test_a_release_drops_pending_notices_of_the_hold(operator: Operator) -> None:
    session, other, _ = await make_sessions(operator)
    for one in (session, other):
        await operator.run("sessions hold", id=one)
        await enqueue_notice(operator, one, ON_HOLD_NOTICE)
    await enqueue_notice(operator, session, FAILED_NOTICE)
    await operator.run("sessions release", id=session)
    left = (len(await waiting_notices(operator, session)), len(await waiting_notices(operator, other)))
    assert left == (1, 1), "what else is said stays"


async def test_a_held_session_of_a_held_agent_group_keeps_its_notice_until_the_group_is_released(
    operator: Operator,
) -> None:
    session, other, _ = await make_sessions(operator)
    await operator.run("agents hold", folder="main")
    await operator.run("sessions hold", id=session)
    async with operator.context.store.transaction() as tx:
        for one in (session, other):
            await sessions.make_due(tx, one, at=operator.context.clock.now(), now=operator.context.clock.now())
    for one in (session, other):
        await enqueue_notice(operator, one, ON_HOLD_NOTICE)
    await operator.run("sessions release", id=session)
    assert len(await waiting_notices(operator, session)) == 1
    await operator.run("sessions hold", id=session)
    await operator.run("agents release", folder="main")
    assert (len(await waiting_notices(operator, session)), len(await waiting_notices(operator, other))) == (1, 0)

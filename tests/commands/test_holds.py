"""What an operator puts on hold and lets go on, on record and told to the host that runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nanohost.aftermath import Aftermath
from nanohost.errors import UsageError
from nanohost.model import SessionId
from nanohost.store import agent_groups, audit, holds, sessions
from tests.commands.conftest import Operator


class Listening:
    """A host that runs: remembers whom it was told to look at."""

    def __init__(self) -> None:
        self.held: list[SessionId] = []

    def follow(self, aftermath: Aftermath) -> None:
        self.held += aftermath.held


async def some_sessions(operator: Operator) -> list[SessionId]:
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


async def test_a_session_is_held_and_released_once_on_record_and_the_host_looks(operator: Operator) -> None:
    session, other, _ = await some_sessions(operator)
    live = Listening()
    at = Operator(replace(operator.context, live=live))  # type: ignore[arg-type]
    await at.asks("sessions hold", id=session, reason="too loud")
    hold = await holds.find(at.context.store, session)
    assert hold is not None
    assert (hold.by, hold.reason) == (at.context.who, "too loud")
    assert await holds.find(at.context.store, other) is None
    with pytest.raises(UsageError, match="held already"):
        await at.asks("sessions hold", id=session)
    await at.asks("sessions release", id=session)
    assert await holds.find(at.context.store, session) is None
    with pytest.raises(UsageError, match="is not held"):
        await at.asks("sessions release", id=session)
    assert live.held == [session, session]
    recorded = [one.what for one in await audit.latest(at.context.store.reports, limit=10)]
    assert recorded == ["sessions.release", "sessions.hold"]


@pytest.mark.parametrize("noun", ["groups", "agents"])
async def test_an_agent_group_is_held_with_its_sessions_and_those_to_come(operator: Operator, noun: str) -> None:
    first, second, other = await some_sessions(operator)
    store = operator.context.store
    told = await operator.asks(f"{noun} hold", folder="main")
    assert "nanohost agents release main" in str(told)
    assert [await holds.find(store, one) is not None for one in (first, second, other)] == [True, True, False]
    with pytest.raises(UsageError, match="held with its agent group only"):
        await operator.asks("sessions release", id=first)
    await operator.asks("sessions hold", id=second)
    held = await holds.find(store, second)
    assert held is not None
    assert held.reason == "no reason given"
    await operator.asks(f"{noun} release", folder="main")
    assert [await holds.find(store, one) is not None for one in (first, second, other)] == [False, True, False]

"""The cost of an ordinary message: few statements on the central database."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nanohost.db.domain_events import ChatHasEvents
from nanohost.db.events import CHATS_WITH_NEW
from tests.routing.test_router import CHAT, World, world

__all__ = ["world"]

MOST = 7
"""Statements for one message by somebody known, in a direct chat with one agent."""


@asynccontextmanager
async def statements(world: World) -> AsyncIterator[Counter[str]]:
    """The statements while entered, without values; not the test's own, and no BEGIN or COMMIT."""
    seen: Counter[str] = Counter()
    own = _words(CHATS_WITH_NEW)

    def see(sql: str) -> None:
        if sql.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE") and _words(sql) != own:
            seen[_words(sql)] += 1

    connections = [world.store._writer, world.store._reader]
    for connection in connections:
        await connection.set_trace_callback(see)
    yield seen
    for connection in connections:
        await connection.set_trace_callback(lambda _: None)


def _words(sql: str) -> str:
    return " ".join(sql.split())


async def test_an_ordinary_message_needs_few_database_statements(world: World) -> None:
    await world.wire(await world.chat(), await world.agent("a"))
    async with world.routing():
        await world.says("once, so that all is known")
        world.store.bus.publish(ChatHasEvents(CHAT))
        await world.until(world.nothing_new)
        await world.says("hello")
        async with statements(world) as seen:
            world.store.bus.publish(ChatHasEvents(CHAT))
            await world.until(world.nothing_new)
    assert seen.total() <= MOST, "\n".join(f"{count}  {sql}" for sql, count in seen.items())

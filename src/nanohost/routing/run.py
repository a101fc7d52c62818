"""What is put on record of events that were dealt with: each wiring's route, whom somebody is asked about, what reached
nobody, and who wrote. All in the one transaction that also marks the events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nanohost.access import acquaintance
from nanohost.model import EventId, MessagingGroup, Wiring, WiringId
from nanohost.routing.strangers import Door
from nanohost.store import agent_groups, dropped, routes
from nanohost.store.events import ChatKey, StoredEvent
from nanohost.store.roles import Grant
from nanohost.store.routes import Route, RouteOutcome

ANOTHERS_CARD = "the card is another agent's"
"""Why a press is none of a wiring's business: nothing that was lost, if that agent listens there still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Events of one wired chat that are dealt with in one go. `grants`: what their senders may do, by user, as far as
    it was looked up."""

    events: Mapping[EventId, StoredEvent]
    group: MessagingGroup
    wired: Mapping[WiringId, Wiring]
    grants: dict[str, Sequence[Grant]] = field(default_factory=dict)


async def put(door: Door, run: Run, made: Sequence[Route]) -> list[Route]:
    """Put the routes on record, and ask about senders who may have to be let in. Of an event whose sender was let in
    just now nothing counts: it stays new."""
    kept: list[Route] = []
    again: set[EventId] = set()
    await routes.add_all(door.tx, [route for route in made if route.outcome is not RouteOutcome.HELD], now=door.now)
    for route in made:
        if route.outcome is not RouteOutcome.HELD:
            kept.append(route)
            continue
        settled = await _asked(door, run, route)
        if settled is None:
            again.add(route.event_id)
            continue
        await routes.add(door.tx, settled, now=door.now)  # each alone: the next one asks how many are held
        kept.append(settled)
    return [route for route in kept if route.event_id not in again]


async def _asked(door: Door, run: Run, route: Route) -> Route | None:
    wiring = run.wired[route.wiring_id]
    agent = await agent_groups.get(door.tx, wiring.agent_group_id)
    return await door.hold(route, run.events[route.event_id], group=run.group, wiring=wiring, agent_group=agent)


async def count(door: Door, run: Run, made: Sequence[Route]) -> None:
    """Put on record what reached nobody: one row, however much somebody writes."""
    somebodys = {route.event_id for route in made if route.reason != ANOTHERS_CARD}
    lost = Counter(
        (run.events[route.event_id].user, route.reason, run.wired[route.wiring_id].agent_group_id)
        for route in made
        if route.outcome in (RouteOutcome.NOT_ENGAGED, RouteOutcome.DENIED)
        and (route.reason != ANOTHERS_CARD or route.event_id not in somebodys)
    )
    folders = await agent_groups.folders(door.tx) if lost else {}
    chat = ChatKey(run.group.channel_type, run.group.instance, run.group.platform_id)
    for (user, reason, agent), times in lost.items():
        await dropped.count(door.tx, chat, user, reason, now=door.now, agent_group=folders[agent], times=times)


async def meet(door: Door, heard: Sequence[StoredEvent]) -> None:
    """Get to know who wrote these."""
    for stored in {stored.user: stored for stored in heard}.values():
        if await acquaintance.is_news(door.tx, stored, door.now):
            await acquaintance.meet(door.tx, stored, door.now)

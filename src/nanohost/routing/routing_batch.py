"""Records the results of a batch of events in one transaction: routes, held messages, drops and contacts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nanohost.access import contacts
from nanohost.db import agent_groups, dropped, routes
from nanohost.db.events import ChatKey, StoredEvent
from nanohost.db.roles import RoleGrant
from nanohost.db.routes import Route, RouteOutcome
from nanohost.model import EventId, MessagingGroup, Wiring, WiringId
from nanohost.routing.unknown_sender_policy import UnknownSenderPolicy

OTHER_AGENTS_CARD = "the card is another agent's"
"""The reason why a wiring ignores a press. Not counted as dropped if that agent is still wired to the chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingBatch:
    """Events of one wired chat that are handled together. `grants`: a cache of the senders' roles, by user."""

    events: Mapping[EventId, StoredEvent]
    group: MessagingGroup
    wirings: Mapping[WiringId, Wiring]
    grants: dict[str, Sequence[RoleGrant]] = field(default_factory=dict)


async def record_routes(
    sender_policy: UnknownSenderPolicy, batch: RoutingBatch, resolved: Sequence[Route]
) -> list[Route]:
    """Records the routes, and requests approval for unknown senders. Returns the routes that were recorded.

    If a sender was approved meanwhile, all routes of the event are left out: it stays new and is routed again.
    """
    kept: list[Route] = []
    again: set[EventId] = set()
    await routes.add_all(
        sender_policy.tx, [route for route in resolved if route.outcome is not RouteOutcome.HELD], now=sender_policy.now
    )
    for route in resolved:
        if route.outcome is not RouteOutcome.HELD:
            kept.append(route)
            continue
        settled = await _hold_for_approval(sender_policy, batch, route)
        if settled is None:
            again.add(route.event_id)
            continue
        await routes.add(
            sender_policy.tx, settled, now=sender_policy.now
        )  # one at a time: the next request counts how many are held
        kept.append(settled)
    return [route for route in kept if route.event_id not in again]


async def _hold_for_approval(sender_policy: UnknownSenderPolicy, batch: RoutingBatch, route: Route) -> Route | None:
    wiring = batch.wirings[route.wiring_id]
    agent = await agent_groups.get(sender_policy.tx, wiring.agent_group_id)
    return await sender_policy.hold(
        route, batch.events[route.event_id], group=batch.group, wiring=wiring, agent_group=agent
    )


async def count_dropped(sender_policy: UnknownSenderPolicy, batch: RoutingBatch, resolved: Sequence[Route]) -> None:
    """Counts events that reached no agent: one row per sender, reason and agent, however many there are."""
    resolved_elsewhere = {route.event_id for route in resolved if route.reason != OTHER_AGENTS_CARD}
    lost = Counter(
        (batch.events[route.event_id].user_id, route.reason, batch.wirings[route.wiring_id].agent_group_id)
        for route in resolved
        if route.outcome in (RouteOutcome.NOT_ENGAGED, RouteOutcome.DENIED)
        and (route.reason != OTHER_AGENTS_CARD or route.event_id not in resolved_elsewhere)
    )
    folders = await agent_groups.list_folders(sender_policy.tx) if lost else {}
    chat = ChatKey(batch.group.channel_type, batch.group.instance, batch.group.platform_id)
    for (user, reason, agent), times in lost.items():
        await dropped.record(
            sender_policy.tx, chat, user, reason, now=sender_policy.now, agent_group=folders[agent], times=times
        )


async def record_contacts(sender_policy: UnknownSenderPolicy, stored_events: Sequence[StoredEvent]) -> None:
    """Records the senders of these events as contacts, if that is new or outdated."""
    for stored in {stored.user_id: stored for stored in stored_events}.values():
        if contacts.is_contact_outdated(stored, sender_policy.now):
            await contacts.record_contact(sender_policy.tx, stored, sender_policy.now)

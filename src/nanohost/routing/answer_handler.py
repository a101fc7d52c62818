"""Handles answers to questions of agents: sends a button press or a text to the session that asked."""

from __future__ import annotations

from nanohost.db.events import StoredEvent
from nanohost.db.routes import Route, RouteOutcome
from nanohost.routing.answers import AcceptedAnswer, AnswerProcessor
from nanohost.routing.route_resolver import RoutedEntry, RouteResolver, route_to_session
from nanohost.routing.route_writer import RouteWriter
from nanohost.routing.routing_batch import RoutingBatch


class AnswerHandler:
    """An event handler of the router."""

    def __init__(self, *, answers: AnswerProcessor, resolver: RouteResolver, writer: RouteWriter) -> None:
        self._answers = answers
        self._resolver = resolver
        self._writer = writer

    async def can_handle(self, stored: StoredEvent) -> bool:
        return await self._answers.can_handle(stored)

    async def handle(self, stored: StoredEvent) -> bool:
        """Returns False if the event answers no question; then nothing was changed."""
        taken = await self._answers.process(stored)
        if isinstance(taken, AcceptedAnswer):
            session, wiring = taken.session, taken.wiring
            route = Route(event_id=stored.id, wiring_id=wiring.id, outcome=RouteOutcome.WRITTEN)
            entry = await self._writer.build_answer_entry(stored, wiring.id) or await self._resolver.build_entry(
                stored, wiring.id, session.agent_group_id, trigger=True
            )
            row = RoutedEntry(route=route_to_session(route, session), stored=stored, entry=entry)
            made, written = await self._writer.write(session, [row])
            run = RoutingBatch(events={stored.id: stored}, group=taken.group, wirings={wiring.id: wiring})
            await self._writer.record(run, made, {session.id: written})
        return taken is not None

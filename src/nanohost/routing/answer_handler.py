"""A press or a text that answers an agent's question goes to the session that asked."""

from __future__ import annotations

from nanohost.routing.answers import Answers, Taken
from nanohost.routing.deciding import Deciding, Ready, reaching
from nanohost.routing.run import Run
from nanohost.routing.writer import RouteWriter
from nanohost.store.events import StoredEvent
from nanohost.store.routes import Route, RouteOutcome


class AnswerHandler:
    """An event handler of the router."""

    def __init__(self, *, answers: Answers, deciding: Deciding, writer: RouteWriter) -> None:
        self._answers = answers
        self._deciding = deciding
        self._writer = writer

    async def wants(self, stored: StoredEvent) -> bool:
        return await self._answers.wants(stored)

    async def handle(self, stored: StoredEvent) -> bool:
        """False: it answers no question, and nothing was done about it."""
        taken = await self._answers.take(stored)
        if isinstance(taken, Taken):
            session, wiring = taken.session, taken.wiring
            route = Route(event_id=stored.id, wiring_id=wiring.id, outcome=RouteOutcome.WRITTEN)
            entry = await self._writer.answer(stored, wiring.id) or await self._deciding.entry(
                stored, wiring.id, session.agent_group_id, trigger=True
            )
            row = Ready(route=reaching(route, session), stored=stored, entry=entry)
            made, written = await self._writer.write(session, [row])
            run = Run(events={stored.id: stored}, group=taken.group, wired={wiring.id: wiring})
            await self._writer.record(run, made, {session.id: written})
        return taken is not None

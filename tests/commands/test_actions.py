"""Requests of agents, as an operator reads them."""

from __future__ import annotations

from nanohost.db import actions
from nanohost.db.actions import ActionRow, ActionStatus
from tests.commands.conftest import Operator
from tests.db.test_entities import a_session


async def test_requests_are_listed_with_their_outcome(operator: Operator) -> None:
    store, now = operator.context.store, operator.context.clock.now()
    session = await a_session(store)
    assert await operator.render("actions list") == await operator.render("deliveries list")
    for seq, status in ((1, ActionStatus.DONE), (3, ActionStatus.REFUSED)):
        row = ActionRow(
            session_id=session,
            seq=seq,
            out_id=f"o{seq}",
            name="tasks.pause",
            arguments='{"id":"j\x1b[2J"}',
            origin=None,
            requested_at=now,
            created_at=now,
            status=status,
            reason="there is no such task" if status is ActionStatus.REFUSED else None,
        )
        async with store.transaction() as tx:
            await actions.add(tx, row)
    assert [row["seq"] for row in await operator.run("actions list")] == [3, 1]
    assert [row["seq"] for row in await operator.run("actions list", limit="1", session=session[:6])] == [3]
    [refused] = await operator.run("actions list", status="refused")
    assert (refused["action"], refused["reason"]) == ("tasks.pause", "there is no such task")
    assert "\x1b" not in await operator.render("actions list")

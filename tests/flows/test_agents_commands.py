"""Commands of the agent's own that people type, through a whole host: an admin's reach it, and are answered by it."""

from __future__ import annotations

import pytest

from nanohost.channel_api import Sender
from nanohost.mailbox import queries
from nanohost.model import Role
from nanohost.store import roles
from tests.flows.stage import Stage

BOSS = Sender(handle="boss", name="Bo")


@pytest.mark.behaviour("AC-06")
async def test_compact_of_an_admin_is_a_turn_of_its_own_and_is_answered(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire()
        async with flow.host.store.transaction() as tx:
            await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=flow.host.clock.now())
        await watched.fake.person_writes("/compact", message_id="m1")
        await watched.fake.wait_for(1)
        await watched.fake.person_writes("/compact", message_id="m2", sender=BOSS)
        await watched.fake.wait_for(2)
        await watched.fake.person_writes("hi", message_id="m3", sender=BOSS)
        await watched.fake.wait_for(3)
        turns = await flow.host.mailboxes.outbound(await flow.session(), queries.turns())
    assert flow.texts() == ["Only an admin may use /compact here.", "Nothing to compact.", "echo: hi"]
    assert [one.reply_to for one in watched.fake.sent] == ["m1", "m2", "m3"]
    assert turns is not None
    assert len([turn for turn in turns if turn.outcome == "completed"]) >= 2

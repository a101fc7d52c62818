"""Commands for the agent itself, through a whole host: an admin's reach it, and are answered."""

from __future__ import annotations

import pytest

from nanohost.channel_api import Sender
from nanohost.db import roles
from nanohost.mailbox import queries
from nanohost.model import Role
from tests.flows.host_fixture import HostTestEnv

BOSS = Sender(handle="boss", name="Bo")


@pytest.mark.behaviour("AC-06")
async def test_compact_from_an_admin_is_answered_in_a_turn_of_its_own(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        async with flow.host.store.transaction() as tx:
            await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=flow.host.clock.now())
        await host_env_with_events.fake.person_writes("/compact", message_id="m1")
        await host_env_with_events.fake.wait_for_sent(1)
        await host_env_with_events.fake.person_writes("/compact", message_id="m2", sender=BOSS)
        await host_env_with_events.fake.wait_for_sent(2)
        await host_env_with_events.fake.person_writes("hi", message_id="m3", sender=BOSS)
        await host_env_with_events.fake.wait_for_sent(3)
        turns = await flow.host.mailboxes.read_outbound(await flow.session(), queries.turns())
    assert flow.texts() == ["Only an admin may use /compact here.", "Nothing to compact.", "echo: hi"]
    assert [one.reply_to for one in host_env_with_events.fake.sent] == ["m1", "m2", "m3"]
    assert turns is not None
    assert len([turn for turn in turns if turn.outcome == "completed"]) >= 2

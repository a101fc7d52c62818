"""A code in a group that no agent is wired to: with a whole host, for intake keeps nothing of what is said there."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.access.codes import issue
from nanohost.reception.codes import OVERHEARD
from nanohost.store import roles
from nanohost.store.codes import Purpose
from tests.approvals.hall import BOB, Hall, hall


async def code_of(here: Hall) -> str:
    store, now = here.flow.host.store, here.flow.host.clock.now()
    async with store.transaction() as tx:
        made = await issue(
            tx, Purpose.OWNER, channel_type="fake", user_id=None, created_by="local:test", origin="local", now=now
        )
    return made.code


@pytest.mark.behaviour("AC-03", "RT-08")
async def test_a_code_is_void_in_a_group_where_no_agent_listens_and_nobody_spoke_to_the_bot(tmp_path: Path) -> None:
    async with hall(tmp_path, wired=False, owner=False) as here:
        code = await code_of(here)
        assert not (await here.fake.person_writes(f"not {code[:4]}-2A2A", chat="g1", group=True)).new
        await here.fake.person_writes(f"is it {code}?", chat="g1", group=True)
        await here.reads("g1", OVERHEARD)
        assert not (await here.fake.person_writes(f"it was {code}", chat="g1", group=True)).new
        await here.writes(BOB, code, chat="dm-bob")
        await here.reads("dm-bob", "That code is void")
        assert await roles.every(here.flow.host.store) == []

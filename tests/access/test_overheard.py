"""A code in a group without a wiring, with a whole host, because the inbox keeps no messages of such a group."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.access.codes import issue
from nanohost.db import roles
from nanohost.db.codes import CodePurpose
from nanohost.routing.code_handler import CODE_EXPOSED_IN_GROUP
from tests.approvals.harness import BOB, ApprovalsTestHost, run_approvals_host


async def code_of(here: ApprovalsTestHost) -> str:
    store, now = here.host.host.store, here.host.host.clock.now()
    async with store.transaction() as tx:
        made = await issue(
            tx, CodePurpose.OWNER, channel_type="fake", user_id=None, created_by="local:test", origin="local", now=now
        )
    return made.code


@pytest.mark.behaviour("AC-03", "RT-08")
async def test_a_code_in_an_unconnected_group_is_voided_even_without_a_mention(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False, has_owner=False) as here:
        code = await code_of(here)
        assert not (await here.fake.person_writes(f"not {code[:4]}-2A2A", chat="g1", group=True)).new
        await here.fake.person_writes(f"is it {code}?", chat="g1", group=True)
        await here.wait_for_text("g1", CODE_EXPOSED_IN_GROUP)
        assert not (await here.fake.person_writes(f"it was {code}", chat="g1", group=True)).new
        await here.write_message(BOB, code, chat="dm-bob")
        await here.wait_for_text("dm-bob", "That code is void")
        assert await roles.list_all(here.host.host.store) == []

"""A key that the model's service refuses, with the real claude program and everything else real."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_runner.failures import SENTENCES
from nanohost.commands.context import CommandContext
from nanohost.commands.registry import find_command
from nanohost.config.settings import make_settings
from nanohost.db import roles, users
from nanohost.model import Role
from nanohost_protocol.rows import ErrorClass, Origin
from tests.support.flow import RunningHost, run_host
from tests.support.invariants import wait_until
from tests.support.messages_api import UNAUTHORIZED, RecordedRequest, Rule, StubMessagesApi, Text

LIMIT_S = 60.0


async def status(flow: RunningHost) -> str:
    host = flow.host
    context = CommandContext(
        home=flow.home, settings=host.foundation.settings, clock=host.clock, store=host.store, host=host
    )
    command = find_command("status")
    return command.render(await command.execute(context, {}))


def to_messages(_: RecordedRequest) -> bool:
    return True


@pytest.mark.behaviour("GW-08", "RU-04")
async def test_a_revoked_key_is_explained_to_the_person_and_the_owner_until_a_turn_succeeds(
    tmp_path: Path,
) -> None:
    """The key was valid when the host started; the next successful answer shows that it is valid again."""
    async with StubMessagesApi(default=Text("hello")) as api:
        settings = make_settings(
            host={"provider": "claude", "timezone": "UTC", "durable": False},
            agent={"api_key": "k", "tools": "none", "base_url": api.base_url},
        )
        async with run_host(tmp_path, settings=settings) as flow:
            await flow.wire("c1")
            await is_owner(flow, "boss")
            assert "All is well." in await status(flow)
            api.rules.append(Rule(to_messages, UNAUTHORIZED))
            await flow.fake.person_writes("hi", chat="c1")
            await wait_until(lambda: bool(flow.texts("c1") and flow.texts("boss-dm")), timeout_s=LIMIT_S)
            assert flow.texts("c1") == [SENTENCES[ErrorClass.AUTH]]
            [told] = flow.texts("boss-dm")
            assert "127.0.0.1 refuses the key for the model (401)" in told
            assert told.endswith("On the machine that I run on, type: nanohost model set")
            shown = await status(flow)
            assert "The model cannot be asked   → nanohost model set" in shown
            assert "Model calls that failed" not in shown
            assert "turns fail" not in shown
            api.rules.clear()
            await flow.fake.person_writes("again", chat="c1")
            await wait_until(lambda: len(flow.texts("c1")) == 2, timeout_s=LIMIT_S)
            assert flow.texts("c1")[1] == "hello"
            assert "All is well." in await status(flow)


async def is_owner(flow: RunningHost, name: str) -> None:
    """Add an owner with a known direct chat."""
    now = flow.host.clock.now()
    async with flow.host.store.transaction() as tx:
        await roles.grant(tx, user_id=f"fake:{name}", role=Role.OWNER, agent_group=None, now=now)
        place = Origin(channel_type="fake", instance="default", platform_id=f"{name}-dm", platform_message_id=None)
        await users.record_seen(tx, f"fake:{name}", name=name, now=now)
        await users.save_dm(tx, f"fake:{name}", place, now)

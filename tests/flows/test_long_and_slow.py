"""Answers that take their time and answers that are long, in a whole host."""

from __future__ import annotations

import asyncio

import pytest

from nanohost.channel_api import Address, Capabilities
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.flows.host_fixture import HostTestEnv

SLOW = [{"match": "slow", "actions": [{"until_file": "go"}, {"answer": "done"}]}]


@pytest.mark.behaviour("DL-11")
async def test_typing_is_shown_until_the_answer_is_sent(host_env_with_events: HostTestEnv) -> None:
    host_env_with_events.fake = fake = FakeChannel(capabilities=Capabilities(threads=True, typing_every_s=1.0))
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=SLOW)
        await fake.person_writes("slow", thread="t1")
        assert set(await fake.wait_for_typings(1)) == {Address(platform_id="c1", thread_id="t1")}
        flow.resume_script()
        await fake.wait_for_sent(1)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while any(task.get_name().startswith("typing:") for task in asyncio.all_tasks()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert flow.texts() == ["done"]


@pytest.mark.behaviour("DL-06")
async def test_a_long_answer_is_split_and_delivered_once_all_parts_are_sent(
    host_env_with_events: HostTestEnv,
) -> None:
    host_env_with_events.fake = fake = FakeChannel(capabilities=Capabilities(text_limit=2_000))
    said = " ".join(f"w{number}" for number in range(2_000))
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await fake.person_writes(said)
        while "w1999" not in " ".join(flow.texts()).split():
            await fake.wait_for_sent(len(fake.sent) + 1)
        assert " ".join(flow.texts()).split() == ["echo:", *said.split()]
        assert max(map(len, flow.texts())) <= 2_000

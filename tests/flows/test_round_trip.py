"""A message in, an agent in its own container, an answer out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.flow import flowing, scripted_settings


@pytest.mark.parametrize("watch", [True, False], ids=["watcher on", "watcher off"])
async def test_a_message_is_answered(tmp_path: Path, watch: bool) -> None:
    settings = scripted_settings(watch=watch, poll_interval_s=0.2)
    async with flowing(tmp_path, settings=settings) as flow:
        await flow.wire()
        await flow.fake.person_writes("hello")
        [answer] = await flow.fake.wait_for(1)
    assert answer.text == "echo: hello"

"""The output of `make demo-channels`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from nanohost.testing.simulated_chat import find_simulator, simulator_names

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "demo_channels"


@pytest.mark.behaviour("DL-07", "DL-09", "DL-10")
async def test_one_agent_answers_on_every_platform_in_the_chat_that_asked() -> None:
    script = await asyncio.create_subprocess_exec(
        sys.executable, SCRIPT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, complaints = await script.communicate()
    assert (script.returncode, complaints.decode()) == (0, "")
    places = dict(each.split("\n", 1) for each in printed.decode().strip().split("\n\n"))
    assert sorted(places) == [name for name in simulator_names() if find_simulator(name).name == name]
    for name, said in places.items():
        assert f"bot: You said: Hello from {name.capitalize()}!" in said
        assert "bot: You chose Red." in said
        assert "hello.txt, " in said
        assert "From the agent main:\n       Which one" in said or "bot: Which one" in said, "one message, one name"
        assert not [line for line in said.splitlines() if line.rstrip().endswith(("bot:", "Ada:"))], "no empty lines"

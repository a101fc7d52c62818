"""Hostile agents beside good ones, in a whole host: real containers, in which `program.py` runs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nanohost.db import holds
from nanohost.errors import RuntimeUnavailable
from nanohost.runtimes.bubblewrap import BubblewrapRuntime
from nanohost.runtimes.docker import DockerRuntime
from nanohost.runtimes.docker_image import ensure_image
from nanohost.runtimes.process import ProcessRuntime
from nanohost.runtimes.runtime_api import Runtime
from nanohost.testing.time_limits import scaled_timeout
from tests.hostile import program
from tests.support.flow import RunningHost, install_id_for, run_host, scripted_settings
from tests.support.invariants import wait_until

RUNTIMES = (
    "process",
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    pytest.param("docker", marks=pytest.mark.docker),
)
GOOD = "good"
START_TIMEOUT_S = 90.0


@asynccontextmanager
async def run_hostile_host(root: Path, kind: str, **host: object) -> AsyncIterator[RunningHost]:
    """A host with this container runtime and these settings of [host]. Skips the test where it is unavailable."""
    runtime = await _runtime(root, kind)
    settings = scripted_settings(runtime=kind, poll_interval_s=0.2, **host)
    async with run_host(root, runtime=runtime, settings=settings) as flow:
        yield flow


async def start_hostile_agent(flow: RunningHost, name: str, *, chat: str = "bad") -> None:
    """Start an agent in a chat of its own that runs this hostile program."""
    rule = {"match": "begin", "actions": [{"start": ["python3", "program.py", name]}, {"answer": "begun"}]}
    await flow.wire(chat, chat, script=[rule])
    folder = flow.home.groups / chat
    shutil.copy(program.__file__, folder / "program.py")
    await flow.fake.person_writes("begin", chat=chat)
    await wait_until(lambda: (folder / "at-work").exists(), timeout_s=START_TIMEOUT_S)


async def ask_agent(flow: RunningHost, text: str, *, chat: str = GOOD) -> str:
    """The answer of an agent to this text."""
    before = len(flow.texts(chat))
    await flow.fake.person_writes(text, chat=chat)
    await wait_until(lambda: len(flow.texts(chat)) > before, timeout_s=START_TIMEOUT_S)
    return flow.texts(chat)[before]


async def wait_for_stop_reason(flow: RunningHost, chat: str = "bad") -> str:
    """Wait until the chat's session was stopped; returns the reason shown to the operator."""
    session = await flow.session(chat)
    await wait_until(lambda: session.id in flow.host.container_manager.failures(), timeout_s=START_TIMEOUT_S)
    return flow.host.container_manager.failures()[session.id].reason


async def wait_for_hold_reason(flow: RunningHost, agent: str) -> str:
    """Wait until the agent, or its session, is on hold, and return the reason."""
    async with asyncio.timeout(scaled_timeout(START_TIMEOUT_S)):
        while True:
            for row in await holds.list_for_status(flow.host.store.reports):
                if row["agent_group"] == agent:
                    return str(row["reason"])
            await asyncio.sleep(0.05)


async def _runtime(root: Path, kind: str) -> Runtime:
    if kind == "process":
        return ProcessRuntime(install=install_id_for(root))
    if kind == "docker":
        return DockerRuntime(install=install_id_for(root), image=await ensure_image(progress=lambda _: None))
    runtime = BubblewrapRuntime(install=install_id_for(root))
    try:
        runtime.check()
    except RuntimeUnavailable as why:
        pytest.skip(str(why))
    return runtime

"""The reported costs, with the real claude program and the real gateway."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest

from nanohost.chat_commands.cost import COMMAND
from nanohost.chat_commands.host_command import Actor, HostCommandInvocation
from nanohost.clock import SystemClock
from nanohost.config.home import Home
from nanohost.db import agent_groups, sessions
from nanohost.db.database import Store
from nanohost.gateway.call_recorder import model_call_recorder
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_call import ModelCall
from nanohost.gateway.model_service import Upstream
from nanohost.gateway.prices import PRICED_HOST
from nanohost.testing.time_limits import scaled_timeout
from nanohost_protocol.rows import AckStatus
from tests.runner.host_side import WAIT_TIMEOUT_S, SessionHost, run_runner, wait_until
from tests.support.messages_api import StubMessagesApi, Text, Tokens
from tests.support.template_home import opened_store

HELLO = '<message to="home">yes</message>'
LOCAL = Actor(id="local:root", name="root", is_local=True)


class Spending:
    """A session whose agent is Claude, and its recorded costs."""

    def __init__(self, store: Store, host: SessionHost, api: StubMessagesApi) -> None:
        self.store, self.host, self.api = store, host, api
        self.recorded = asyncio.Event()
        """The gateway records beside the stream."""

    async def turn(self, number: int, tokens: int, *, model: str = "claude-opus-5-5", dies: bool = False) -> str:
        """One life of the runner with one turn. `dies`: its claude process is killed after the answer."""
        self.api.replies.append(Text(HELLO, tokens=Tokens(input=tokens, output=0)))
        self.host.write_message(f"m{number}", f"question {number}")
        self.recorded.clear()
        async with run_runner(self.host, replace(self.host.settings("claude", f"lease-{number}"), model=model)):
            await self.host.wait_for_acks(f"m{number}", status=AckStatus.COMPLETED)
            if dies:
                kill_command_lines()
        async with asyncio.timeout(scaled_timeout(WAIT_TIMEOUT_S)):
            await self.recorded.wait()
        return await self.told()

    async def told(self) -> str:
        """The longest period in the answer to /cost."""
        now = SystemClock().now()
        assert COMMAND.prefetch is not None
        seen = await COMMAND.prefetch(self.store.reports, now, UTC)
        async with self.store.transaction() as tx:
            asked = HostCommandInvocation(tx=tx, actor=LOCAL, now=now, zone=UTC, prefetched=seen)
            return (await COMMAND.execute(asked, COMMAND.parse_arguments(""))).splitlines()[3]


def command_lines() -> list[int]:
    """The claude processes that are children of this process."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(child) for child in children if "claude" in Path(f"/proc/{child}/cmdline").read_text()]


def kill_command_lines() -> None:
    for child in command_lines():
        os.kill(child, signal.SIGKILL)


@asynccontextmanager
async def spending(tmp_path: Path, *, priced_as: str) -> AsyncIterator[Spending]:
    host = SessionHost(tmp_path / "s")
    async with StubMessagesApi() as api, opened_store(Home(tmp_path / "home"), durable=False) as store:
        it, keep = Spending(store, host, api), model_call_recorder(store, priced_as=priced_as)
        async with store.transaction() as tx:
            now = SystemClock().now()
            group = await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=now)
            session = await sessions.add(tx, agent_group=group.id, messaging_group=None, thread_id=None, now=now)

        async def record(calls: Sequence[ModelCall]) -> None:
            await keep(calls)
            it.recorded.set()

        gateway = Gateway(upstream=Upstream(base_url=api.base_url), record=record, clock=SystemClock())
        async with gateway.opened():
            await gateway.attach(session, host.layout.gateway_socket)
            yield it


@pytest.mark.case("costs after a killed container")
async def test_the_total_cost_is_right_at_every_step_however_often_the_container_is_killed(tmp_path: Path) -> None:
    """The running total of the claude process begins at zero after a kill, and passes the old one in its first turn."""
    async with spending(tmp_path, priced_as=PRICED_HOST) as it:
        first = await it.turn(1, 100_000, dies=True)
        await wait_until(lambda: not command_lines())
        second = await it.turn(2, 150_000, dies=True)
        third = await it.turn(3, 100_000)
    assert [told.rpartition(", ")[2] for told in (first, second, third)] == [
        "about $0.40",
        "about $1.00",
        "about $1.40",
    ]
    assert "tokens 350.0 k in" in third


@pytest.mark.parametrize(
    ("model", "priced_as", "dollars"),
    [
        ("claude-3-haiku-20240307", PRICED_HOST, "about $0.25"),
        ("claude-next-9", PRICED_HOST, "cost unknown"),
        ("claude-opus-5-5", "localhost", "cost unknown"),
    ],
)
async def test_a_model_is_billed_at_its_own_price_or_not_at_all(
    tmp_path: Path, model: str, priced_as: str, dollars: str
) -> None:
    async with spending(tmp_path, priced_as=priced_as) as it:
        assert (await it.turn(1, 1_000_000, model=model)).endswith(f", {dollars}")

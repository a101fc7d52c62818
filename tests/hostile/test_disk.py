"""A session that fills a disk fills only its own share, and is held."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.containers import stuck_monitor
from nanohost.db import roles, users
from nanohost.model import Role
from nanohost_protocol.rows import Origin
from tests.hostile.agents import (
    RUNTIMES,
    START_TIMEOUT_S,
    ask_agent,
    run_hostile_host,
    start_hostile_agent,
    wait_for_hold_reason,
)
from tests.support.container_engines import docker_engine
from tests.support.flow import RunningHost
from tests.support.invariants import wait_until
from tests.support.small_disk import mount_small_disk

__all__ = ["docker_engine"]


@pytest.fixture(autouse=True)
def _engine(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("docker"):
        request.getfixturevalue("docker_engine")


@pytest.fixture(autouse=True)
def _frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check every second and not every ten: many tests wait for several checks."""
    monkeypatch.setattr(stuck_monitor, "CHECK_INTERVAL_S", 1.0)


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.behaviour("SE-06")
async def test_a_session_that_fills_a_folder_is_held_and_others_continue(tmp_path: Path, kind: str) -> None:
    async with run_hostile_host(tmp_path, kind, session_disk_mb=8, workspace_mb=8) as flow:
        await flow.wire("good", "good")
        for name in ("out", "state", "workspace"):
            await start_hostile_agent(flow, f"fill_{name}", chat=name)
            reason = await wait_for_hold_reason(flow, name)
            assert f"its {name} folder has grown beyond 8 MiB" in reason
            setting = "workspace_mb" if name == "workspace" else "session_disk_mb"
            assert f"raise {setting} in [host] of nanohost.toml" in reason
        await wait_until(lambda: not flow.host.container_manager.containers(), timeout_s=START_TIMEOUT_S)
        await flow.fake.person_writes("begin", chat="state")
        assert await ask_agent(flow, "hi") == "echo: hi"
        good = await flow.session("good")
        assert [slot.session_id for slot in flow.host.container_manager.containers()] == [good.id]


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.behaviour("SE-06")
async def test_constantly_renamed_files_are_counted_once_the_session_is_idle(tmp_path: Path, kind: str) -> None:
    async with run_hostile_host(tmp_path, kind, workspace_mb=24) as flow:
        await start_hostile_agent(flow, "fill_renamed")
        await wait_until(lambda: not flow.host.container_manager.containers(), timeout_s=START_TIMEOUT_S)
        await flow.fake.person_writes("are you there?", chat="bad")
        assert "its workspace folder has grown beyond 24 MiB" in await wait_for_hold_reason(flow, "bad")


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.behaviour("SE-06")
async def test_the_cause_of_a_low_disk_is_held_and_others_resume_with_free_space(tmp_path: Path, kind: str) -> None:
    home = tmp_path / "home"
    with mount_small_disk(home, 200):
        async with run_hostile_host(home, kind) as flow:
            await has_an_owner(flow)
            await flow.wire("good", "good")
            assert await ask_agent(flow, "hi") == "echo: hi"
            await start_hostile_agent(flow, "fill_disk")
            reason = await wait_for_hold_reason(flow, "bad")
            assert "while the disk got short, most of it in its workspace folder" in reason
            hoard = home / "groups" / "bad" / "hoard"
            [short] = flow.host.disk_monitor.low_disks()
            assert short.largest_growth.startswith("the workspace folder of the agent bad grew by")
            assert f" to {hoard.stat().st_blocks * 512 / 1024**2:.0f} MiB" in short.largest_growth
            await wait_until(lambda: len(flow.texts("boss")) == 2, timeout_s=START_TIMEOUT_S)
            [notice] = [text for text in flow.texts("boss") if text.startswith("The disk is nearly full")]
            assert "The workspace folder of the agent bad grew by" in notice
            before = len(flow.texts("good"))
            await flow.fake.person_writes("later", chat="good")
            await flow.fake.person_writes("begin", chat="bad")
            hoard.unlink()
            await wait_until(lambda: len(flow.texts("good")) > before, timeout_s=START_TIMEOUT_S)
            assert flow.texts("good")[before:] == ["echo: later"]
            good = await flow.session("good")
            assert [slot.session_id for slot in flow.host.container_manager.containers()] == [good.id]
            assert not hoard.exists()


@pytest.mark.bubblewrap
@pytest.mark.behaviour("SE-06")
async def test_a_session_that_fills_the_disk_with_its_log_is_held_and_the_log_truncated(tmp_path: Path) -> None:
    """Docker limits a container's log itself; plain processes can write to the logs of all others."""
    home = tmp_path / "home"
    with mount_small_disk(home, 200):
        async with run_hostile_host(home, "bubblewrap") as flow:
            await flow.wire("good", "good")
            assert await ask_agent(flow, "hi") == "echo: hi"
            await start_hostile_agent(flow, "fill_log")
            assert "while the disk got short, most of it in its log folder" in await wait_for_hold_reason(flow, "bad")
            assert await ask_agent(flow, "later") == "echo: later"
            assert not flow.host.disk_monitor.is_low


async def has_an_owner(flow: RunningHost) -> None:
    now, place = flow.host.clock.now(), Origin(channel_type="fake", instance="default", platform_id="boss")
    async with flow.host.store.transaction() as tx:
        await users.record_seen(tx, "fake:boss", name="Boss", now=now)
        await users.save_dm(tx, "fake:boss", place, now)
        await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=now)

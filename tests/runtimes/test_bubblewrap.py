"""Specific to bubblewrap: control groups, and a sandbox that outlived its runner."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanohost.errors import RuntimeUnavailable, SpawnError
from nanohost.runtimes.bubblewrap import BubblewrapRuntime
from nanohost.runtimes.cgroup import ControlGroups, limit_files
from nanohost.runtimes.procfs import find_processes
from nanohost.runtimes.runtime_api import Limits
from nanohost.runtimes.sandbox import system_arguments
from nanohost.testing.runtime_suite import RuntimeTestEnv, read_report
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.runtimes.test_conformance import HERE, BubblewrapBench
from tests.support.requirements import skip_or_fail

LIMITS = Limits(memory_bytes=1000, cpus=0.5, pids=7)


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[RuntimeTestEnv]:
    try:
        BubblewrapRuntime(install="probe", command=HERE).check()
    except RuntimeUnavailable as error:
        skip_or_fail("BUBBLEWRAP", str(error))
    stage = RuntimeTestEnv(BubblewrapBench(), tmp_path)
    yield stage
    await stage.cleanup()


def test_limits_are_written_for_either_version_of_control_groups() -> None:
    assert limit_files(LIMITS, unified=True)["cpu.max"] == "50000 100000"
    assert limit_files(LIMITS, unified=True)["memory.max"] == "1000"
    assert limit_files(LIMITS, unified=False)["cpu.cfs_quota_us"] == "50000"
    assert limit_files(LIMITS, unified=False)["memory.limit_in_bytes"] == "1000"


def test_without_permission_to_create_control_groups_there_are_none(tmp_path: Path) -> None:
    groups = ControlGroups(tmp_path / "no-such-mount")
    assert groups.make("one", LIMITS) == ()
    groups.remove("one")
    groups.remove_empty("one")


@pytest.mark.bubblewrap
@pytest.mark.behaviour("SE-10")
async def test_a_control_group_is_removed_with_its_container(env: RuntimeTestEnv) -> None:
    spec = env.make_spec()
    async with env.opened() as runtime:
        container = await runtime.start(spec)
        await read_report(spec)
        assert bool(groups_of(env)) == (os.geteuid() == 0)
        await runtime.stop(container, grace_s=5)
    assert groups_of(env) == []


@pytest.mark.bubblewrap
@pytest.mark.behaviour("SE-03")
async def test_a_sandbox_whose_monitor_was_killed_is_stopped_and_cleaned_up(env: RuntimeTestEnv) -> None:
    spec = env.make_spec("stubborn")
    async with env.opened() as runtime:
        await runtime.start(spec)
        await read_report(spec)
    seen = list(find_processes(env.install))
    (monitor,) = [each for each in seen if len(each.pids) == 1 and each.arguments[0].endswith("bwrap")]
    inside = [os.pidfd_open(each.id.pid) for each in seen if each is not monitor]
    os.kill(monitor.id.pid, signal.SIGKILL)
    await asyncio.to_thread(os.waitpid, monitor.id.pid, 0)
    async with env.opened() as restarted:
        assert list(await restarted.adopt()) == []
    for process in inside:
        ended, _, _ = await asyncio.to_thread(select.select, [process], [], [], scaled_timeout(HANG_TIMEOUT_S))
        assert ended == [process]
        os.close(process)


@pytest.mark.bubblewrap
async def test_a_failed_sandbox_setup_is_reported_in_bubblewraps_words(env: RuntimeTestEnv) -> None:
    spec = env.make_spec()
    runtime = BubblewrapRuntime(install=env.install, command=("/nowhere/python",))
    async with runtime.opened(env.deaths):
        (spec.session_dir / "run").rmdir()
        (spec.session_dir / "run").symlink_to("/nowhere")
        with pytest.raises(SpawnError, match="run"):
            await runtime.start(spec)
        assert list(await runtime.adopt()) == []
    assert groups_of(env) == []


def groups_of(stage: RuntimeTestEnv) -> list[Path]:
    root, pattern = Path("/sys/fs/cgroup"), f"nanohost/nanohost-{stage.install[:8]}-*"
    return [*root.glob(pattern), *root.glob(f"*/{pattern}")]


def test_an_interpreter_below_tmp_is_visible_in_the_sandbox() -> None:
    words = system_arguments([Path("/tmp/venv")])
    assert words.index("/tmp/venv") > words.index("--tmpfs")

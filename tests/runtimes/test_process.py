"""Specific to plain processes: short paths, symlinks, and how a runner is recognised."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanohost.errors import SpawnError
from nanohost.runtimes.process import ProcessRuntime, short_link
from nanohost.runtimes.runner_command import parse_identity
from nanohost.testing.runtime_suite import RuntimeTestEnv, read_report
from nanohost_protocol.layout import SessionLayout
from tests.runtimes.test_conformance import ProcessBench


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[RuntimeTestEnv]:
    stage = RuntimeTestEnv(ProcessBench(), tmp_path)
    yield stage
    await stage.cleanup()


MINE = ("--install", "i", "--session", "s", "--lease", "l")


@pytest.mark.parametrize(
    "arguments",
    [
        ("python", *MINE, "more"),
        ("python", "--install", "other", *MINE[2:]),
        ("grep", "--install i --session s --lease l"),
        ("python", "--session", "s", "--install", "i", "--lease", "l"),
        ("python",),
        (),
    ],
)
def test_only_a_command_line_ending_with_the_exact_arguments_is_a_runner(arguments: tuple[str, ...]) -> None:
    assert parse_identity(("python", "-m", "agent_runner", *MINE), "i") is not None
    assert parse_identity(arguments, "i") is None


async def test_a_socket_path_fits_however_deep_the_session_folder_is(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 6)
    deep.mkdir(parents=True)
    stage = RuntimeTestEnv(ProcessBench(), deep)
    spec = stage.make_spec()
    async with stage.opened() as runtime:
        await runtime.start(spec)
        workspace = Path((await read_report(spec))["environment"]["NANOHOST_WORKSPACE"])
    await stage.cleanup()
    assert len(os.fsencode(SessionLayout(spec.session_dir).gateway_socket)) > 107
    assert len(os.fsencode(SessionLayout(workspace).gateway_socket)) <= 107
    assert workspace.resolve() == spec.session_dir
    assert SessionLayout(workspace).agent_dir.resolve() == spec.agent_dir


def test_a_session_always_gets_the_same_short_link_and_another_session_another(tmp_path: Path) -> None:
    assert short_link(tmp_path) == short_link(tmp_path)
    assert short_link(tmp_path / "one") != short_link(tmp_path / "two")


def test_two_sessions_never_share_a_link_even_when_their_names_collide(tmp_path: Path) -> None:
    taken = short_link(tmp_path)
    taken.unlink()
    taken.symlink_to(tmp_path / "somebody-else")
    link = short_link(tmp_path)
    assert link != taken
    assert link.readlink() == tmp_path


async def test_links_to_deleted_sessions_are_removed(env: RuntimeTestEnv, tmp_path: Path) -> None:
    link = short_link(tmp_path / "gone")
    async with env.opened() as runtime:
        await runtime.adopt()
    assert not link.is_symlink()


async def test_a_folder_in_place_of_the_agents_link_is_an_error(env: RuntimeTestEnv) -> None:
    spec = env.make_spec()
    SessionLayout(spec.session_dir).agent_dir.mkdir()
    async with env.opened() as runtime:
        with pytest.raises(SpawnError, match="in the way"):
            await runtime.start(spec)


async def test_a_missing_program_is_an_error_with_its_name(env: RuntimeTestEnv) -> None:
    runtime = ProcessRuntime(install=env.install, command=("/nowhere/python",))
    async with runtime.opened(env.deaths):
        with pytest.raises(SpawnError, match="Cannot run /nowhere/python"):
            await runtime.start(env.make_spec())


async def test_a_symlink_in_place_of_the_database_is_not_followed(env: RuntimeTestEnv) -> None:
    spec = env.make_spec()
    SessionLayout(spec.session_dir).outbound_db.symlink_to("/etc/hostname")
    async with env.opened() as runtime:
        with pytest.raises(SpawnError, match="not an ordinary file"):
            await runtime.start(spec)


@pytest.mark.behaviour("SE-11")
async def test_a_log_that_has_grown_too_long_is_restarted(env: RuntimeTestEnv) -> None:
    spec = env.make_spec("exit")
    log = SessionLayout(spec.session_dir).log_dir / "container.log"
    log.write_bytes(b"x" * 1_000_001)
    async with env.opened() as runtime:
        await runtime.start(spec)
        await read_report(spec)
        await env.deaths.wait_for_first()
    assert log.read_text() == "stand-in speaking: exit\n"


async def test_the_real_runner_can_be_imported_where_it_is_started(env: RuntimeTestEnv) -> None:
    """Without the stub the interpreter finds agent_runner; how that handles an empty session does not matter here."""
    spec = env.make_spec()
    runtime = ProcessRuntime(install=env.install)
    async with runtime.opened(env.deaths):
        container = await runtime.start(spec)
        await runtime.stop(container, grace_s=5)
    log = (SessionLayout(spec.session_dir).log_dir / "container.log").read_text()
    assert "No module named" not in log
    assert sys.executable not in spec.environment.values()

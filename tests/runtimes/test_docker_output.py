"""A Docker container's output can be read while it runs, and forms one text with what is saved afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from docker import APIClient

from nanohost.runtimes.container_log import ContainerOutput, read_output
from nanohost.runtimes.runtime_api import Container, ContainerSpec
from nanohost.runtimes.session_folders import container_log_path
from nanohost.testing.runtime_suite import RuntimeTestEnv, read_report
from tests.runtimes.test_conformance import DockerBench

pytestmark = [pytest.mark.docker, pytest.mark.behaviour("SE-11")]


@pytest.fixture
async def env(python_image: str, tmp_path: Path) -> AsyncIterator[RuntimeTestEnv]:
    stage = RuntimeTestEnv(DockerBench(python_image), tmp_path)
    yield stage
    await stage.cleanup()


async def read(spec: ContainerSpec, container: Container) -> ContainerOutput:
    return await asyncio.to_thread(read_output, spec.session_dir, runtime="docker", state=container.state, lines=100)


async def test_the_output_of_a_running_container_follows_that_of_earlier_ones(env: RuntimeTestEnv) -> None:
    spec = env.make_spec("obey")
    async with env.opened() as runtime:
        container = await runtime.start(spec)
        container_log_path(spec.session_dir).write_text("earlier\n")
        await read_report(spec)
        living = await read(spec, container)
        env.request_exit(spec)
        await env.deaths.wait_for_first()
        assert living.lines == ("earlier", "stand-in speaking: obey")
        assert await read(spec, container) == living


async def test_the_output_of_a_container_that_died_without_a_host_is_shown_before_it_is_reaped(
    env: RuntimeTestEnv, docker_engine: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = env.make_spec()
    async with env.opened() as runtime:
        container = await runtime.start(spec)
        await read_report(spec)
    await asyncio.to_thread(docker_engine.kill, container.state["id"])
    monkeypatch.setattr("nanohost.runtimes.container_log.REAP_CHECKS", 2)
    assert (await read(spec, container)).lines == ("stand-in speaking: wait",)


async def test_without_its_engine_saved_output_is_shown_with_a_note_on_what_is_missing(
    env: RuntimeTestEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = env.make_spec()
    async with env.opened() as runtime:
        container = await runtime.start(spec)
        await read_report(spec)
    container_log_path(spec.session_dir).write_text("earlier\n")
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
        output = await read(spec, container)
    assert output.lines == ("earlier",)
    assert "The Docker engine does not answer" in output.missing_reason

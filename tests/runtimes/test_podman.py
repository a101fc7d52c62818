"""Podman's socket in place of Docker's: the runtime suite, and what is specific to it."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from docker import APIClient
from docker.errors import APIError
from requests import Response

from nanohost.runtimes.docker_containers import DockerContainers
from nanohost.runtimes.docker_engine import EngineKind, check_engine
from nanohost.runtimes.docker_events import EngineEventListener
from nanohost.testing.runtime_suite import STUB_COMMAND, RuntimeHarness, RuntimeSuite, RuntimeTestEnv, read_report
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.layout import SessionLayout
from tests.runtimes.test_conformance import DockerBench


@pytest.mark.podman
@pytest.mark.behaviour("SE-01", "SE-03", "SE-10", "SE-11")
class TestPodman(RuntimeSuite):
    @pytest.fixture
    def harness(self, podman_image: str) -> RuntimeHarness:
        return DockerBench(podman_image)


@pytest.fixture
async def env(podman_image: str, tmp_path: Path) -> AsyncIterator[RuntimeTestEnv]:
    stage = RuntimeTestEnv(DockerBench(podman_image), tmp_path)
    yield stage
    await stage.cleanup()


@pytest.mark.podman
def test_podman_is_told_apart_from_docker(podman_engine: APIClient) -> None:
    assert check_engine(podman_engine) is EngineKind.PODMAN


@pytest.mark.docker
def test_docker_is_told_apart_from_podman(docker_engine: APIClient) -> None:
    assert check_engine(docker_engine) is EngineKind.DOCKER


@pytest.mark.behaviour("SE-03")
@pytest.mark.parametrize("state", ["stopped", "exited"])
def test_podmans_error_for_a_container_that_is_just_exiting_is_ignored(state: str) -> None:
    """Seen under load: 500 to the signal, while the container is still described as running."""

    class Ending:
        def kill(self, _: str, __: str) -> None:
            answer = Response()
            answer.status_code = 500
            raise APIError("500", response=answer, explanation=f"container state improper: {state}")

        def inspect_container(self, _: str) -> dict[str, dict[str, bool]]:
            return {"State": {"Running": True}}

    engine = cast("APIClient", Ending())
    DockerContainers(engine, install="i1", image="none", command=STUB_COMMAND).signal("c1", "SIGKILL")


@pytest.mark.podman
@pytest.mark.behaviour("SE-03")
async def test_a_signal_to_a_container_that_has_just_exited_is_not_an_error(
    env: RuntimeTestEnv, podman_engine: APIClient, podman_image: str
) -> None:
    spec = env.make_spec("obey")
    containers = DockerContainers(
        podman_engine, install=env.install, image=podman_image, command=STUB_COMMAND, profile_by_path=True
    )
    container = await asyncio.to_thread(containers.start, spec)
    await read_report(spec)
    env.request_exit(spec)
    await asyncio.to_thread(podman_engine.wait, container.state["id"])
    for name in ("SIGTERM", "SIGKILL"):
        await asyncio.to_thread(containers.signal, container.state["id"], name)
    assert (await asyncio.to_thread(containers.reap, container)).code == 7


@pytest.mark.podman
@pytest.mark.behaviour("SE-03")
async def test_an_exit_is_reported_as_an_event(
    env: RuntimeTestEnv, podman_engine: APIClient, podman_image: str
) -> None:
    spec = env.make_spec("obey")
    containers = DockerContainers(
        podman_engine, install=env.install, image=podman_image, command=STUB_COMMAND, profile_by_path=True
    )
    heard: queue.Queue[str] = queue.Queue()
    connected = threading.Event()
    watch = EngineEventListener(env.install, on_death=heard.put, on_connect=connected.set)
    watch.start()
    try:
        assert await asyncio.to_thread(connected.wait, scaled_timeout(HANG_TIMEOUT_S))
        container = await asyncio.to_thread(containers.start, spec)
        await read_report(spec)
        env.request_exit(spec)
        assert await asyncio.to_thread(heard.get, timeout=scaled_timeout(HANG_TIMEOUT_S)) == container.state["id"]
    finally:
        await asyncio.to_thread(watch.close)


@pytest.mark.podman
async def test_the_seccomp_profile_file_is_deleted_after_the_start(env: RuntimeTestEnv) -> None:
    spec = env.make_spec()
    async with env.opened() as runtime:
        await runtime.start(spec)
        report = await read_report(spec)
    assert report["seccomp"] == "2"
    assert list(SessionLayout(spec.session_dir).log_dir.glob("*.json")) == []

"""Specific to Docker: an engine that becomes unreachable and returns."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from docker import APIClient

from nanohost.errors import RuntimeUnavailable, SpawnError
from nanohost.model import LeaseId, SessionId
from nanohost.runtimes.docker import DockerRuntime
from nanohost.runtimes.docker_containers import create_arguments
from nanohost.runtimes.runtime_api import Container, ContainerSpec, Exited, Limits, Running
from nanohost.testing.runtime_suite import STUB_COMMAND, RuntimeTestEnv, read_report
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.layout import SessionLayout
from tests.runtimes.test_conformance import DockerBench


class Wire:
    """A socket in front of the engine's own, which can be disconnected and restored."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path = path
        self._engine = engine
        self._whole = True
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        server = await asyncio.start_unix_server(self._connect, self.path)
        async with server:
            await server.serve_forever()

    def cut(self) -> None:
        self._whole = False
        for connection in self._connections:
            connection.cancel()

    def mend(self) -> None:
        self._whole = True

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this = asyncio.current_task()
        assert this is not None
        self._connections.add(this)
        try:
            if self._whole:
                engine_reader, engine_writer = await asyncio.open_unix_connection(self._engine)
                with suppress(asyncio.CancelledError, OSError):
                    await asyncio.gather(copy(reader, engine_writer), copy(engine_reader, writer))
                engine_writer.close()
        finally:
            self._connections.discard(this)
            writer.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
async def env(python_image: str, tmp_path: Path) -> AsyncIterator[RuntimeTestEnv]:
    stage = RuntimeTestEnv(DockerBench(python_image), tmp_path)
    yield stage
    await stage.cleanup()


@pytest.fixture
async def wire(env: RuntimeTestEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not engine.startswith("unix://"):
        pytest.skip("this needs an engine on a local socket")
    wire = Wire(tmp_path / "engine.sock", engine.removeprefix("unix://"))
    serving = asyncio.create_task(wire.serve())
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", f"unix://{wire.path}")
        yield wire
    wire.cut()
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


@pytest.mark.docker
@pytest.mark.behaviour("SE-03")
async def test_an_exit_while_the_engine_was_unreachable_is_reported_afterwards(
    env: RuntimeTestEnv, wire: Wire, docker_engine: APIClient
) -> None:
    spec = env.make_spec()
    async with env.opened() as runtime:
        container = await runtime.start(spec)
        await read_report(spec)
        wire.cut()
        await asyncio.to_thread(docker_engine.kill, container.state["id"])
        await asyncio.to_thread(docker_engine.wait, container.state["id"])
        with pytest.raises(RuntimeUnavailable):
            await runtime.poll(container)
        assert env.deaths.recorded == []
        wire.mend()
        assert await env.deaths.wait_for_first() == container
        assert await runtime.poll(container) == Exited(code=137)


@pytest.mark.docker
async def test_exits_are_reported_after_the_engine_was_away(env: RuntimeTestEnv, wire: Wire) -> None:
    spec = env.make_spec("obey")
    async with env.opened() as runtime:
        container = await runtime.start(spec)
        await read_report(spec)
        wire.cut()
        wire.mend()
        assert await runtime.poll(container) == Running()
        env.request_exit(spec)
        assert await env.deaths.wait_for_first() == container


@pytest.mark.docker
async def test_a_start_without_an_engine_raises_an_error_with_a_hint(env: RuntimeTestEnv, wire: Wire) -> None:
    async with env.opened() as runtime:
        wire.cut()
        with pytest.raises(RuntimeUnavailable, match="No container for session session-one") as caught:
            await runtime.start(env.make_spec())
        assert "start Docker" in caught.value.hint
        wire.mend()


@pytest.mark.docker
async def test_a_missing_image_is_reported_with_the_command_to_type(env: RuntimeTestEnv) -> None:
    runtime = DockerRuntime(install=env.install, image="nanohost-agent:never-built", command=STUB_COMMAND)
    async with runtime.opened(env.deaths):
        with pytest.raises(SpawnError, match="image is missing") as caught:
            await runtime.start(env.make_spec())
    assert caught.value.hint == "nanohost image build"


@pytest.mark.docker
async def test_a_refusal_of_the_engine_is_reported_in_its_words(env: RuntimeTestEnv) -> None:
    async with env.opened() as runtime:
        with pytest.raises(SpawnError, match="memory limit"):
            await runtime.start(env.make_spec(limits=Limits(memory_bytes=1024)))
        assert list(await runtime.adopt()) == []


@pytest.mark.docker
@pytest.mark.behaviour("SE-03")
async def test_a_container_that_exited_without_a_host_is_removed_and_its_output_kept(
    env: RuntimeTestEnv, docker_engine: APIClient
) -> None:
    spec = env.make_spec("obey")
    async with env.opened() as runtime:
        container = await runtime.start(spec)
        await read_report(spec)
    env.request_exit(spec)
    await asyncio.to_thread(docker_engine.wait, container.state["id"])
    async with env.opened() as restarted:
        assert list(await restarted.adopt()) == []
    left = docker_engine.containers(all=True, filters={"label": f"nanohost.install={env.install}"})
    assert left == []
    assert "stand-in speaking" in (SessionLayout(spec.session_dir).log_dir / "container.log").read_text()


@pytest.mark.docker
async def test_closing_a_runtime_takes_no_time(env: RuntimeTestEnv) -> None:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        for _ in range(3):
            async with env.opened() as runtime:
                await runtime.adopt()


async def test_a_closed_runtime_raises_an_error() -> None:
    runtime = DockerRuntime(install="i", image="none")
    container = Container(session_id=SessionId("s"), lease=LeaseId("l"), state={})
    with pytest.raises(RuntimeUnavailable, match="not open"):
        await runtime.poll(container)


@pytest.mark.behaviour("SE-10")
def test_a_docker_container_is_created_with_every_restriction(tmp_path: Path) -> None:
    spec = ContainerSpec(
        session_id=SessionId("s"),
        lease=LeaseId("0123456789"),
        session_dir=tmp_path,
        agent_dir=tmp_path / "agent",
        environment={},
    )
    asked = create_arguments(spec, install="abcdefghij", image="image", command=None, seccomp="{}")
    host = asked["host_config"]
    assert asked["name"] == "nanohost-abcdefgh-s-01234567"
    assert not asked["user"].startswith("0:")
    assert host["NetworkMode"] == "none"
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges", "seccomp={}"]
    assert host["ReadonlyRootfs"] is True
    assert host["Init"] is True
    assert host["Memory"] == host["MemorySwap"] == spec.limits.memory_bytes
    assert host["PidsLimit"] == spec.limits.pids
    read_only = {mount["Target"] for mount in host["Mounts"] if mount["ReadOnly"]}
    assert read_only == {"/workspace/in", "/workspace/run"}

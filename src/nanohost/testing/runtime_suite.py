"""What every runtime must do, as tests. A runtime's author subclasses the suite and brings a bench:

    class TestMyRuntime(RuntimeSuite):
        @pytest.fixture
        def bench(self) -> RuntimeHarness:
            return MyBench()

The bench makes runtimes whose containers run `python3 stand_in.py` in the agent's folder (the working directory) where
a runner would be; the suite puts that program there. A fresh runtime of the same install is what our own restart looks
like. Every wait ends after `HANG_TIMEOUT_S` seconds, and everything started is ended. Needs Linux, pytest and
pytest-asyncio; put `pytest.register_assert_rewrite("nanohost.testing.runtime_suite")` into a conftest.py for readable
failures.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import socket
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nanohost.errors import SpawnError
from nanohost.model import LeaseId, SessionId
from nanohost.runtimes.runtime_api import Container, ContainerSpec, Exited, Isolation, Limits, Running, Runtime
from nanohost.testing import stub_runner
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.layout import SessionLayout

STUB_COMMAND = ("python3", "stand_in.py")
"""What a container of a bench runs; the six arguments that say whose it is follow."""

HOST_SECRET = "a-secret-of-the-host"  # noqa: S105 - made up, so that the suite can look for it

ALLOWED_VARIABLES = {
    *("HOME", "PATH", "LANG", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"),
    *("NANOHOST_WORKSPACE", "PWD", "HOSTNAME", "LC_CTYPE", "TERM", "container"),
}
"""What a runtime, its engine or Python itself may add to a spec's environment."""


FORBIDDEN_SYSCALLS = (
    *("io_uring_setup", "ptrace", "process_vm_readv", "AF_VSOCK", "AF_ALG", "AF_PACKET", "unshare", "clone"),
    *("add_key", "keyctl", "bpf", "userfaultfd", "perf_event_open", "mount", "kexec_load", "open_by_handle_at"),
    "fcntl",
)
"""The least that a container is refused; the stand-in tries more."""


class RuntimeHarness(ABC):
    """Makes runtimes of one kind."""

    @abstractmethod
    def runtime(self, install: str) -> Runtime:
        """A fresh runtime, not opened, for this install; its containers run STAND_IN."""


@dataclass(slots=True)
class DeathRecorder:
    """A death listener that can be waited for."""

    recorded: list[Container] = field(default_factory=list)
    _recorded_event: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, container: Container) -> None:
        self.recorded.append(container)
        self._recorded_event.set()

    async def wait_for_first(self) -> Container:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            await self._recorded_event.wait()
        return self.recorded[0]


@dataclass(slots=True)
class RuntimeTestEnv:
    """One test's sessions, runtimes and containers, all of one install."""

    harness: RuntimeHarness
    root: Path
    install: str = field(default_factory=lambda: uuid.uuid4().hex)
    deaths: DeathRecorder = field(default_factory=DeathRecorder)
    _pipes: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Runtime]:
        """A fresh runtime; entering this again is our own restart."""
        runtime = self.harness.runtime(self.install)
        async with runtime.opened(self.deaths):
            yield runtime

    def make_spec(
        self,
        mode: str = "wait",
        *,
        session: str = "one",
        environment: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> ContainerSpec:
        """A session on disk, complete with the stand-in and the pipes it talks through."""
        session_dir, agent_dir = self.root / "sessions" / session, self.root / "agent"
        agent_dir.mkdir(exist_ok=True)
        shutil.copy(stub_runner.__file__, agent_dir / "stand_in.py")
        for name in ("in", "out", "state", "run", "log"):
            (session_dir / name).mkdir(parents=True, exist_ok=True)
        for name in ("report", "orders"):
            pipe = session_dir / "out" / name
            if not pipe.exists():
                os.mkfifo(pipe)
                pipe.chmod(0o666)
        return ContainerSpec(
            session_id=SessionId(f"session-{session}"),
            lease=LeaseId(uuid.uuid4().hex),
            session_dir=session_dir,
            agent_dir=agent_dir,
            environment={"STAND_IN": mode, **(environment or {})},
            limits=limits or Limits(pids=64),
        )

    def request_exit(self, spec: ContainerSpec) -> None:
        """Let a stand-in that obeys exit with 7."""
        pipe = os.open(SessionLayout(spec.session_dir).out_dir / "orders", os.O_RDWR | os.O_NONBLOCK)
        os.write(pipe, b"!")
        # Kept open: a pipe nobody has open forgets what was written.
        self._pipes.append(pipe)

    async def cleanup(self) -> None:
        """End whatever is left of this install."""
        while self._pipes:
            os.close(self._pipes.pop())
        async with self.opened() as runtime:
            for container in await runtime.adopt():
                await runtime.stop(container, grace_s=0)


async def read_report(spec: ContainerSpec) -> dict[str, Any]:
    """What the stand-in says first. Waits for it."""
    loop = asyncio.get_running_loop()
    # Opened for writing too: the pipe then has no end as long as we listen.
    pipe = os.open(SessionLayout(spec.session_dir).out_dir / "report", os.O_RDWR | os.O_NONBLOCK)
    said = bytearray()
    complete: asyncio.Future[None] = loop.create_future()

    def read() -> None:
        said.extend(os.read(pipe, 65536))
        if said.endswith(b"\n") and not complete.done():
            complete.set_result(None)

    loop.add_reader(pipe, read)
    try:
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            await complete
    finally:
        loop.remove_reader(pipe)
        os.close(pipe)
    found: dict[str, Any] = json.loads(said)
    return found


class RuntimeSuite:
    """Subclass this, and bring a fixture `harness`."""

    @pytest.fixture
    def harness(self) -> RuntimeHarness:
        raise NotImplementedError("a runtime's own test class brings the bench")

    @pytest.fixture
    async def env(self, harness: RuntimeHarness, tmp_path: Path) -> AsyncIterator[RuntimeTestEnv]:
        stage = RuntimeTestEnv(harness, tmp_path)
        yield stage
        await stage.cleanup()

    # Starting

    async def test_a_container_runs_in_the_agents_folder_with_its_session_and_lease(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec()
        async with env.opened() as runtime:
            container = await runtime.start(spec)
            report = await read_report(spec)
        assert (container.session_id, container.lease) == (spec.session_id, spec.lease)
        assert all(isinstance(value, str) for value in container.state.values())
        assert "stand_in.py" in report["files"]
        assert report["arguments"] == [
            *("--install", env.install, "--session", spec.session_id, "--lease", spec.lease),
        ]

    async def test_a_container_can_write_to_its_writable_folders(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec()
        async with env.opened() as runtime:
            await runtime.start(spec)
            attempts = (await read_report(spec))["attempts"]
        for where in ("write out/", "write state/", "write agent/", "write temporary", "write outbound"):
            assert attempts[where] == "done", where

    async def test_a_container_has_the_environment_of_its_spec_and_nothing_of_the_hosts(
        self, env: RuntimeTestEnv, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", HOST_SECRET)
        spec = env.make_spec(environment={"GREETING": "hello, world = \n'\"$x"})
        async with env.opened() as runtime:
            await runtime.start(spec)
            environment = (await read_report(spec))["environment"]
        assert environment["GREETING"] == spec.environment["GREETING"]
        assert environment["HOME"].endswith("/state")
        assert set(environment) - ALLOWED_VARIABLES == set(spec.environment)
        assert HOST_SECRET not in environment.values()

    async def test_the_same_lease_started_twice_is_one_container(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec()
        async with env.opened() as runtime:
            first, second = await asyncio.gather(runtime.start(spec), runtime.start(spec))
            third = await runtime.start(spec)
            assert first == second == third
            assert list(await runtime.adopt()) == [first]

    async def test_a_lease_started_before_a_restart_of_the_host_is_not_started_again(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec()
        async with env.opened() as runtime:
            first = await runtime.start(spec)
        async with env.opened() as restarted:
            assert await restarted.start(spec) == first
            assert list(await restarted.adopt()) == [first]

    async def test_a_failed_start_raises_an_error_and_leaves_nothing_behind(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec()
        shutil.rmtree(spec.agent_dir)
        async with env.opened() as runtime:
            with pytest.raises(SpawnError):
                await runtime.start(spec)
            assert list(await runtime.adopt()) == []

    async def test_a_cancelled_start_leaves_nothing_or_a_container_that_is_found(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec()
        async with env.opened() as runtime:
            start = asyncio.create_task(runtime.start(spec))
            await asyncio.sleep(0)
            start.cancel()
            with pytest.raises(asyncio.CancelledError):
                await start
            assert isinstance(await runtime.poll(_make_unstarted(spec)), Exited)
            assert list(await runtime.adopt()) == []

    # Polling

    async def test_poll_before_any_start_reports_that_nothing_runs(self, env: RuntimeTestEnv) -> None:
        async with env.opened() as runtime:
            assert isinstance(await runtime.poll(_make_unstarted(env.make_spec())), Exited)

    async def test_poll_finds_a_container_whose_state_was_never_stored(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec()
        async with env.opened() as runtime:
            await runtime.start(spec)
        async with env.opened() as restarted:
            assert await restarted.poll(_make_unstarted(spec)) == Running()

    async def test_poll_returns_the_exit_code_after_an_exit(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec("exit")
        async with env.opened() as runtime:
            container = await runtime.start(spec)
            await read_report(spec)
            await env.deaths.wait_for_first()
            state = await runtime.poll(container)
        assert isinstance(state, Exited)
        assert state.code == 3

    # Deaths

    async def test_an_exit_is_reported_once(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec("obey")
        async with env.opened() as runtime:
            container = await runtime.start(spec)
            await read_report(spec)
            assert env.deaths.recorded == []
            env.request_exit(spec)
            assert await env.deaths.wait_for_first() == container
            await runtime.stop(container, grace_s=0)
            await runtime.adopt()
            assert env.deaths.recorded == [container]

    async def test_the_output_of_a_container_is_stored_in_its_session(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec("exit")
        async with env.opened() as runtime:
            await runtime.start(spec)
            await read_report(spec)
            await env.deaths.wait_for_first()
        log = SessionLayout(spec.session_dir).log_dir / "container.log"
        assert "stand-in speaking: exit" in log.read_text()

    # Stopping

    async def test_a_container_is_asked_to_stop_before_it_is_killed(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec()
        async with env.opened() as runtime:
            container = await runtime.start(spec)
            await read_report(spec)
            await runtime.stop(container, grace_s=scaled_timeout(HANG_TIMEOUT_S))
            state = await runtime.poll(container)
            assert isinstance(state, Exited)
            assert state.code == 0
            assert env.deaths.recorded == [container]

    async def test_a_container_that_ignores_the_stop_request_is_killed(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec("stubborn")
        async with env.opened() as runtime:
            container = await runtime.start(spec)
            await read_report(spec)
            async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
                await runtime.stop(container, grace_s=0.1)
            state = await runtime.poll(container)
            assert isinstance(state, Exited)
            assert state.code == 137

    async def test_no_process_of_a_stopped_container_survives(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec("parent")
        async with env.opened() as runtime:
            container = await runtime.start(spec)
            await read_report(spec)
            assert not _has_exited(spec)
            await runtime.stop(container, grace_s=scaled_timeout(HANG_TIMEOUT_S))
            assert _has_exited(spec)

    async def test_stopping_an_exited_or_never_started_container_is_harmless(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec("exit")
        async with env.opened() as runtime:
            await runtime.stop(_make_unstarted(spec), grace_s=0)
            container = await runtime.start(spec)
            await read_report(spec)
            await env.deaths.wait_for_first()
            await runtime.stop(container, grace_s=0)
            await runtime.stop(container, grace_s=0)
            assert env.deaths.recorded == [container]

    # Our own restart

    async def test_a_restarted_host_adopts_its_containers_and_is_told_of_their_exits(self, env: RuntimeTestEnv) -> None:
        specs = [env.make_spec("obey", session="one"), env.make_spec("obey", session="two")]
        async with env.opened() as runtime:
            started = [await runtime.start(spec) for spec in specs]
            for spec in specs:
                await read_report(spec)
        async with env.opened() as restarted:
            adopted = await restarted.adopt()
            assert sorted(adopted, key=_session_id) == started
            assert await restarted.poll(started[0]) == Running()
            env.request_exit(specs[0])
            assert await env.deaths.wait_for_first() == started[0]
            assert isinstance(await restarted.poll(started[0]), Exited)
            assert list(await restarted.adopt()) == [started[1]]

    async def test_a_restarted_host_can_stop_containers_it_did_not_start(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec()
        async with env.opened() as runtime:
            container = await runtime.start(spec)
            await read_report(spec)
        async with env.opened() as restarted:
            await restarted.stop(container, grace_s=scaled_timeout(HANG_TIMEOUT_S))
            assert isinstance(await restarted.poll(container), Exited)
            assert list(await restarted.adopt()) == []

    async def test_a_container_that_exited_while_the_host_was_down_is_reported_as_exited(
        self, env: RuntimeTestEnv
    ) -> None:
        spec = env.make_spec("obey")
        async with env.opened() as runtime:
            container = await runtime.start(spec)
            await read_report(spec)
        env.request_exit(spec)
        await asyncio.to_thread(_has_exited, spec, wait=True)
        async with env.opened() as restarted:
            # An engine may need a moment to see it itself; then the news follows.
            if await restarted.adopt():
                await env.deaths.wait_for_first()
            assert isinstance(await restarted.poll(container), Exited)
            assert list(await restarted.adopt()) == []

    async def test_containers_of_another_install_are_left_alone(self, env: RuntimeTestEnv, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        other = RuntimeTestEnv(env.harness, tmp_path / "other")
        spec = env.make_spec()
        async with env.opened() as runtime, other.opened() as stranger:
            container = await runtime.start(spec)
            await read_report(spec)
            assert list(await stranger.adopt()) == []
            await stranger.stop(container, grace_s=0)
            assert await runtime.poll(container) == Running()

    # Walls

    async def test_a_container_cannot_write_outside_its_own_folders(self, env: RuntimeTestEnv) -> None:
        attempts = (await _run_isolated(env))["attempts"]
        for where in ("in/", "run/", "workspace", "/", "/usr", "/etc", "kernel"):
            assert attempts[f"write {where}"] in ("EROFS", "EACCES", "EPERM"), where

    async def test_a_container_cannot_replace_its_database_by_a_symlink(self, env: RuntimeTestEnv) -> None:
        attempts = (await _run_isolated(env))["attempts"]
        assert attempts["replace outbound"] == "EBUSY"
        assert attempts["remove outbound"] == "EBUSY"

    async def test_a_container_sees_no_other_session_and_no_secret_of_the_machine(self, env: RuntimeTestEnv) -> None:
        other = env.make_spec(session="other").session_dir
        report = await _run_isolated(env, {"ELSEWHERE": str(other)})
        assert report["attempts"]["see elsewhere"] in ("ENOENT", "EACCES")
        assert report["attempts"]["see the engine"] == "ENOENT"
        assert report["attempts"]["read shadow"] in ("ENOENT", "EACCES")
        assert len(report["processes"]) <= 4

    async def test_a_container_has_no_network(self, env: RuntimeTestEnv) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            report = await _run_isolated(env, {"PORT": str(server.getsockname()[1])})
        assert report["attempts"]["connect"] == "ECONNREFUSED"
        assert report["interfaces"] == []

    async def test_a_container_has_no_privileges(self, env: RuntimeTestEnv) -> None:
        report = await _run_isolated(env)
        assert report["uid"] != 0
        assert {int(each, 16) for each in report["capabilities"]} == {0}
        assert report["no_new_privileges"] == "1"
        assert report["seccomp"] == "2"
        assert report["attempts"]["new user namespace"] == "EPERM"

    async def test_a_container_cannot_make_dangerous_system_calls(self, env: RuntimeTestEnv) -> None:
        attempts = (await _run_isolated(env))["attempts"]
        calls = {name.removeprefix("call "): result for name, result in attempts.items() if name.startswith("call ")}
        assert calls.pop("clone3") == "ENOSYS"
        for other_kind in ("32-bit call", "x32 call"):
            assert calls.pop(other_kind, "ENOSYS") in ("ENOSYS", "SIGSYS"), other_kind
        assert set(FORBIDDEN_SYSCALLS) <= set(calls)
        assert {name: result for name, result in calls.items() if result != "EPERM"} == {}

    async def test_a_container_can_do_what_every_agent_needs(self, env: RuntimeTestEnv) -> None:
        spec = env.make_spec(environment={"TRY_WORK": "yes"})
        async with env.opened() as runtime:
            await runtime.start(spec)
            attempts = (await read_report(spec))["attempts"]
        works = {name.removeprefix("do "): result for name, result in attempts.items() if name.startswith("do ")}
        assert {"threads", "programs", "pools", "event loops", "databases", "interfaces", "versions"} == set(works)
        if works["versions"] == "not there":
            del works["versions"]
        assert {name: result for name, result in works.items() if result != "done"} == {}

    async def test_a_container_can_start_only_a_limited_number_of_processes(self, env: RuntimeTestEnv) -> None:
        report = await _run_isolated(env, mode="crowd", limits=Limits(pids=32))
        assert 0 < report["children"] <= 32

    async def test_a_container_above_its_memory_limit_is_killed_alone(self, env: RuntimeTestEnv) -> None:
        _require_isolation(env)
        spec = env.make_spec("hoard", limits=Limits(memory_bytes=64 * 1024**2))
        async with env.opened() as runtime:
            container = await runtime.start(spec)
            await read_report(spec)
            await env.deaths.wait_for_first()
            state = await runtime.poll(container)
        assert isinstance(state, Exited)
        assert state.code != 0


async def _run_isolated(
    stage: RuntimeTestEnv,
    environment: Mapping[str, str] | None = None,
    *,
    mode: str = "wait",
    limits: Limits | None = None,
) -> dict[str, Any]:
    """What a stand-in found inside. Skips the test for a runtime that promises no walls."""
    _require_isolation(stage)
    spec = stage.make_spec(mode, environment={"TRY_WALLS": "yes", **(environment or {})}, limits=limits)
    async with stage.opened() as runtime:
        await runtime.start(spec)
        return await read_report(spec)


def _require_isolation(stage: RuntimeTestEnv) -> None:
    if stage.harness.runtime(stage.install).isolation is Isolation.NONE:
        pytest.skip("this runtime promises no walls")


def _make_unstarted(spec: ContainerSpec) -> Container:
    """What the host knows when it crashed before it could store a container's state."""
    return Container(session_id=spec.session_id, lease=spec.lease, state={})


def _session_id(container: Container) -> str:
    return container.session_id


def _has_exited(spec: ContainerSpec, *, wait: bool = False) -> bool:
    """Does nothing of the stand-in live any more? It and its children hold this file locked."""
    with SessionLayout(spec.session_dir).out_dir.joinpath("alive").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

"""Containers that outlived their host are stopped without one, whichever runtime started them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nanohost.commands.sessions import stop_without_host
from nanohost.db import install, sessions
from nanohost.errors import RuntimeUnavailable, SettingsError
from nanohost.model import LeaseId, Session, SessionId
from nanohost.runtimes.choose import reopen_runtime
from nanohost.runtimes.runtime_api import Container, ContainerSpec, DeathListener, Exited, Isolation, RunState, Runtime
from tests.commands.conftest import Operator

NO_INSTALL = Path("/no/install")


class Engine:
    """A runtime with containers that an earlier host left."""

    isolation = Isolation.CONTAINER

    def __init__(self, name: str, *running: str, answers: bool = True) -> None:
        self.name = name
        self._answers = answers
        self.running = [Container(session_id=SessionId(id), lease=LeaseId("l"), state={}) for id in running]

    @asynccontextmanager
    async def opened(self, on_death: DeathListener) -> AsyncIterator[None]:
        if not self._answers:
            raise RuntimeUnavailable(f"{self.name} does not answer")
        yield

    async def start(self, spec: ContainerSpec) -> Container:
        raise NotImplementedError

    async def stop(self, container: Container, *, grace_s: float) -> None:
        self.running.remove(container)

    async def poll(self, container: Container) -> RunState:
        return Exited()

    async def adopt(self) -> Sequence[Container]:
        return list(self.running)


async def leased(operator: Operator, runtime: str) -> Session:
    """A session with a recorded lease."""
    store, now = operator.context.store, operator.context.clock.now()
    group = (await operator.run("agents create", folder="main"))["id"]
    async with store.transaction() as tx:
        await install.get_or_create(tx, now)
        id = await sessions.add(tx, agent_group=group, messaging_group=None, thread_id="t", now=now)
        await sessions.set_lease(tx, id, LeaseId("l"), runtime)
    return await sessions.get(store, id)


async def test_stopping_one_session_stops_only_its_container(operator: Operator) -> None:
    session = await leased(operator, "docker")
    docker = Engine("docker", session.id, "other")
    assert await stop_without_host(
        operator.context.store, NO_INSTALL, session, make_runtime=lambda name, _: docker
    ) == [session.id]
    assert [one.session_id for one in docker.running] == ["other"]


async def test_stopping_all_includes_containers_without_a_session(operator: Operator) -> None:
    session = await leased(operator, "process")
    engines = {
        "docker": Engine("docker", answers=False),
        "bubblewrap": Engine("bubblewrap", "stray"),
        "process": Engine("process", session.id),
    }
    stopped = await stop_without_host(
        operator.context.store, NO_INSTALL, None, make_runtime=lambda name, _: engines[name]
    )
    assert set(stopped) == {session.id, "stray"}


async def test_an_unusable_runtime_file_does_not_prevent_stopping_containers(
    operator: Operator, tmp_path: Path
) -> None:
    session = await leased(operator, "process")
    (tmp_path / "runtimes").mkdir(exist_ok=True)
    (tmp_path / "runtimes" / "own.py").write_text("raise SystemExit")
    engines = {name: Engine(name) for name in ("docker", "bubblewrap")} | {"process": Engine("process", session.id)}

    def make(name: str, install_id: str) -> Runtime:
        return engines.get(name) or reopen_runtime(name, root=tmp_path, install=install_id)

    assert await stop_without_host(operator.context.store, tmp_path, None, make_runtime=make) == [session.id]


@pytest.mark.parametrize("every", [True, False])
async def test_an_unresponsive_runtime_with_containers_is_reported(operator: Operator, every: bool) -> None:
    session = await leased(operator, "docker")
    with pytest.raises(RuntimeUnavailable, match="docker does not answer"):
        await stop_without_host(
            operator.context.store,
            NO_INSTALL,
            None if every else session,
            make_runtime=lambda name, _: Engine(name, answers=name != "docker"),
        )


@pytest.mark.parametrize("name", ["docker", "bubblewrap", "process"])
def test_each_recorded_runtime_can_be_opened_again(name: str) -> None:
    assert reopen_runtime(name, root=NO_INSTALL, install="i").name == name


def test_a_runtime_of_an_unknown_version_is_an_error() -> None:
    with pytest.raises(SettingsError, match="'podman'"):
        reopen_runtime("podman", root=NO_INSTALL, install="i")

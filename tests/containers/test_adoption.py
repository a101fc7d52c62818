"""The settings that a container was started with, and whether they are still the current ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nanohost.containers.adoption import is_outdated, persisted_state
from nanohost.model import AgentGroupId, LeaseId, Session, SessionId
from nanohost.runtimes.bubblewrap import BubblewrapRuntime
from nanohost.runtimes.docker import DockerRuntime
from nanohost.runtimes.runtime_api import Container, ContainerSpec, Limits, Runtime
from nanohost.testing.manual_clock import START

SPEC = ContainerSpec(
    session_id=SessionId("s"),
    lease=LeaseId("l"),
    session_dir=Path("/sessions/s"),
    agent_dir=Path("/groups/a"),
    environment={},
    limits=Limits(memory_bytes=1, cpus=1.0, pids=1),
)
CONTAINER = Container(session_id=SPEC.session_id, lease=SPEC.lease, state={})
SESSION = Session(
    id=SPEC.session_id,
    agent_group_id=AgentGroupId(1),
    group_folder="a",
    messaging_group_id=None,
    thread_id=None,
    out_cursor=0,
    ack_cursor=0,
    due_at=None,
    lease=SPEC.lease,
    runtime="docker",
    runtime_state={},
    created_at=START,
    last_active_at=START,
)


def runtime_of(kind: str) -> DockerRuntime | BubblewrapRuntime:
    return DockerRuntime(install="i", image="image") if kind == "docker" else BubblewrapRuntime(install="i")


@pytest.mark.parametrize("kind", ["docker", "bubblewrap"])
@pytest.mark.behaviour("SE-03")
def test_a_container_with_an_older_seccomp_filter_is_outdated(kind: str) -> None:
    then, now = runtime_of(kind), runtime_of(kind)
    assert not is_outdated(started(then), SPEC, now)
    then.system_calls = "the digest of an older one"
    assert is_outdated(started(then), SPEC, now)


def test_a_container_without_the_installs_tools_is_outdated() -> None:
    runtime = runtime_of("docker")
    assert is_outdated(started(runtime), replace(SPEC, extensions=(Path("/install/tools"),)), runtime)


def test_a_container_without_recorded_details_counts_as_up_to_date() -> None:
    assert not is_outdated(SESSION, SPEC, runtime_of("docker"))


def started(runtime: Runtime) -> Session:
    return replace(SESSION, runtime_state=dict(persisted_state(CONTAINER, SPEC, runtime)))

"""/stop with the runner in a Docker container."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.chat_commands.stop import STOPPED_TEXT
from nanohost.runtimes.docker import DockerRuntime
from nanohost.runtimes.docker_image import ensure_image
from tests.support.container_engines import docker_engine
from tests.support.flow import install_id_for, run_host
from tests.support.invariants import wait_for_claims

__all__ = ["docker_engine"]

LIMIT_S = 60.0


@pytest.mark.docker
@pytest.mark.usefixtures("docker_engine")
@pytest.mark.behaviour("SE-12")
async def test_stop_interrupts_a_turn_in_docker_and_keeps_the_container(tmp_path: Path) -> None:
    runtime = DockerRuntime(install=install_id_for(tmp_path), image=await ensure_image(progress=lambda _: None))
    async with run_host(tmp_path, runtime=runtime) as flow:
        await flow.wire(script=[{"match": "long", "actions": [{"hang": True}]}])
        await flow.fake.person_writes("long")
        await wait_for_claims(flow, timeout_s=LIMIT_S)
        await flow.fake.person_writes("/stop")
        await flow.fake.wait_for_sent(1, LIMIT_S)
        await flow.fake.person_writes("hi")
        await flow.fake.wait_for_sent(2, LIMIT_S)
        assert len(await flow.containers()) == 1
    assert flow.texts() == [STOPPED_TEXT, "echo: hi"]

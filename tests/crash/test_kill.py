"""kill -9 of the host or of a container, at any moment of a run of messages: nothing lost, nothing answered twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.runs import SoakTest, run_soak

HOST_KILLS = 3
RUNNER_KILLS = 3
MESSAGES = 60


@pytest.mark.behaviour("IN-01", "IN-02", "SE-01", "SE-07", "RU-03", "RU-08", "DL-01", "DL-02")
@pytest.mark.parametrize("runtime", ["process", pytest.param("docker", marks=pytest.mark.docker)])
async def test_under_random_kills_no_message_is_lost_or_answered_twice(
    request: pytest.FixtureRequest, tmp_path: Path, runtime: str
) -> None:
    if runtime == "docker":
        request.getfixturevalue("docker_engine")
    soak = SoakTest(runtime=runtime, messages=MESSAGES, host_kills=HOST_KILLS, runner_kills=RUNNER_KILLS)
    result = await run_soak(soak, tmp_path / "home")
    assert result.is_sound, result
    assert (result.events, result.ambiguous_extra) == (MESSAGES, 0)
    assert (result.host_kills, result.container_kills) == (HOST_KILLS, RUNNER_KILLS)

"""A process killed at its most critical moments: a few points, a few times each. `make crash` tests all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.runs import run_host_kills_at, run_runner_kills_at


@pytest.mark.behaviour("IN-01", "SE-01", "SE-03", "DL-01")
@pytest.mark.parametrize("point", ["routing.written", "containers.started"])
async def test_a_host_killed_at_a_crash_point_loses_and_repeats_nothing(tmp_path: Path, point: str) -> None:
    result = await run_host_kills_at(point, tmp_path / "home", kills=2)
    assert result.is_sound, result
    assert (result.kills, result.ambiguous_extra) == (2, 0)


@pytest.mark.behaviour("DL-05")
async def test_an_ambiguous_send_is_not_duplicated_on_a_platform_with_idempotency_keys(
    tmp_path: Path,
) -> None:
    result = await run_host_kills_at("sender.sent", tmp_path / "home", kills=2)
    assert result.is_sound, result
    assert result.ambiguous >= 2
    assert result.ambiguous_extra == 0


@pytest.mark.behaviour("DL-05")
async def test_without_idempotency_keys_each_ambiguous_send_is_duplicated_at_most_once(tmp_path: Path) -> None:
    result = await run_host_kills_at("sender.sent", tmp_path / "home", kills=2, idempotent=False)
    assert result.is_sound, result
    assert 0 < result.ambiguous_extra <= result.ambiguous


@pytest.mark.behaviour("RU-03", "RU-08", "SE-07")
async def test_runners_killed_at_the_end_of_a_turn_lose_and_repeat_nothing(tmp_path: Path) -> None:
    result = await run_runner_kills_at("runner.finishing", tmp_path / "home", kills=4)
    assert result.is_sound, result
    assert result.kills > 4

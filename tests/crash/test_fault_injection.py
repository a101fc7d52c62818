"""Faults of the environment that end again: some of the cases of `make crash`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.fault_injection import CASES, DESCRIPTIONS, clock_jump, engine_outage, full_disk, read_only_files
from tests.crash.faults import FaultUnavailable


def test_every_fault_is_explained_on_the_reliability_page() -> None:
    assert CASES.keys() == DESCRIPTIONS.keys()
    written = (Path(__file__).parent.parent.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert {name for name in CASES if f"| {name} " not in written} == set()


@pytest.mark.behaviour("IN-01", "IN-03")
async def test_a_host_with_a_full_disk_keeps_accepted_events_and_resumes_with_free_space(tmp_path: Path) -> None:
    try:
        result = await full_disk(tmp_path / "small" / "home")
    except FaultUnavailable:  # without the right to mount: no write of its processes succeeds
        result = await read_only_files(tmp_path / "home")
    assert result.is_sound, result


@pytest.mark.behaviour("SE-06")
async def test_a_clock_set_back_an_hour_delays_nobody_by_an_hour(tmp_path: Path) -> None:
    result = await clock_jump(tmp_path / "home", name="clock an hour back", by_s=-3600.0)
    assert result.is_sound, result


@pytest.mark.docker
@pytest.mark.behaviour("SE-09")
@pytest.mark.usefixtures("docker_engine")
async def test_an_engine_outage_only_delays(tmp_path: Path) -> None:
    result = await engine_outage(tmp_path / "home")
    assert result.is_sound, result

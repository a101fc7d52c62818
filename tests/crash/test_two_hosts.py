"""Two hosts on one home: one serves, the other says who does and ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.fault_injection import two_hosts


@pytest.mark.behaviour("SE-01", "SE-02")
async def test_of_two_hosts_started_together_one_serves_and_the_other_takes_over_when_it_is_killed(
    tmp_path: Path,
) -> None:
    result = await two_hosts(tmp_path / "home", rounds=1)
    assert result.is_sound, result
    assert (result.host_kills, result.notices) == (1, 0)

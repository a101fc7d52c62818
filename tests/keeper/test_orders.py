"""What a runner was told to do: in how much time it is done, whether it listens or not."""

from __future__ import annotations

import pytest

from nanohost.keeper.orders import DISOBEDIENT_GRACE_S, OBEY_WITHIN_S


@pytest.mark.behaviour("SE-12")
def test_a_turn_is_stopped_within_two_seconds_however_deaf_its_runner_is() -> None:
    assert OBEY_WITHIN_S + DISOBEDIENT_GRACE_S < 2, "so long to obey, then so long until SIGKILL"

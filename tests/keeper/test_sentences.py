"""What people are told when no container can answer."""

from __future__ import annotations

import pytest

from nanohost.errors import HomeError, NanohostError, RuntimeUnavailable, SpawnError
from nanohost.keeper.sentences import UNNAMED, no_container


@pytest.mark.behaviour("SE-09")
def test_what_is_wrong_with_the_machine_is_said_and_what_to_do_about_it() -> None:
    told = no_container(RuntimeUnavailable("bubblewrap is not installed.", hint="apt-get install bubblewrap"))
    assert "bubblewrap is not installed. I keep" in told
    assert "apt-get install bubblewrap" in told


@pytest.mark.parametrize(
    "error",
    [
        SpawnError("No sandbox for session s1: bwrap: Can't find source path /srv/home/sessions/main/s1/in"),
        RuntimeUnavailable("/tmp/nanohost-0 is not a private folder of this user."),
        HomeError("the model socket cannot be made"),
        ValueError("a mistake of ours in /srv"),
    ],
)
def test_nobody_is_told_a_path_of_this_machine(error: Exception) -> None:
    assert no_container(error) == UNNAMED


def test_a_hint_that_names_a_path_stays_in_the_log() -> None:
    error: NanohostError = SpawnError("No free link", hint="rm -r /tmp/nanohost-0")
    assert "/" not in no_container(error)

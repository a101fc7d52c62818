"""The first hour in docs/tutorial.md is what people see."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.errors import RuntimeUnavailable
from nanohost.runtimes.bubblewrap import BubblewrapRuntime
from tests.story.first_hour import FAST, FirstHourStory
from tests.story.pages import FIRST_HOUR
from tests.support.requirements import skip_or_fail


@pytest.mark.bubblewrap
@pytest.mark.behaviour("OP-20", "GW-08", "AC-01")
def test_the_tutorial_of_the_first_hour_matches_what_is_seen(tmp_path: Path) -> None:
    try:
        BubblewrapRuntime(install="first-hour").check()
    except RuntimeUnavailable as error:
        skip_or_fail("BUBBLEWRAP", str(error))
    assert FirstHourStory(tmp_path, FAST).play() == FIRST_HOUR.current_text(), "run make transcripts"

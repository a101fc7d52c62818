"""The night in docs/how-to/when-status-shows.md matches what an operator sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.errors import RuntimeUnavailable
from nanohost.runtimes.bubblewrap import BubblewrapRuntime
from tests.story.night import NightStory
from tests.story.pages import NIGHT
from tests.support.requirements import skip_or_fail


@pytest.mark.bubblewrap
@pytest.mark.behaviour("OP-01", "SE-06", "SE-09")
def test_the_night_in_the_documentation_matches_what_an_operator_sees(tmp_path: Path) -> None:
    try:
        BubblewrapRuntime(install="night").check()
    except RuntimeUnavailable as error:
        skip_or_fail("BUBBLEWRAP", str(error))
    assert NightStory(tmp_path).play() == NIGHT.current_text(), "run make transcripts"

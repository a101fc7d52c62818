"""The program behind scripts/transcripts."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from nanohost.errors import RuntimeUnavailable
from nanohost.runtimes.bubblewrap import BubblewrapRuntime
from tests.pages import Block
from tests.story.clone import play_clone
from tests.story.first_hour import REAL, FirstHourStory
from tests.story.night import NightStory
from tests.story.pages import A_CLONE, FIRST_HOUR, NIGHT

STORIES = ("first-hour", "night")


def main(typed: Sequence[str] | None = None) -> int:
    """Returns 0 if all stories were played."""
    parser = argparse.ArgumentParser(
        prog="scripts/transcripts", description="What is seen in a first hour and a night."
    )
    parser.add_argument("story", nargs="*", choices=[*STORIES, []], help="which of them (default: both)")
    parser.add_argument("--write", action="store_true", help="write it into the documentation, too")
    options = parser.parse_args(typed)
    try:
        BubblewrapRuntime(install="transcripts").check()
        for story in options.story or STORIES:
            with tempfile.TemporaryDirectory(prefix="nanohost-") as folder:
                _show(_play(story, Path(folder)), write=options.write)
    except (RuntimeUnavailable, AssertionError, TimeoutError, pytest.skip.Exception) as error:
        sys.stderr.write(f"transcripts: {error}\n")
        return 1
    return 0


def _play(story: str, folder: Path) -> Sequence[tuple[Block, str]]:
    if story == "night":
        return [(NIGHT, NightStory(folder).play())]
    for name in ("clone", "ada"):  # one after the other: only this checkout has the claude program beside it
        (folder / name).mkdir()
    return [(A_CLONE, play_clone(folder / "clone")), (FIRST_HOUR, FirstHourStory(folder / "ada", REAL).play())]


def _show(played: Sequence[tuple[Block, str]], *, write: bool) -> None:
    for block, text in played:
        sys.stdout.write(f"{text}\n\n")
        if write:
            block.replace_with(text)


if __name__ == "__main__":
    sys.exit(main())

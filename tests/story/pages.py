"""The pages with transcripts."""

from __future__ import annotations

from tests.pages import Block
from tests.support.cases import ROOT


def _played() -> str:
    raise NotImplementedError("a transcript is played by scripts/transcripts")


_TUTORIAL = ROOT / "docs" / "tutorial.md"
A_CLONE = Block(page=_TUTORIAL, render=_played, about="a clone")
"""Played by the script only, because it installs everything."""
FIRST_HOUR = Block(page=_TUTORIAL, render=_played, about="a first hour")
NIGHT = Block(page=ROOT / "docs" / "how-to" / "when-status-shows.md", render=_played, about="a night")

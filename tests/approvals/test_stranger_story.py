"""A stranger on Telegram, an owner who can be reached on Slack: let in and answered, whenever the host is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.testing.simulator import BOB
from nanohost.testing.stranger_story import FIRST, SECOND, THIRD, Story

POINTS = (
    "reception.open:2",  # the first is the code, the second is the press
    "reception.committed:2",
    "routing.recorded",
    "approvals.asked",
    "sender.sent:3",
    "routing.written",
)
"""Where the host ends itself; the number is that of the passage. The other points are every message's."""


async def played(tmp_path: Path, *, between: bool = False, crash_at: str = "") -> Story:
    story = Story(tmp_path / "home")
    async with story.running(crash_at=crash_at):
        for step in story.steps:
            await step.do()
            if between:
                await story.host.kill()
    assert "ok" in (await story.host.command("verify")).lower()
    return story


def everything_happened_once(story: Story, *, answered_twice: int = 0) -> None:
    cards = [one for one in story.slack.screen(story.slack.dm) if "Bob" in one.text]
    assert len(cards) == 1, "one card, whatever happened"
    assert cards[0].edits >= 1, "and it says what was decided"
    for text in (FIRST, SECOND, THIRD):
        assert 1 <= len(story.answers(text)) <= 1 + answered_twice, text
    assert len([one for one in story.telegram.screen(BOB.id) if "asked" in one.text]) <= 1 + answered_twice


@pytest.mark.behaviour("AP-08", "AP-10", "RT-08")
async def test_a_stranger_is_let_in_while_the_host_is_killed_between_any_two_steps(tmp_path: Path) -> None:
    story = await played(tmp_path, between=True)
    assert story.host.kills == len(story.steps)
    everything_happened_once(story)


@pytest.mark.behaviour("AP-08")
@pytest.mark.parametrize("point", POINTS)
async def test_a_stranger_is_let_in_while_the_host_is_killed_in_the_middle_of_a_step(
    tmp_path: Path, point: str
) -> None:
    story = await played(tmp_path, crash_at=point)
    assert story.host.kills == 1, "it was killed"
    everything_happened_once(story, answered_twice=point.startswith("sender."))

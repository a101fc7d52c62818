"""An unknown sender on Telegram, an owner reachable on Slack: approved and answered, whenever the host is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.testing.simulator import BOB
from nanohost.testing.unknown_sender_scenario import FIRST_MESSAGE, SECOND_MESSAGE, THIRD_MESSAGE, UnknownSenderScenario
from tests.crash.measurements import wait_until_done

POINTS = (
    "routing.recorded",
    "approvals.asking",
    "sender.sent:3",
    "approvals.open",
    "host_requests.committed:2",  # the first is the code, the second is the press
)
"""Crash points, with the number of the pass. The other points are passed by every message."""


async def play_scenario(tmp_path: Path, *, between: bool = False, crash_at: str = "") -> UnknownSenderScenario:
    story = UnknownSenderScenario(tmp_path / "home")
    async with story.running(crash_at=crash_at):
        for step in story.steps:
            await step.run()
            if between:
                await story.host.kill()
        await wait_until_done(tmp_path / "home")
    assert (await story.host.run_command("verify")).startswith("clean")
    return story


def assert_everything_happened_once(story: UnknownSenderScenario, *, answered_twice: int = 0) -> None:
    cards = [one for one in story.slack.screen(story.slack.dm) if "Bob" in one.text]
    assert len(cards) == 1, "one card, whatever happened"
    assert cards[0].edit_count >= 1, "and it says what was decided"
    for text in (FIRST_MESSAGE, SECOND_MESSAGE, THIRD_MESSAGE):
        assert 1 <= len(story.answers_containing(text)) <= 1 + answered_twice, text
    told = [one for one in story.telegram.screen(BOB.id) if "asked" in one.text]
    assert 1 <= len(told) <= 2, "Telegram knows no repeats: a send that was cut off by a kill is made again"


@pytest.mark.behaviour("AP-08", "AP-10", "RT-08")
async def test_an_approval_completes_when_the_host_is_killed_between_any_two_steps(tmp_path: Path) -> None:
    story = await play_scenario(tmp_path, between=True)
    assert story.host.kill_count == len(story.steps)
    # A step ends when the platform shows an answer: the host may be killed before it has written that down.
    assert_everything_happened_once(story, answered_twice=1)


@pytest.mark.behaviour("AP-08")
@pytest.mark.parametrize("point", POINTS)
async def test_an_approval_completes_when_the_host_is_killed_within_a_step(tmp_path: Path, point: str) -> None:
    story = await play_scenario(tmp_path, crash_at=point)
    assert story.host.kill_count == 1, "it was killed"
    assert_everything_happened_once(story, answered_twice=point.startswith("sender."))

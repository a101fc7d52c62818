"""A question in Slack: in its thread, by button and by typing."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.testing.simulator import BOB
from nanohost.testing.simulators.slack import SlackSimulator
from tests.channels.everywhere import AllPlatforms, run_host, write_agent_script

ROOM = "C500"
ASK = {
    "tool": "ask_user_question",
    "arguments": {"question": "Which?", "options": ["Red", "Light blue"]},
    "answer": "so: {result}",
}


def so(name: str, answer: str) -> str:
    return f'so: <answer from="{name}" id="4">{answer}</answer>'


@pytest.mark.behaviour("AP-09")
async def test_a_question_is_answered_in_its_own_thread_by_button_or_by_number(tmp_path: Path) -> None:
    slack = SlackSimulator()
    write_agent_script(tmp_path, {"match": "^ask", "actions": [ASK]})
    async with run_host(tmp_path, AllPlatforms(platforms={"slack": slack}), ("slack", ROOM)):
        first = await slack.write(ROOM, "ask me", group=True, mention=True)
        await slack.wait_for_messages(1, ROOM)
        [card] = slack.screen(ROOM)
        assert (card.text, card.thread) == ("From the agent main:\nWhich?", first)
        await slack.press(card, "Light blue", person=BOB)
        await slack.wait_until(lambda: so(BOB.name, "Light blue") in slack.texts(ROOM))
        await slack.wait_until(lambda: f"Which?\n\nAnswered by {BOB.name}: Light blue" in slack.texts(ROOM))
        assert slack.screen(ROOM)[0].buttons == ()

        second = await slack.write(ROOM, "ask again", group=True, mention=True)
        await slack.wait_until(lambda: slack.texts(ROOM)[-1] == "From the agent main:\nWhich?")
        await slack.write(ROOM, "1", group=True)
        await slack.write(ROOM, "1", group=True, thread=second)
        await slack.wait_until(lambda: slack.texts(ROOM)[-1].startswith("so: "))
        answer = slack.screen(ROOM)[-1]
        assert (answer.text, answer.thread) == (so("Ada", "Red"), second)

"""What a person sees in a chat."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from nanohost.cli.chat import _warn_if_not_accepted
from nanohost.cli.screen import Screen
from nanohost.cli.status_line import AgentActivity
from nanohost.cli.terminal_client import TerminalClient, TerminalMessage
from nanohost.commands.registry import find_command

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
OBEYED = "\x1b]0;mine\x07\x9b2J"


@pytest.mark.parametrize("is_error", [False, True])
def test_messages_and_errors_are_shown_without_control_characters(
    capsys: pytest.CaptureFixture[str], is_error: bool
) -> None:
    Screen().show_message(TerminalMessage(text=f"{OBEYED} hello", is_error=is_error))
    shown = capsys.readouterr().out
    assert "hello" in shown
    assert shown.startswith("! ") is is_error
    assert not [one for one in shown if one in "\x1b\x07\x9b"]


def test_messages_from_before_the_chat_was_opened_are_marked_with_their_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen(zone=ZoneInfo("Europe/Berlin"), opened_at=NOON)
    for minutes in (-60 * 24, -30, 1):
        screen.show_message(
            TerminalMessage(text="I am on hold.", agent="", created_at=NOON + timedelta(minutes=minutes))
        )
    screen.show_message(TerminalMessage(text="of a host of before"))
    assert capsys.readouterr().out.splitlines() == [
        "(earlier, 2026-01-01 13:00) I am on hold.",
        "(earlier, 12:30) I am on hold.",
        "I am on hold.",
        "of a host of before",
    ]


@pytest.mark.parametrize("words", ["pause", "resume", "cost"])
def test_a_name_in_the_answer_of_a_host_command_is_free_of_control_characters(words: str) -> None:
    shown = find_command(words).render({"answer": f"{OBEYED} paused it"})
    assert "paused it" in shown
    assert not [one for one in shown if one in "\x1b\x07\x9b"]


def test_no_unaccepted_message_warning_is_given_for_a_host_that_has_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = TerminalClient(tmp_path / "terminal.sock", "local", lambda _: None)
    _warn_if_not_accepted(client, Screen(), client.send("hello"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("answered", [["1", "2"], ["2"]])
async def test_at_end_of_input_owed_answers_are_awaited_until_activity_ends(answered: list[str]) -> None:
    screen = Screen()
    for id in ("1", "2"):
        screen.add_pending(id)
    assert screen.unanswered_count == 2
    for id in answered:
        screen.show_message(TerminalMessage(text="an answer", reply_to=id))
    await screen.wait_until_answered(3600.0, activity_ttl_s=0.01)
    assert screen.unanswered_count == 0


async def test_an_agent_still_at_work_after_a_message_is_waited_for() -> None:
    screen = Screen()
    screen.add_pending("1")
    screen.update_activity(AgentActivity(received_at=0.0))
    screen.show_message(TerminalMessage(text="On it.", reply_to="1"))
    waiting = asyncio.ensure_future(screen.wait_until_answered(3600.0, activity_ttl_s=30.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_at_end_of_input_a_missing_answer_is_awaited_with_a_timeout() -> None:
    screen = Screen()
    screen.add_pending("1")
    await screen.wait_until_answered(0.01)
    assert screen.unanswered_count == 1

"""nanohost chat --once beside a host with other messages: the reply is the answer to what was typed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from channels.terminal import TerminalChannel
from nanohost.channel_api import Accepted, Address, InboundEvent, OutboundText
from nanohost.cli.chat import _chat_once
from nanohost.cli.run_command import execute
from nanohost.commands.registry import find_command
from nanohost.config.home import Home, announce_daemon, lock_home
from nanohost.errors import NanohostError
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.cli.conftest import Shell

REMINDER = OutboundText(text="Reminder: tea", agent="main")
STATS = """
# /// script
# dependencies = []
# [tool.nanohost]
# kind = "chat_command"
# api = 1
# ///
from nanohost.chat_commands.command import ChatCommand, Effect


async def _prepare(asked):
    return lambda box: Effect(answer="one or two")


COMMAND = ChatCommand(name="stats", help="count", prepare=_prepare)
"""
AWAY = "I cannot reach the service that I think with. I keep your message and try again."


class Host(SuiteInbox):
    """Satisfies Inbox: answers a message with prepared messages; `{id}` is the id of the message."""

    def __init__(self, channel: TerminalChannel, *says: OutboundText) -> None:
        super().__init__()
        self._channel = channel
        self._says = says
        self._tasks: list[asyncio.Task[None]] = []

    async def accept(self, event: InboundEvent) -> Accepted:
        self._tasks.append(asyncio.create_task(self._say(event)))
        return Accepted(new=True)

    async def _say(self, event: InboundEvent) -> None:
        for number, message in enumerate(self._says):
            reply_to = None if message.reply_to is None else message.reply_to.format(id=event.platform_message_id)
            said = replace(message, reply_to=reply_to)
            await self._channel.send(Address(platform_id=event.platform_id), said, idempotency_key=str(number))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with self._channel.connected():
            self._tasks.append(asyncio.create_task(self._channel.receive(self)))
            try:
                yield
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)


async def chat_once(
    home: Home, *says: OutboundText, text: str = "what is on my list?", timeout_s: float = HANG_TIMEOUT_S
) -> int:
    async with Host(TerminalChannel(home.run_dir / "terminal.sock"), *says).serving():
        return await _chat_once(home, text, timeout_s)


@pytest.fixture
async def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    home = Home(tmp_path)
    home.prepare()
    await execute(find_command("terminal setup"), {}, home)
    capsys.readouterr()
    return home


@pytest.mark.behaviour("OP-05")
async def test_a_reminder_due_meanwhile_is_not_the_reply(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = OutboundText(text="an old answer", reply_to="0000", agent="main")
    assert await chat_once(home, earlier, REMINDER, OutboundText(text="Nothing.", reply_to="{id}", agent="main")) == 0
    told = capsys.readouterr()
    assert told.out == "Nothing.\n"
    assert told.err.splitlines() == ["(earlier) an old answer", "(meanwhile) Reminder: tea"]


async def test_a_reminder_alone_is_not_a_reply(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NanohostError, match=r"no reply within 0\.5 s"):
        await chat_once(home, REMINDER, timeout_s=0.5)
    assert capsys.readouterr().out == ""


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize(
    ("text", "is_trouble"),
    [
        ("hello", True),
        ("hello", False),
        ("/compact", True),
        ("/etc/hosts is what?", False),
        ("/deploy", False),
        ("/stop it, please", False),
        ("/", False),
    ],
)
async def test_a_notice_of_the_host_is_not_a_reply(
    home: Home, capsys: pytest.CaptureFixture[str], text: str, is_trouble: bool
) -> None:
    with pytest.raises(NanohostError, match="I cannot reach the service"):
        await chat_once(home, OutboundText(text=AWAY, reply_to="{id}", is_trouble=is_trouble), text=text)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", [" /status", "/Status", "/status@a_bot", "/pause 2h", "/compact now", "/tally"])
async def test_the_hosts_answer_to_a_command_is_a_reply(
    home: Home, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    home.chat_commands.mkdir()
    (home.chat_commands / "tally.py").write_text(STATS.replace("stats", "tally"))
    says = OutboundText(text="I am not doing anything.", reply_to="{id}")
    assert await chat_once(home, says, text=text) == 0
    assert capsys.readouterr().out == "I am not doing anything.\n"


@pytest.mark.behaviour("OP-05")
def test_during_a_pause_nothing_is_written_to_standard_output(shell: Shell) -> None:
    shell.run_json("terminal", "setup")
    assert shell.run("pause").code == 0
    typed = shell.run("chat", "--once", "hello")
    assert (typed.code, typed.out) == (1, "")
    assert "nanohost: Everything is paused" in typed.err


def test_a_host_that_is_starting_is_waited_for_and_keeps_the_home(shell: Shell) -> None:
    with announce_daemon(Home(shell.home)), shell.start("chat", "--once", "are you there?") as chat:
        assert chat.stderr is not None
        assert "Another nanohost is starting" in chat.stderr.readline()
        with shell.start("run", NANOHOST_LOG="json") as run:
            out, _ = chat.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
            assert shell.run_json("status")["host"]["pid"] == run.pid
            run.terminate()
            run.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
    assert (chat.returncode, out) == (0, "You said: are you there?\n")
    shell.run("chat", "--once", "bye")  # it adopts and ends the container that is left


def test_a_host_that_holds_the_lock_and_does_not_answer_yet_is_waited_for(shell: Shell) -> None:
    with ExitStack() as held:
        held.enter_context(lock_home(Home(shell.home)))
        with shell.start("chat", "--once", "are you there?") as chat:
            assert chat.stderr is not None
            assert "Another nanohost is starting" in chat.stderr.readline()
            held.close()
            out, _ = chat.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
    assert (chat.returncode, out) == (0, "You said: are you there?\n")


def test_a_host_that_does_not_answer_in_time_is_reported(shell: Shell) -> None:
    with announce_daemon(Home(shell.home)):
        typed = shell.run("chat", "--once", "hello", "--timeout", "0.3")
    assert (typed.code, typed.out) == (1, "")
    assert "has been starting or stopping for 0.3 s" in typed.err


@pytest.mark.behaviour("OP-05")
def test_an_agent_without_a_sandbox_is_reported_on_standard_error(shell: Shell) -> None:
    typed = shell.run("chat", "--once", "what?", NANOHOST_PROVIDER="claude", ANTHROPIC_API_KEY="none")
    assert (typed.code, typed.out) == (1, "")
    assert "nanohost: I cannot work right now: The provider 'claude' may run tools and has no sandbox" in typed.err


@pytest.mark.behaviour("AC-03")
def test_whoever_can_read_the_files_is_owner_in_the_terminal_under_any_login_name(shell: Shell) -> None:
    paused = shell.run("chat", "--once", "/pause", LOGNAME="somebody-else", USER="somebody-else")
    assert (paused.code, paused.out.splitlines()[0]) == (0, "Paused: nothing is started or sent until /resume.")
    told = shell.run("chat", "--once", "/help").out
    for command in ("/pause", "/resume", "/approve", "/pair", "/compact", "/context", "/files"):
        assert f"\n{command}: " in told


def test_a_mistyped_command_is_not_sent(shell: Shell) -> None:
    typed = shell.run("chat", "--once", "/stauts")
    assert (typed.code, typed.out) == (2, "")
    assert 'there is no command /stauts\n  hint: nanohost chat --once "/status"' in typed.err


@pytest.mark.parametrize("file", ["stats", "of_ours"])
def test_an_installed_command_is_sent_though_it_resembles_another(shell: Shell, file: str) -> None:
    folder = shell.home / "chat_commands"
    folder.mkdir(parents=True)
    (folder / f"{file}.py").write_text(STATS)
    typed = shell.run("chat", "--once", "/stats")
    assert (typed.code, typed.out) == (0, "one or two\n"), typed.err
    typed = shell.run("chat", stdin="/stats\n")
    assert (typed.code, typed.out) == (0, "one or two\n"), typed.err


@pytest.mark.behaviour("OP-05")
def test_a_chat_whose_host_was_another_chat_starts_its_own_host_and_reports_waiting_tasks(
    shell: Shell,
) -> None:
    shell.run("chat", "--once", "remind me in 600s to drink water")
    script = [{"match": "^gate", "actions": [{"until_file": "go"}, {"answer": "done now"}]}]
    folder = shell.home / "groups" / "main"
    (folder / "script.json").write_text(json.dumps(script))
    with shell.start("chat", NANOHOST_PROVIDER="scripted") as first:
        assert first.stderr is not None
        assert any("Talking to" in line for line in first.stderr)
        with shell.start("chat", "--once", "gate", NANOHOST_PROVIDER="scripted") as second:
            until_claimed(shell)
            first.communicate("/quit\n", timeout=scaled_timeout(HANG_TIMEOUT_S))
            (folder / "go").touch()
            out, err = second.communicate(timeout=scaled_timeout(HANG_TIMEOUT_S))
    assert (second.returncode, out) == (0, "done now\n")
    assert "one runs here now" in err
    assert "No host stays behind: 1 planned task waits for the next one" in err


def until_claimed(shell: Shell) -> None:
    """Wait until a turn runs."""
    ends = time.monotonic() + scaled_timeout(HANG_TIMEOUT_S)
    while not any(one["container"] for one in shell.run_json("sessions", "list")):
        assert time.monotonic() < ends

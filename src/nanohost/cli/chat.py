"""Runs nanohost chat: a conversation in this terminal, with the running host or with one in this process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Collection
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, TextIO

from nanohost.channels.manager import CONNECTED
from nanohost.chat_commands.classify import is_chat_command
from nanohost.chat_commands.registry import extension_names
from nanohost.cli.chat_connection import connect_to_host
from nanohost.cli.chat_input import (
    QUIT_WORDS,
    is_bare_quit_word,
    is_for_host,
    is_quit_command,
    parse_command_name,
    suggest_command,
    suggestion_text,
)
from nanohost.cli.run_command import execute
from nanohost.cli.screen import Screen
from nanohost.cli.shutdown import ShutdownGuard
from nanohost.cli.status_line import AgentActivity
from nanohost.cli.stop_signal import EXIT_INTERRUPTED, MarkStopping, StopRequested, handle_stop_signals
from nanohost.cli.terminal_client import TerminalClient, TerminalMessage
from nanohost.commands.registry import find_command
from nanohost.commands.setup import MAIN_GROUP, TERMINAL_CHAT
from nanohost.commands.tables import replace_control_chars
from nanohost.config.home import Home
from nanohost.config.settings import display_zone
from nanohost.db.tasks import TaskStatus
from nanohost.errors import NanohostError
from nanohost.logs import configure_logging
from nanohost.text.phrases import pluralize

DUMB_TERMINALS = ("", "dumb", "unknown")
"""Terminals that can only show lines."""
DRAIN_TIMEOUT_S = 120.0
"""Seconds to wait for replies after piped input has ended, without any sign that an agent is working."""
ACCEPT_TIMEOUT_S = 5.0
"""Seconds after which the person is told that the host has not accepted a message yet."""
MAX_LOG_BYTES = 1024 * 1024
"""Bytes of chat.log that are kept for the next conversation."""


def chat_once(home: Home, text: str, *, timeout_s: float) -> int:
    """Sends one message and prints only the reply on stdout. Returns 0 with a reply, 1 without."""
    configure_logging(os.environ, log_format="quiet")

    async def once(ending: ShutdownGuard) -> int:
        async with handle_stop_signals(ending.start_timeout) as leaving:
            return await _chat_once(home, text, timeout_s, leaving)

    with ShutdownGuard() as ending:
        try:
            return ending.run(once(ending))
        except StopRequested:
            return EXIT_INTERRUPTED


def chat(home: Home) -> int:
    """Runs a conversation until Ctrl-D, Ctrl-C or /quit. Returns 1 if piped input has ended and an answer is
    missing."""
    home.prepare()

    async def converse(ending: ShutdownGuard) -> int:
        async with handle_stop_signals(ending.start_timeout) as leaving:
            return await _run_conversation(home, sys.stdin, leaving)

    with _open_log_file(home.run_dir / "chat.log") as log, ShutdownGuard() as ending, suppress(StopRequested):
        configure_logging(os.environ, stream=log, zone=display_zone(home.root, os.environ))
        return ending.run(converse(ending))
    return 0


def _open_log_file(path: Path) -> TextIO:
    long = path.exists() and path.stat().st_size > MAX_LOG_BYTES
    return path.open("w" if long else "a", encoding="utf-8")


async def _chat_once(home: Home, text: str, timeout_s: float, mark_stopping: MarkStopping = lambda: None) -> int:
    reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asked, is_command = "", is_for_host(text, extension_names(home.chat_commands))

    def on_shown(shown: TerminalMessage) -> None:
        if not asked or (shown.reply_to is not None and shown.reply_to < asked):
            _print_stderr(f"(earlier) {replace_control_chars(shown.text)}")
        elif reply.done():
            _print_stderr(f"(more) {replace_control_chars(shown.text)}")
        elif shown.is_error:
            reply.set_exception(NanohostError(shown.text))
        elif shown.reply_to is None:  # no reply: a reminder, or a message that the agent sends by itself
            _print_stderr(f"(meanwhile) {replace_control_chars(shown.text)}")
        elif shown.is_failure or (shown.agent == "" and not is_command):  # an unrequested message of the host
            reply.set_exception(NanohostError(shown.text, hint="nanohost status"))
        else:
            reply.set_result(replace_control_chars(shown.text))

    gone = asyncio.Event()
    client = _make_client(home, on_shown, lambda is_back: gone.clear() if is_back else gone.set())
    async with connect_to_host(home, client, _print_stderr, start_timeout_s=timeout_s) as served:
        asked, is_here = client.send(text), served.is_in_process
        try:
            async with asyncio.timeout(timeout_s):
                while not await _wait_for_reply(reply, gone):
                    is_here = await served.reconnect()
                print(reply.result(), flush=True)
                for line in await _pending_task_notices(home, is_in_process=is_here):
                    _print_stderr(line)
                return 0
        except TimeoutError:
            then = "the host did not take the message" if client.unaccepted else "it will come to the next chat"
            raise NanohostError(f"no reply within {timeout_s:g} s; {then}", hint="nanohost status") from None
        finally:
            mark_stopping()


async def _wait_for_reply(reply: asyncio.Future[str], disconnected: asyncio.Event) -> bool:
    """Waits for the reply or the loss of the host. Returns whether the reply came."""
    going = asyncio.ensure_future(disconnected.wait())
    both: set[asyncio.Future[Any]] = {reply, going}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        going.cancel()
    disconnected.clear()
    return reply.done()


async def _run_conversation(
    home: Home, stdin: TextIO, mark_stopping: MarkStopping, *, drain_timeout_s: float = DRAIN_TIMEOUT_S
) -> int:
    screen = _make_screen(home, stdin)
    client = _make_client(home, screen.show_message, screen.on_connection_change, screen.update_activity)
    async with connect_to_host(home, client, screen.show_notice) as served:
        screen.is_host_in_process = served.is_in_process
        screen.show_notice(f"Talking to {MAIN_GROUP}. /help shows what you can type; Ctrl-D or /quit leaves.")
        for line in await _disconnected_channel_notices(home):
            screen.show_notice(line)
        try:
            own = extension_names(home.chat_commands)
            code = await _send_lines(client, screen, stdin, own, drain_timeout_s)
            for line in await _pending_task_notices(home, is_in_process=served.is_in_process):
                screen.show_notice(line)
            return code
        finally:
            mark_stopping()
            screen.close(len(client.unaccepted))


async def _disconnected_channel_notices(home: Home) -> list[str]:
    """Returns a line for each disconnected channel; none if the host does not answer, as it may have just ended."""
    try:
        status = await execute(find_command("status"), {}, home)
    except NanohostError:
        return []
    channels = (status["host"] or {}).get("channels", [])
    return [
        f"{one['name']}:{one['instance']} is not connected: {one['detail'] or one['state']}. More: nanohost status"
        for one in channels
        if one["state"] != CONNECTED
    ]


async def _pending_task_notices(home: Home, *, is_in_process: bool) -> list[str]:
    """Returns a line about scheduled tasks, if the only host ends with this conversation."""
    try:
        planned = await execute(find_command("tasks list"), {}, home) if is_in_process else []
    except NanohostError:
        return []
    count = sum(1 for task in planned if task["status"] == TaskStatus.ACTIVE)
    if not count:
        return []
    what = f"{pluralize(count, 'planned task waits', 'planned tasks wait')} for the next one"
    return [f"No host stays behind: {what}. Leave one running: nanohost run"]


def _make_screen(home: Home, stdin: TextIO) -> Screen:
    """Returns the screen for this terminal; plain lines without a terminal."""
    is_live = stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "") not in DUMB_TERMINALS
    zone = display_zone(home.root, os.environ)
    if not is_live:
        return Screen(zone=zone)
    from nanohost.cli.live_screen import LiveScreen

    return LiveScreen(home.run_dir / "chat_history", os.environ, zone=zone)


async def _send_lines(
    client: TerminalClient, screen: Screen, stdin: TextIO, custom_commands: Collection[str], drain_timeout_s: float
) -> int:
    refused = await _read_until_end(client, screen, stdin, custom_commands)
    if stdin.isatty() or refused is None:
        return 0
    await screen.wait_until_answered(drain_timeout_s)
    if unanswered := screen.unanswered_count:
        then = "" if client.unaccepted else "; what still comes is shown in the next chat"
        screen.show_notice(
            f"No answer within {drain_timeout_s:g} s to {unanswered} of your messages{then}. Why: nanohost status"
        )
    return 1 if unanswered or refused else 0


async def _read_until_end(
    client: TerminalClient, screen: Screen, stdin: TextIO, custom_commands: Collection[str]
) -> int | None:
    """Sends what is typed until the input ends. Returns how many lines were refused as misspelled commands; None if a
    person has quit. `custom_commands`: the install's own commands.
    """
    refused, asked_about = 0, ""
    async with aclosing(screen.read_lines(stdin)) as lines:
        async for line in lines:
            if is_quit_command(line):
                return None
            meant = QUIT_WORDS[0] if is_bare_quit_word(line) else suggest_command(line, custom_commands)
            if meant is not None and line.strip() != asked_about:
                asked_about = line.strip()
                refused += 1
                screen.show_notice(suggestion_text(line, meant))
            elif line.strip():
                if meant is not None:
                    refused, asked_about = refused - 1, ""  # typed again: it is intended
                _send(client, screen, line)
    return refused


def _send(client: TerminalClient, screen: Screen, line: str) -> None:
    id = client.send(line)
    screen.add_pending(id, is_help=parse_command_name(line) == "help" and is_chat_command(line))
    asyncio.get_running_loop().call_later(ACCEPT_TIMEOUT_S, _warn_if_not_accepted, client, screen, id)


def _warn_if_not_accepted(client: TerminalClient, screen: Screen, id: str) -> None:
    if id in client.unaccepted and client.is_connected:  # else the person was told that the host is gone
        screen.warn_not_accepted()


def _make_client(
    home: Home,
    on_message: Callable[[TerminalMessage], None],
    on_connection_change: Callable[[bool], None] = lambda _: None,
    on_typing: Callable[[AgentActivity], None] = lambda _: None,
) -> TerminalClient:
    return TerminalClient(home.run_dir / "terminal.sock", TERMINAL_CHAT, on_message, on_connection_change, on_typing)


def _print_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""nanohost chat: a conversation in this terminal, with the running host or with one in this process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Collection
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, TextIO

from nanohost.channels.connections import CONNECTED
from nanohost.chat_commands.gate import is_order
from nanohost.chat_commands.registry import names_in
from nanohost.cli.connecting import connected
from nanohost.cli.ending import Ending
from nanohost.cli.registered import perform
from nanohost.cli.screen import Screen
from nanohost.cli.status_line import Doing
from nanohost.cli.stop_signal import NOW, Leaving, Stopped, stoppable
from nanohost.cli.terminal_client import Shown, TerminalClient
from nanohost.cli.typed_words import QUIT, command_in, did_you_mean, is_for_host, leaves, meant_instead, wants_to_leave
from nanohost.commands.registry import find
from nanohost.commands.setup import MAIN, TERMINAL_CHAT
from nanohost.commands.show import harmless
from nanohost.errors import NanohostError
from nanohost.home import Home
from nanohost.logs import set_up_logs
from nanohost.phrases import counted
from nanohost.settings import zone_of
from nanohost.store.tasks import TaskStatus

DUMB = ("", "dumb", "unknown")
"""Terminals that can show lines, and no more."""
LAST_REPLIES_S = 120.0
"""How long input from a pipe that ended waits for the replies it is owed, without any sign that one is made."""
TAKEN_LIMIT_S = 5.0
"""After how long a person is told that the host has not taken a message yet."""
LONGEST_LOG = 1024 * 1024
"""Bytes of chat.log that are kept from one conversation to the next."""


def chat_once(home: Home, text: str, *, timeout_s: float) -> int:
    """Say one thing; the reply goes to stdout and nothing else does. 0 with a reply, 1 without."""
    set_up_logs(os.environ, form="quiet")

    async def once(ending: Ending) -> int:
        async with stoppable(ending.begin) as leaving:
            return await _once(home, text, timeout_s, leaving)

    with Ending() as ending:
        try:
            return ending.run(once(ending))
        except Stopped:
            return NOW


def chat(home: Home) -> int:
    """A conversation until Ctrl-D, Ctrl-C or /quit. 1 when input from a pipe ended and an answer did not come."""
    home.prepare()

    async def converse(ending: Ending) -> int:
        async with stoppable(ending.begin) as leaving:
            return await _converse(home, sys.stdin, leaving)

    with _log_file(home.run / "chat.log") as log, Ending() as ending, suppress(Stopped):
        set_up_logs(os.environ, stream=log, zone=zone_of(home.root, os.environ))
        return ending.run(converse(ending))
    return 0


def _log_file(path: Path) -> TextIO:
    long = path.exists() and path.stat().st_size > LONGEST_LOG
    return path.open("w" if long else "a", encoding="utf-8")


async def _once(home: Home, text: str, timeout_s: float, leaving: Leaving = lambda: None) -> int:
    reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asked, is_command = "", is_for_host(text, names_in(home.chat_commands))

    def on_shown(shown: Shown) -> None:
        if not asked or (shown.reply_to is not None and shown.reply_to < asked):
            _tell_stderr(f"(earlier) {harmless(shown.text)}")
        elif reply.done():
            _tell_stderr(f"(more) {harmless(shown.text)}")
        elif shown.is_error:
            reply.set_exception(NanohostError(shown.text))
        elif shown.reply_to is None:  # it answers nobody: a reminder, or something the agent says by itself
            _tell_stderr(f"(meanwhile) {harmless(shown.text)}")
        elif shown.is_trouble or (shown.agent == "" and not is_command):  # the host speaks, and was not asked
            reply.set_exception(NanohostError(shown.text, hint="nanohost status"))
        else:
            reply.set_result(harmless(shown.text))

    gone = asyncio.Event()
    client = _client(home, on_shown, lambda is_back: gone.clear() if is_back else gone.set())
    async with connected(home, client, _tell_stderr, limit_s=timeout_s) as served:
        asked, is_here = client.say(text), served.is_here
        try:
            async with asyncio.timeout(timeout_s):
                while not await _first(reply, gone):
                    is_here = await served.again()
                print(reply.result(), flush=True)
                for line in await _left_behind(home, is_here=is_here):
                    _tell_stderr(line)
                return 0
        except TimeoutError:
            then = "the host did not take the message" if client.unaccepted else "it will come to the next chat"
            raise NanohostError(f"no reply within {timeout_s:g} s; {then}", hint="nanohost status") from None
        finally:
            leaving()


async def _first(reply: asyncio.Future[str], gone: asyncio.Event) -> bool:
    """Wait for the reply, or for the host to have gone. Whether it is the reply."""
    going = asyncio.ensure_future(gone.wait())
    both: set[asyncio.Future[Any]] = {reply, going}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        going.cancel()
    gone.clear()
    return reply.done()


async def _converse(home: Home, stdin: TextIO, leaving: Leaving, *, limit_s: float = LAST_REPLIES_S) -> int:
    screen = _screen(home, stdin)
    client = _client(home, screen.show, screen.on_line, screen.at_work)
    async with connected(home, client, screen.tell) as served:
        screen.is_host_here = served.is_here
        screen.tell(f"Talking to {MAIN}. /help shows what you can type; Ctrl-D or /quit leaves.")
        for line in await _not_connected(home):
            screen.tell(line)
        try:
            own = names_in(home.chat_commands)
            code = await _say_lines(client, screen, stdin, own, limit_s)
            for line in await _left_behind(home, is_here=served.is_here):
                screen.tell(line)
            return code
        finally:
            leaving()
            screen.leave(len(client.unaccepted))


async def _not_connected(home: Home) -> list[str]:
    """A line for each channel on which nobody is heard. Only where the host says so: it may have just left."""
    try:
        status = await perform(find("status"), {}, home)
    except NanohostError:
        return []
    channels = (status["host"] or {}).get("channels", [])
    return [
        f"{one['name']}:{one['instance']} is not connected: {one['detail'] or one['state']}. More: nanohost status"
        for one in channels
        if one["state"] != CONNECTED
    ]


async def _left_behind(home: Home, *, is_here: bool) -> list[str]:
    """A line about what is planned, where the only host ends with this conversation."""
    try:
        planned = await perform(find("tasks list"), {}, home) if is_here else []
    except NanohostError:
        return []
    count = sum(1 for task in planned if task["status"] == TaskStatus.ACTIVE)
    if not count:
        return []
    what = f"{counted(count, 'planned task waits', 'planned tasks wait')} for the next one"
    return [f"No host stays behind: {what}. Leave one running: nanohost run"]


def _screen(home: Home, stdin: TextIO) -> Screen:
    """What this terminal can do; plain lines where there is none."""
    is_live = stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "") not in DUMB
    zone = zone_of(home.root, os.environ)
    if not is_live:
        return Screen(zone=zone)
    from nanohost.cli.live_screen import LiveScreen

    return LiveScreen(home.run / "chat_history", os.environ, zone=zone)


async def _say_lines(
    client: TerminalClient, screen: Screen, stdin: TextIO, own: Collection[str], limit_s: float
) -> int:
    refused = await _until_end(client, screen, stdin, own)
    if stdin.isatty() or refused is None:
        return 0
    await screen.until_answered(limit_s)
    if unanswered := screen.unanswered:
        then = "" if client.unaccepted else "; what still comes is shown in the next chat"
        screen.tell(f"No answer within {limit_s:g} s to {unanswered} of your messages{then}. Why: nanohost status")
    return 1 if unanswered or refused else 0


async def _until_end(client: TerminalClient, screen: Screen, stdin: TextIO, own: Collection[str]) -> int | None:
    """Say what is typed. How many lines were no command, not even one of the install's `own`, and were not said; None:
    somebody left."""
    refused, asked_about = 0, ""
    async with aclosing(screen.lines(stdin)) as lines:
        async for line in lines:
            if leaves(line):
                return None
            meant = QUIT[0] if wants_to_leave(line) else meant_instead(line, own)
            if meant is not None and line.strip() != asked_about:
                asked_about = line.strip()
                refused += 1
                screen.tell(did_you_mean(line, meant))
            elif line.strip():
                if meant is not None:
                    refused, asked_about = refused - 1, ""  # it was meant as it is, this once
                _say(client, screen, line)
    return refused


def _say(client: TerminalClient, screen: Screen, line: str) -> None:
    id = client.say(line)
    screen.asked(id, for_help=command_in(line) == "help" and is_order(line))
    asyncio.get_running_loop().call_later(TAKEN_LIMIT_S, _doubt, client, screen, id)


def _doubt(client: TerminalClient, screen: Screen, id: str) -> None:
    if id in client.unaccepted and client.is_connected:  # else it was said that the host has gone
        screen.doubt()


def _client(
    home: Home,
    on_shown: Callable[[Shown], None],
    on_line: Callable[[bool], None] = lambda _: None,
    on_typing: Callable[[Doing], None] = lambda _: None,
) -> TerminalClient:
    return TerminalClient(home.run / "terminal.sock", TERMINAL_CHAT, on_shown, on_line, on_typing)


def _tell_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

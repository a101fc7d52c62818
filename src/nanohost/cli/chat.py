"""nanohost chat: a conversation in this terminal, with the running host or with one in this process."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from nanohost.cli.connecting import connected
from nanohost.cli.ending import Ending
from nanohost.cli.screen import Screen
from nanohost.cli.stop_signal import NOW, Leaving, Stopped, stoppable
from nanohost.cli.terminal_client import Shown, TerminalClient
from nanohost.commands.setup import TERMINAL_CHAT
from nanohost.commands.show import harmless
from nanohost.errors import NanohostError
from nanohost.home import Home
from nanohost.logs import set_up_logs

QUIT = {"/quit", "/exit"}
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
        set_up_logs(os.environ, stream=log)
        return ending.run(converse(ending))
    return 0


def _log_file(path: Path) -> TextIO:
    long = path.exists() and path.stat().st_size > LONGEST_LOG
    return path.open("w" if long else "a", encoding="utf-8")


async def _once(home: Home, text: str, timeout_s: float, leaving: Leaving = lambda: None) -> int:
    reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asked, is_command = "", text.lstrip().startswith("/")

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

    async with connected(home, _client(home, on_shown), _tell_stderr, limit_s=timeout_s) as client:
        asked = client.say(text)
        try:
            async with asyncio.timeout(timeout_s):
                print(await reply, flush=True)
                return 0
        except TimeoutError:
            then = "the host did not take the message" if client.unaccepted else "it will come to the next chat"
            raise NanohostError(f"no reply within {timeout_s:g} s; {then}", hint="nanohost status") from None
        finally:
            leaving()


async def _converse(home: Home, stdin: TextIO, leaving: Leaving, *, limit_s: float = LAST_REPLIES_S) -> int:
    screen = Screen()
    client = _client(home, screen.show, screen.on_line, screen.at_work)
    async with connected(home, client, screen.tell):
        screen.tell(f"Talking to {home.root / 'groups' / 'main'}. Ctrl-D or /quit leaves.")
        screen.prompt()
        try:
            return await _say_lines(client, screen, stdin, limit_s)
        finally:
            leaving()
            screen.leave(len(client.unaccepted))


async def _say_lines(client: TerminalClient, screen: Screen, stdin: TextIO, limit_s: float) -> int:
    async for line in _lines(stdin):
        screen.entered()
        if line.strip() in QUIT:
            return 0
        if line.strip():
            id = client.say(line)
            screen.asked(id)
            asyncio.get_running_loop().call_later(TAKEN_LIMIT_S, _doubt, client, screen, id)
        screen.prompt()
    if stdin.isatty():
        return 0
    await screen.until_answered(limit_s)
    if unanswered := screen.unanswered:
        then = "" if client.unaccepted else "; what still comes is shown in the next chat"
        screen.tell(f"No answer within {limit_s:g} s to {unanswered} of your messages{then}. Why: nanohost status")
    return 1 if unanswered else 0


def _doubt(client: TerminalClient, screen: Screen, id: str) -> None:
    if id in client.unaccepted and client.is_connected:  # else it was said that the host has gone
        screen.doubt()


def _client(
    home: Home,
    on_shown: Callable[[Shown], None],
    on_line: Callable[[bool], None] = lambda _: None,
    on_typing: Callable[[], None] = lambda: None,
) -> TerminalClient:
    return TerminalClient(home.run / "terminal.sock", TERMINAL_CHAT, on_shown, on_line, on_typing)


async def _lines(stdin: TextIO) -> AsyncIterator[str]:
    """Lines as they are typed. A thread reads, since a terminal cannot be waited for; it dies with the process."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        with suppress(RuntimeError):  # the loop is gone: nobody listens any more
            with suppress(OSError, ValueError):  # the terminal is gone: that is the end, too
                for line in stdin:
                    loop.call_soon_threadsafe(lines.put_nowait, line.rstrip("\n"))
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line


def _tell_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

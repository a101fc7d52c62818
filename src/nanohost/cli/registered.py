"""The registry's commands performed in this process, with all of their code loaded.

A command is answered by the running host if there is one; else it takes the home for itself and runs here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from nanohost.cli.ending import Ending
from nanohost.cli.folding import print_folded
from nanohost.clock import SystemClock
from nanohost.commands.command import Command, Following
from nanohost.commands.context import CommandContext, OfflineContext
from nanohost.commands.registry import load
from nanohost.commands.show import as_json as json_text
from nanohost.control.client import NobodyThere, ask
from nanohost.errors import HomeError, SettingsError
from nanohost.home import Holding, Home, HomeBusy, hold
from nanohost.logs import set_up_logs
from nanohost.settings import Settings, load_settings, zone_of

HOLDER_LIMIT_S = 5.0
"""How long to wait for another command, or for a host that is just starting or stopping."""


FOLLOW_PAUSE_S = 0.5
"""Between two looks at what is followed."""


def perform_typed(
    module: str, words: str, given: Mapping[str, object], home: Home, *, as_json: bool, follow: bool
) -> int:
    """What was typed, performed and printed; the exit code. Raises NanohostError."""
    set_up_logs(os.environ, form="quiet")
    command = load(module, words)

    def say(result: Any) -> None:
        if as_json:
            print(json_text(result), flush=True)
        else:
            print_folded(command.shown(result, zone_of(home.root, os.environ)))

    with Ending() as ending:
        if command.following is not None and follow:
            ending.run(_follow(command, command.following, given, home, say))
        result = ending.run(perform(command, given, home))
        say(result)
    return 1 if command.failed(result) else 0


async def _follow(
    command: Command, following: Following, given: Mapping[str, object], home: Home, say: Callable[[Any], None]
) -> NoReturn:
    """Ask again and again, and say what is new. Ends with an interruption, or by raising NanohostError."""
    typed = command.checked(given)
    asked = {**given, **following.asked}
    seen = await perform(command, asked, home)
    say(following.first(seen, typed))
    while True:
        await asyncio.sleep(FOLLOW_PAUSE_S)
        now = await perform(command, asked, home)
        if (news := following.news(seen, now)) is not None:
            say(news)
        seen = now


async def perform(command: Command, given: Mapping[str, object], home: Home) -> Any:
    """Run a command where it belongs. Raises NanohostError."""
    if command.offline:
        settings = _settings(home)
        return await command.call(OfflineContext(home=home, settings=settings, clock=SystemClock()), given)
    give_up = asyncio.get_running_loop().time() + HOLDER_LIMIT_S
    while True:
        try:
            return await ask(home, command.words, given)
        except NobodyThere:
            pass
        try:
            return await _perform_here(command, given, home)
        except HomeBusy:
            if asyncio.get_running_loop().time() > give_up:
                raise
            await asyncio.sleep(0.1)  # a host that is starting has the home before it answers


async def _perform_here(command: Command, given: Mapping[str, object], home: Home) -> Any:
    from nanohost.store.opened import opened_store

    if not command.begins:
        _want_install(home)
    settings = _settings(home)
    with hold(home, Holding.COMMAND):
        async with opened_store(home) as store:
            context = CommandContext(home=home, settings=settings, clock=SystemClock(), store=store)
            return await command.call(context, given)


def _settings(home: Home) -> Settings:
    """Raises SettingsError with all mistakes, those in names included, which only a host looks for otherwise."""
    try:
        return load_settings(home.root, os.environ, resolve_secrets=False)
    except SettingsError:
        from nanohost.known_names import load_checked

        return load_checked(home, os.environ, resolve_secrets=False)


def _want_install(home: Home) -> None:
    """A look makes nothing: where --home is mistyped there would be one more empty install. Raises HomeError."""
    if not home.is_made():
        raise HomeError(
            f"there is no nanohost in {home.root}",
            hint="name the folder of yours with --home or NANOHOST_HOME, or begin here with nanohost chat",
        )

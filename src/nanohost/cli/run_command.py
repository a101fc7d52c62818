"""Runs a registry command in this process, with its code loaded.

The running host answers a command if there is one; otherwise the command takes the home's lock and runs here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from nanohost.cli.shutdown import ShutdownGuard
from nanohost.cli.wrapping import print_wrapped
from nanohost.clock import SystemClock
from nanohost.commands.command import Command, FollowMode
from nanohost.commands.context import CommandContext, OfflineContext
from nanohost.commands.registry import load_command
from nanohost.commands.tables import dump_json as json_text
from nanohost.config.home import Home, HomeLocked, LockPurpose, lock_home
from nanohost.config.settings import Settings, display_zone, load_settings
from nanohost.control.client import HostNotRunning, send_command
from nanohost.errors import HomeError, SettingsError
from nanohost.logs import configure_logging

LOCK_TIMEOUT_S = 5.0
"""Seconds to wait for another command, or for a host that is starting or stopping."""


FOLLOW_INTERVAL_S = 0.5
"""Seconds between two polls with --follow."""


def run_command(
    module: str,
    words: str,
    arguments: Mapping[str, object],
    home: Home,
    *,
    as_json: bool,
    follow: bool,
    quiet: bool = False,
) -> int:
    """Runs the command and prints the result, unless `quiet`; returns the exit code. Raises NanohostError."""
    configure_logging(os.environ, log_format="quiet")
    command = load_command(module, words)

    def say(result: Any) -> None:
        if quiet:
            return
        if as_json:
            print(json_text(result), flush=True)
        else:
            print_wrapped(command.render_in_zone(result, display_zone(home.root, os.environ)))

    with ShutdownGuard() as ending:
        if command.follow_mode is not None and follow:
            ending.run(_follow(command, command.follow_mode, arguments, home, say))
        result = ending.run(execute(command, arguments, home))
        say(result)
    return 1 if command.is_failure(result) else 0


async def _follow(
    command: Command,
    follow_mode: FollowMode,
    arguments: Mapping[str, object],
    home: Home,
    print_result: Callable[[Any], None],
) -> NoReturn:
    """Repeats the command and prints what is new. Ends with an interruption, or by raising NanohostError."""
    typed = command.validate(arguments)
    repeated_arguments = {**arguments, **follow_mode.overrides}
    seen = await execute(command, repeated_arguments, home)
    print_result(follow_mode.initial(seen, typed))
    while True:
        await asyncio.sleep(FOLLOW_INTERVAL_S)
        now = await execute(command, repeated_arguments, home)
        if (news := follow_mode.changes(seen, now)) is not None:
            print_result(news)
        seen = now


async def execute(command: Command, arguments: Mapping[str, object], home: Home) -> Any:
    """Runs a command in the running host, or else here. Raises NanohostError."""
    if command.is_offline:
        settings = _load_settings(home)
        return await command.execute(OfflineContext(home=home, settings=settings, clock=SystemClock()), arguments)
    give_up = asyncio.get_running_loop().time() + LOCK_TIMEOUT_S
    while True:
        try:
            return await send_command(home, command.words, arguments)
        except HostNotRunning:
            pass
        try:
            return await _execute_locally(command, arguments, home)
        except HomeLocked:
            if asyncio.get_running_loop().time() > give_up:
                raise
            await asyncio.sleep(0.1)  # a starting host holds the home's lock before it answers


async def _execute_locally(command: Command, arguments: Mapping[str, object], home: Home) -> Any:
    from nanohost.config.language_settings import LanguageSettings
    from nanohost.db.open import open_home_store
    from nanohost.text.languages import load_translations
    from nanohost.text.translation import installed

    if not command.can_create_install:
        _require_install(home)
    settings = _load_settings(home)
    language = settings.section(LanguageSettings).language  # a command may write to people in chats
    with lock_home(home, LockPurpose.COMMAND), installed(load_translations(language, home.locales)):
        async with open_home_store(home) as store:
            context = CommandContext(home=home, settings=settings, clock=SystemClock(), store=store)
            return await command.execute(context, arguments)


def _load_settings(home: Home) -> Settings:
    """Loads the settings. Raises SettingsError with all mistakes, also those in names, which else only a host
    checks."""
    try:
        return load_settings(home.root, os.environ, resolve_secrets=False)
    except SettingsError:
        from nanohost.commands.settings_check import load_validated_settings

        return load_validated_settings(home, os.environ, resolve_secrets=False)


def _require_install(home: Home) -> None:
    """Raises HomeError if there is no install: a mistyped --home must not create an empty one."""
    if not home.exists():
        raise HomeError(
            f"there is no nanohost in {home.root}",
            hint="name the folder of yours with --home or NANOHOST_HOME, or begin here with nanohost chat",
        )

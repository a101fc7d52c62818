"""Asks for the time zone once, where the machine's clock is in UTC and none is set.

Servers are in UTC, and people are not: a reminder at nine would come at another hour. Asked is only a person at a
terminal who begins a host, and only for a while: a start that nobody watches goes on in UTC, and asks the next time.
"""

from __future__ import annotations

import difflib
import os
import select
import sys
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from zoneinfo import available_timezones

from nanohost.cli.wrapping import print_wrapped
from nanohost.commands.tables import replace_control_chars
from nanohost.config import settings_file
from nanohost.config.home import Home, HomeLocked, LockPurpose, lock_home
from nanohost.config.settings import SETTINGS_FILE
from nanohost.config.time_settings import machine_timezone
from nanohost.errors import UsageError

ENV_VARIABLES = ("NANOHOST_TIMEZONE", "NANOHOST_HOST_TIMEZONE")
UTC_NAMES = ("UTC", "Etc/UTC", "Etc/UCT", "UCT", "Universal", "Etc/Universal", "Zulu", "Etc/Zulu", "GMT", "Etc/GMT")
"""What zone databases call it."""
ANSWER_TIMEOUT_S = 60.0
"""For an answer: after it a start that happens to have a terminal goes on."""
MAX_ATTEMPTS = 3
QUESTION = (
    "This machine's clock is in UTC. Which time zone are you in?\n"
    "Reminders and all times that are shown go by it. Type a city or a name, such as\n"
    "Berlin or America/New_York; Enter keeps UTC."
)


def ensure_time_zone(home: Home) -> None:
    """Ask, if it has to be asked and there is somebody to ask, and write the answer to nanohost.toml."""
    if (
        not (sys.stdin.isatty() and sys.stdout.isatty())
        or not is_time_zone_unset(home.root, os.environ)
        or _is_home_locked(home)
    ):
        return
    zone = ask_time_zone(_read_line, _print)
    if zone is None:
        return
    try:
        path = save_time_zone(home.root, zone)
    except UsageError as error:  # read-only, or written in another way: it counts for this life
        os.environ[ENV_VARIABLES[0]] = zone
        _print(f'{error}; add it by hand: timezone = "{zone}" below [host]')
        return
    _print(f"{zone} is in {path} now, below [host]; change it there.")


def is_time_zone_unset(root: Path, environ: Mapping[str, str]) -> bool:
    """Whether nobody has said which zone it is, and the machine's says nothing of where people are."""
    if any(environ.get(name) for name in ENV_VARIABLES) or machine_timezone(environ) not in UTC_NAMES:
        return False
    try:
        host = tomllib.loads((root / SETTINGS_FILE).read_text(encoding="utf-8-sig")).get("host", {})
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False  # whoever reads the settings says what is wrong
    return isinstance(host, dict) and "timezone" not in host


def ask_time_zone(read: Callable[[str], str | None], write: Callable[[str], None]) -> str | None:
    """The zone that somebody named; None: nobody answered. `read` shows its prompt, and answers with a line."""
    write(QUESTION)
    known = available_timezones()
    for _ in range(MAX_ATTEMPTS):
        line = read("time zone [UTC]: ")
        if line is None:
            return None
        if not line.strip():
            return "UTC"
        if (found := match_time_zone(line, known)) is not None:
            return found
        near = (
            f"; did you mean {' or '.join(suggest_time_zones(line, known))}?" if suggest_time_zones(line, known) else ""
        )
        write(f"There is no time zone {replace_control_chars(line.strip()[:40])!r}{near}")
    return None


def match_time_zone(text: str, known: Collection[str]) -> str | None:
    """The zone of this name, or of the city at the end of one."""
    words = _normalize(text)
    whole = [name for name in known if name.casefold() == words]
    cities = sorted(name for name in known if "/" in name and _city_name(name) == words)
    return next(iter(whole or cities), None)


def suggest_time_zones(text: str, known: Collection[str]) -> list[str]:
    """Those with a city that is written almost so."""
    cities = {_city_name(name): name for name in sorted(known, reverse=True) if "/" in name}
    return [
        cities[city] for city in difflib.get_close_matches(_normalize(text).rpartition("/")[2], cities, 2, cutoff=0.75)
    ]


def _normalize(typed: str) -> str:
    return "_".join(typed.split()).casefold()


def _city_name(name: str) -> str:
    return name.rpartition("/")[2].casefold()


def save_time_zone(root: Path, zone: str) -> Path:
    """Add it to nanohost.toml. Raises UsageError where a person has to."""
    return settings_file.update_table(root, ("host",), {"timezone": zone})


def _is_home_locked(home: Home) -> bool:
    """Whether a host runs here: it has its zone already. A home that cannot be made is for the host to complain of."""
    try:
        with lock_home(home, LockPurpose.COMMAND):
            return False
    except HomeLocked:
        return True


def _read_line(prompt: str) -> str | None:
    """A line of the terminal; None: none came, or no more will."""
    print(prompt, end="", flush=True)
    ready, _, _ = select.select([sys.stdin], [], [], ANSWER_TIMEOUT_S)
    if not ready:
        print(f"\nNo answer within {ANSWER_TIMEOUT_S:g} s: it is UTC until the next start.", flush=True)
        return None
    line = os.read(sys.stdin.fileno(), 4096)
    return line.decode(errors="replace") if line else None


def _print(text: str) -> None:
    print_wrapped(text)

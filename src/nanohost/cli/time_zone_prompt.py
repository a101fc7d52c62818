"""Asks for the time zone once, if the machine's clock is in UTC and none is set.

Servers use UTC, and people do not: a reminder at nine would arrive at another hour. It asks only at a terminal when a
host starts, and only for a limited time: an unattended start continues in UTC, and asks again the next time.
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
"""Names of UTC in zone databases."""
ANSWER_TIMEOUT_S = 60.0
"""Seconds for an answer; after that the start continues."""
MAX_ATTEMPTS = 3
QUESTION = (
    "This machine's clock is in UTC. Which time zone are you in?\n"
    "Reminders and all times that are shown go by it. Type a city or a name, such as\n"
    "Berlin or America/New_York; Enter keeps UTC."
)


def ensure_time_zone(home: Home) -> None:
    """Asks for the zone, if it is not set and there is a terminal, and writes the answer to nanohost.toml."""
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
    except UsageError as error:  # the file cannot be changed: use the zone for this process only
        os.environ[ENV_VARIABLES[0]] = zone
        _print(f'{error}; add it by hand: timezone = "{zone}" below [host]')
        return
    _print(f"{zone} is in {path} now, below [host]; change it there.")


def is_time_zone_unset(root: Path, environ: Mapping[str, str]) -> bool:
    """Returns whether no zone is set, and the machine's own is UTC."""
    if any(environ.get(name) for name in ENV_VARIABLES) or machine_timezone(environ) not in UTC_NAMES:
        return False
    try:
        host = tomllib.loads((root / SETTINGS_FILE).read_text(encoding="utf-8-sig")).get("host", {})
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False  # loading the settings will report the error
    return isinstance(host, dict) and "timezone" not in host


def ask_time_zone(read: Callable[[str], str | None], write: Callable[[str], None]) -> str | None:
    """Asks for a zone and returns it; None without an answer. `read` shows a prompt and returns a line."""
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
    """Returns the zone with this name, or with this city at its end."""
    words = _normalize(text)
    whole = [name for name in known if name.casefold() == words]
    cities = sorted(name for name in known if "/" in name and _city_name(name) == words)
    return next(iter(whole or cities), None)


def suggest_time_zones(text: str, known: Collection[str]) -> list[str]:
    """Returns the zones with a similar city name."""
    cities = {_city_name(name): name for name in sorted(known, reverse=True) if "/" in name}
    return [
        cities[city] for city in difflib.get_close_matches(_normalize(text).rpartition("/")[2], cities, 2, cutoff=0.75)
    ]


def _normalize(typed: str) -> str:
    return "_".join(typed.split()).casefold()


def _city_name(name: str) -> str:
    return name.rpartition("/")[2].casefold()


def save_time_zone(root: Path, zone: str) -> Path:
    """Adds the zone to nanohost.toml. Raises UsageError if the file must be edited by hand."""
    return settings_file.update_table(root, ("host",), {"timezone": zone})


def _is_home_locked(home: Home) -> bool:
    """Returns whether a host runs here, which has its zone already. Errors of the home are left to the host."""
    try:
        with lock_home(home, LockPurpose.COMMAND):
            return False
    except HomeLocked:
        return True


def _read_line(prompt: str) -> str | None:
    """Reads a line from the terminal; None after the timeout or at the end of input."""
    print(prompt, end="", flush=True)
    ready, _, _ = select.select([sys.stdin], [], [], ANSWER_TIMEOUT_S)
    if not ready:
        print(f"\nNo answer within {ANSWER_TIMEOUT_S:g} s: it is UTC until the next start.", flush=True)
        return None
    line = os.read(sys.stdin.fileno(), 4096)
    return line.decode(errors="replace") if line else None


def _print(text: str) -> None:
    print_wrapped(text)

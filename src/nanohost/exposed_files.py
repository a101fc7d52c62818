"""What others on this machine can read and should not: found, with the command that mends it. Blocking."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanohost.home import Home
from nanohost.runtimes.folders import CONTAINER_UID
from nanohost.settings import FILE, Settings, secrets_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """`problem`: in a sentence without a full stop; `do`: a command of the shell."""

    path: Path
    problem: str
    do: str


def exposed(home: Home, settings: Settings) -> list[Exposed]:
    """Nothing, for a home that is as `Home.prepare` makes it and settings that hold no secret themselves."""
    return [*_settings_file(home.root / FILE, settings), *_groups(home.groups)]


def _settings_file(path: Path, settings: Settings) -> Sequence[Exposed]:
    secrets = secrets_of(settings)
    if not secrets or not _open_to(path, stat.S_IRGRP | stat.S_IROTH):
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    if not any(secret in text for secret in secrets):
        return []
    return [
        Exposed(path=path, problem="others on this machine can read the secrets in it", do=f"chmod 600 {_word(path)}")
    ]


def _groups(path: Path) -> Sequence[Exposed]:
    """The agents' folders, with their memory. Private by the folder above them, as sessions are: what a container is
    given is mounted by somebody who may enter."""
    if not _open_to(path, stat.S_IRWXG | stat.S_IRWXO):
        return []
    problem = "others on this machine can enter it, and read what agents keep"
    if os.getuid() == 0 and (name := _named(CONTAINER_UID)) is not None:
        changer = f"{name}, whose number containers have, can change what agents keep"
        problem = f"others on this machine can enter it, and {changer}"
    return [Exposed(path=path, problem=problem, do=f"chmod 700 {_word(path)}")]


def _open_to(path: Path, bits: int) -> bool:
    try:
        return bool(path.stat().st_mode & bits)
    except OSError:
        return False


def _named(uid: int) -> str | None:
    """Who on this machine has the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _word(path: Path) -> str:
    return shlex.quote(str(path))

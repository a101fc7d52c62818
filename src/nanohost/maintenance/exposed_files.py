"""Finds files that others on this machine can read and should not, with the command that fixes it. Blocking."""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanohost.config.home import Home
from nanohost.config.settings import SETTINGS_FILE, Settings, collect_secrets
from nanohost.runtimes.session_folders import CONTAINER_UID


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposedFile:
    """A file that others can read. `problem`: a sentence without a full stop. `fix_command`: a shell command."""

    path: Path
    problem: str
    fix_command: str


def find_exposed_files(home: Home, settings: Settings) -> list[ExposedFile]:
    """Returns the exposed files; none if the home is as `Home.prepare` makes it and the settings file has no
    secrets."""
    return [*_check_settings_file(home.root / SETTINGS_FILE, settings), *_check_groups_folder(home.groups)]


def _check_settings_file(path: Path, settings: Settings) -> Sequence[ExposedFile]:
    secrets = collect_secrets(settings)
    if not secrets or not _has_mode_bits(path, stat.S_IRGRP | stat.S_IROTH):
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    if not any(secret in text for secret in secrets):
        return []
    return [
        ExposedFile(
            path=path,
            problem="others on this machine can read the secrets in it",
            fix_command=f"chmod 600 {_shell_quoted(path)}",
        )
    ]


def _check_groups_folder(path: Path) -> Sequence[ExposedFile]:
    """Check that others cannot enter the folder of the agents' folders, which keeps them private. A container needs no
    access to it, since its folder is mounted by a process that has access."""
    if not _has_mode_bits(path, stat.S_IRWXG | stat.S_IRWXO):
        return []
    problem = "others on this machine can enter it, and read what agents keep"
    if os.getuid() == 0 and (name := _user_name(CONTAINER_UID)) is not None:
        changer = f"{name}, whose number containers have, can change what agents keep"
        problem = f"others on this machine can enter it, and {changer}"
    return [ExposedFile(path=path, problem=problem, fix_command=f"chmod 700 {_shell_quoted(path)}")]


def _has_mode_bits(path: Path, bits: int) -> bool:
    try:
        return bool(path.stat().st_mode & bits)
    except OSError:
        return False


def _user_name(uid: int) -> str | None:
    """Returns the name of the user with this uid; None if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _shell_quoted(path: Path) -> str:
    return shlex.quote(str(path))

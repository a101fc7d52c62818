"""Defines the paths of an install, and locks it for the process that uses it.

    nanohost.toml   data/   groups/   sessions/   channels/   migrations/   run/
    providers/   tools/   runtimes/   actions/   chat_commands/

One process at a time holds the data directory, with a lock that the kernel frees when the process ends, however it
ends. Never: opens a database.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from nanohost.config.install_root import CONTROL_SOCKET, find_root
from nanohost.config.shipped import shipped_root
from nanohost.errors import HomeError
from nanohost.text.phrases import format_duration
from nanohost_protocol.layout import PROVIDERS, TOOLS
from nanohost_protocol.times import from_text, to_text

CLAUDE_MD_TEMPLATE = """# {name}

You are {name}, a personal assistant. People write to you in chats; answer briefly and in their language.

This folder is yours in all your conversations, and so is your memory in memory/.
This file is read at the start of each conversation.
"""


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of an install."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "data" / "nanohost.db"

    @property
    def backups(self) -> Path:
        return self.root / "data" / "backups"

    @property
    def lock_file(self) -> Path:
        return self.root / "data" / "holder"

    @property
    def daemon_lock_file(self) -> Path:
        return self.root / "data" / "announced"

    @property
    def groups(self) -> Path:
        return self.root / "groups"

    @property
    def sessions(self) -> Path:
        return self.root / "sessions"

    @property
    def channels(self) -> Path:
        return self.root / "channels"

    @property
    def actions(self) -> Path:
        return self.root / "actions"

    @property
    def chat_commands(self) -> Path:
        return self.root / "chat_commands"

    @property
    def locales(self) -> Path:
        return self.root / "locales"

    @property
    def runner_extensions(self) -> tuple[Path, ...]:
        """The existing folders with the install's own files for runners."""
        return tuple(folder for name in (PROVIDERS, TOOLS) if (folder := self.root / name).is_dir())

    @property
    def migrations(self) -> Path:
        return self.root / "migrations"

    @property
    def run_dir(self) -> Path:
        return self.root / "run"

    @property
    def control_socket(self) -> Path:
        return self.root / CONTROL_SOCKET

    @property
    def channel_folders(self) -> tuple[Path, ...]:
        """The folders of channel files: the shipped one, then the install's own."""
        return tuple(dict.fromkeys((shipped_root() / "channels", self.channels)))

    @property
    def migration_folders(self) -> tuple[Path, ...]:
        """The folders of migration sets, in the same order."""
        return tuple(dict.fromkeys((shipped_root() / "migrations", self.migrations)))

    def exists(self) -> bool:
        """Whether there is an install here, even if its database is lost. Also True if the root is not a folder; then
        `prepare` raises an error."""
        paths = (self.database, self.backups, self.root / "nanohost.toml")
        return any(path.exists() for path in paths) or (self.root.exists() and not self.root.is_dir())

    def prepare(self) -> None:
        """Create missing folders. Makes data, sessions and run private to this user; groups only if it is created here
        or came empty with a checkout, since the operator sets the mode of one in use. Raises HomeError."""
        try:
            is_new = not self.backups.exists() and not self._has_agents()
            self.backups.mkdir(parents=True, exist_ok=True)
            self.groups.mkdir(mode=0o700, exist_ok=True)
            if is_new:
                self.groups.chmod(0o700)
            for folder in (self.database.parent, self.sessions, self.run_dir):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise _unusable_error(self.root, error) from error

    def _has_agents(self) -> bool:
        return self.groups.is_dir() and any(not path.name.startswith(".") for path in self.groups.iterdir())

    def agent_folders(self) -> list[str]:
        """Returns the names in `groups` in lower case, as agent groups have them; also of folders without an agent
        group (made by hand, or before a database was lost). Raises OSError."""
        return [path.name.casefold() for path in self.groups.iterdir()] if self.groups.is_dir() else []

    def create_group_folder(self, folder: str, name: str) -> None:
        """Create an agent group's folder, and an initial CLAUDE.md if it has none. Raises OSError."""
        claude_md = self.groups / folder / "CLAUDE.md"
        claude_md.parent.mkdir(parents=True, exist_ok=True)
        # Mode x: a container may have left a dangling link there, which must not be followed.
        with suppress(FileExistsError), claude_md.open("x", encoding="utf-8") as file:
            file.write(CLAUDE_MD_TEMPLATE.format(name=name))


def make_home(root: str) -> Home:
    """Returns the install in this folder."""
    return Home(Path(root))


def home_of_database(database: Path) -> Home:
    """Returns the install with this database."""
    return Home(database.parent.parent)


class LockPurpose(StrEnum):
    """Why a process holds the data directory."""

    HOST = "host"
    """The daemon, or a chat that is its own host: until it ends."""
    COMMAND = "command"
    """A single command while no host runs: for a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHolder:
    """The process that holds a data directory."""

    pid: int
    since: datetime
    purpose: LockPurpose


class HomeLocked(HomeError):
    """Another process holds the data directory. `holder` is None if it has not written its data yet."""

    def __init__(self, home: Home, holder: LockHolder | None) -> None:
        who = f" (pid {holder.pid}, begun {format_duration(datetime.now(UTC) - holder.since)} ago)" if holder else ""
        super().__init__(f"another nanohost{who} holds {home.root}", hint="nanohost status")
        self.holder = holder


def find_home(option: Path | None, environ: Mapping[str, str]) -> Path:
    """Returns --home, else NANOHOST_HOME, else the checkout of this code, else ~/.nanohost; absolute."""
    return Path(find_root(None if option is None else str(option), environ))


@contextmanager
def lock_home(home: Home, purpose: LockPurpose = LockPurpose.HOST) -> Iterator[None]:
    """Hold the data directory while entered. Raises HomeLocked at once if another process holds it.

    The lock file is never removed: otherwise two processes could lock two files of the same name.
    """
    home.prepare()
    try:
        descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable_error(home.root, error) from error
    try:
        _acquire_lock(descriptor, home)
        _write_holder(descriptor, home, purpose)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def announce_daemon(home: Home) -> Iterator[None]:
    """Announce a running or starting daemon while entered: from before it locks the home until after it unlocks it.
    Several processes may announce one. Raises HomeError."""
    home.prepare()
    with _open_daemon_lock(home) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits for `is_daemon_announced` in another process
        yield


def is_daemon_announced(home: Home) -> bool:
    """Whether a daemon runs or starts. Raises HomeError."""
    with _open_daemon_lock(home) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@contextmanager
def _open_daemon_lock(home: Home) -> Iterator[int]:
    try:
        descriptor = os.open(home.daemon_lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable_error(home.root, error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire_lock(descriptor: int, home: Home) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HomeLocked(home, _read_holder(descriptor)) from None
    except OSError as error:
        raise _unusable_error(home.root, error) from error


def _write_holder(descriptor: int, home: Home, holding: LockPurpose) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {to_text(datetime.now(UTC))} {holding}\n".encode(), 0)
    except OSError as error:
        raise _unusable_error(home.root, error) from error


def _read_holder(descriptor: int) -> LockHolder | None:
    try:
        pid, since, holding = os.pread(descriptor, 200, 0).decode().split()
        return LockHolder(pid=int(pid), since=from_text(since), purpose=LockPurpose(holding))
    except ValueError:
        return None  # the holder has the lock and has not written its data yet


def _unusable_error(root: Path, error: OSError) -> HomeError:
    return HomeError(
        f"{error.filename or root} cannot be written: {error.strerror}",
        hint="choose a folder you may write with --home, or set NANOHOST_HOME",
    )

"""The processes that are killed: the host as an operator runs it, and the runners it started."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

CHANNELS = Path(__file__).parent / "channels"


class HostProcess:
    """`nanohost run` in a home of its own, started again after each kill."""

    def __init__(self, root: Path, port: int, **host_settings: object) -> None:
        self.root = root
        self.kills = 0
        self._process: subprocess.Popen[bytes] | None = None
        settings = {"timezone": "UTC", "provider": "scripted"} | host_settings
        lines = ["[host]", *(f"{key} = {_toml(value)}" for key, value in settings.items())]
        root.mkdir(parents=True, exist_ok=True)
        (root / "nanohost.toml").write_text("\n".join([*lines, "", "[channels.wire]", f"port = {port}", ""]))
        shutil.copytree(CHANNELS, root / "channels", dirs_exist_ok=True)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """An operator's command on this home."""
        line = [sys.executable, "-m", "nanohost", "--home", str(self.root), *words]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60, env=_environment())

    def start(self) -> None:
        with (self.root / "host.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nanohost", "--home", str(self.root), "run"],
                stdout=log,
                stderr=log,
                env=_environment(),
            )

    def kill(self) -> None:
        """SIGKILL: nothing is said, nothing is tidied."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.kills += 1

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(40)

    def runners(self) -> list[int]:
        """The pids of the runners of this home's sessions, whatever started them."""
        sessions = {path.name for path in (self.root / "sessions").glob("*/*")}
        return [pid for pid, words in _processes() if _session_of(words) in sessions]

    def kill_a_runner(self, chance: random.Random) -> bool:
        """SIGKILL one of them; False if there is none."""
        pids = self.runners()
        if not pids:
            return False
        with suppress(ProcessLookupError):
            os.kill(chance.choice(pids), signal.SIGKILL)
        return True

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pid in self.runners():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NANOHOST_", "ANTHROPIC_"))}
    return kept | {"NANOHOST_LOG": "json"}


def _processes() -> list[tuple[int, list[str]]]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                found.append((int(folder.name), (folder / "cmdline").read_text(errors="replace").split("\0")))
    return found


def _session_of(words: list[str]) -> str | None:
    if "agent_runner" not in words or "--session" not in words:
        return None
    return words[words.index("--session") + 1]


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)

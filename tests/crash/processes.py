"""The processes that are killed: the host as an operator runs it, and the runners it started."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nanohost.testing.time_limits import scaled_timeout
from nanohost_protocol.crash_points import ENV_VARIABLE, RUNNER_ENV_VARIABLE
from tests.support.fork_server import ForkedNanohost

READY_MARKER = b'"event": "host_ready"'
DEATH_MARKER = '"ordered": false'
"""In the host's log: a container is gone that was not stopped."""
CHANNELS = Path(__file__).parent / "channels"
HOME_PLACEHOLDER = "{home}"
NANOHOST = ("-m", "nanohost")
NANOHOST_RUN = (*NANOHOST, "--home", HOME_PLACEHOLDER, "run")


class HostProcess:
    """`nanohost run` in a home of its own, started again after each kill."""

    def __init__(
        self,
        root: Path,
        port: int,
        host_settings: Mapping[str, object],
        *,
        idempotent: bool = True,
        log: str | Path = "host.log",
        program: Sequence[str] = NANOHOST_RUN,
        environment: Mapping[str, str] | None = None,
        forked: bool = True,
        able: bool = False,
        guard: Mapping[str, str] | None = None,
    ) -> None:
        """`program`: arguments of Python, {home} in them; `environment`: additional variables. `forked`: it is started
        from a process that has its code loaded; `nanohost run` alone can be. `able`: its platform has buttons; `guard`:
        the settings of that name."""
        self.root = root
        self._program = program
        self._is_forked = forked and program == NANOHOST_RUN
        self._environment = dict(environment or {})
        self.log = root / log
        self.kill_count = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log_before = 0
        settings = {"timezone": "UTC", "provider": "scripted", **host_settings}
        lines = ["[host]", *(f"{key} = {_toml(value)}" for key, value in settings.items())]
        root.mkdir(parents=True, exist_ok=True)
        channel = ["[channels.wire]", f"port = {port}", f"idempotent = {_toml(idempotent)}", f"able = {_toml(able)}"]
        guarded = ["[guard]", *(f'"{key}" = {_toml(value)}' for key, value in (guard or {}).items())]
        (root / "nanohost.toml").write_text("\n".join([*lines, "", *channel, "", *guarded, ""]))
        shutil.copytree(CHANNELS, root / "channels", dirs_exist_ok=True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """An operator's command on this home."""
        if self._is_forked:
            return self._run_forked(*words)
        line = [sys.executable, "-m", "nanohost", "--home", str(self.root), *words]
        return subprocess.run(
            line, capture_output=True, text=True, check=False, timeout=scaled_timeout(60), env=_environment()
        )

    def _run_forked(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ("--home", str(self.root), *words)
        pipe = subprocess.PIPE
        with ForkedNanohost[str](command, text=True, env=_environment(), stdout=pipe, stderr=pipe) as process:
            out, err = process.communicate(timeout=scaled_timeout(60))
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def start(self, *, crash_at: str = "", crash_runner_at: str = "") -> None:
        """Start it. `crash_at`, `crash_runner_at`: the crash point of the host, or of every runner it starts; NAME or
        NAME:N."""
        crashes = {ENV_VARIABLE: crash_at, RUNNER_ENV_VARIABLE: crash_runner_at}
        environment = _environment() | self._environment | {name: point for name, point in crashes.items() if point}
        words = [word.replace(HOME_PLACEHOLDER, str(self.root)) for word in self._program]
        with self.log.open("ab") as log:
            self._log_before = log.tell()
            if self._is_forked:
                self._process = ForkedNanohost(words[len(NANOHOST) :], stdout=log, stderr=log, env=environment)
            else:
                self._process = subprocess.Popen([sys.executable, *words], stdout=log, stderr=log, env=environment)

    def kill(self) -> None:
        """SIGKILL, without any cleanup."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.kill_count += 1

    def wait_for_exit(self, timeout_s: float) -> int | None:
        """The exit code, or None if it still runs after so many seconds. Counts as a kill what ended by SIGKILL."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self.kill_count += code == -signal.SIGKILL
        return code

    def is_ready(self) -> bool:
        """Whether the host that was started last has reported that it is ready."""
        with self.log.open("rb") as log:
            log.seek(self._log_before)
            return READY_MARKER in log.read()

    def count_runner_deaths(self) -> int:
        """The number of runners that ended without being stopped, as the host logged them."""
        return sum(1 for line in self.log.read_text().splitlines() if DEATH_MARKER in line)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(scaled_timeout(40))

    def runner_pids(self) -> list[int]:
        """The pids of the runners of this home's sessions, and of what an engine wraps around them."""
        return [pid for pid, _ in self._runner_processes()]

    def runner_leases(self) -> list[tuple[str, str]]:
        """Session and lease of every living runner."""
        return [
            (_option_value("--session", words), _option_value("--lease", words))
            for _, words in self._runner_processes()
            if Path(words[0]).name.startswith("python")
        ]

    def _runner_processes(self) -> list[tuple[int, list[str]]]:
        sessions = {path.name for path in (self.root / "sessions").glob("*/*")}
        return [(pid, words) for pid, words in _processes() if _option_value("--session", words) in sessions]

    def kill_random_runner(self, chance: random.Random) -> bool:
        """SIGKILL one of them; False if there is none."""
        pids = self.runner_pids()
        if not pids:
            return False
        with suppress(ProcessLookupError):
            os.kill(chance.choice(pids), signal.SIGKILL)
        return True

    def kill_all_runners(self) -> int:
        """SIGKILL to each of them; how many."""
        pids = self.runner_pids()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def cleanup(self) -> None:
        """Stop everything, whatever the test did."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self.kill_all_runners()


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


def _option_value(option: str, words: list[str]) -> str:
    """The value of an option of a runner's command line; empty for other processes."""
    return words[words.index(option) + 1] if "agent_runner" in words and option in words else ""


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)

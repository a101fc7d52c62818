"""Defines the paths in a session's folder and in a container.

A folder is mounted, never a database file alone: without the journal beside the file, a reader after a crash would see
uncommitted rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WORKSPACE = Path("/workspace")
"""The session's folder in a container. Runtimes without mounts pass another path in NANOHOST_WORKSPACE."""
EXTENSIONS = Path("/opt/nanohost-extensions")
"""The folder of the install's own providers and tools in a container. NANOHOST_EXTENSIONS is set if there are any, to
this path or, for runtimes without mounts, to another."""
PROVIDERS, TOOLS = "providers", "tools"
"""The names of its folders, the same as in the install root."""


@dataclass(frozen=True, slots=True)
class SessionLayout:
    """The paths of one session below `root`: the session's folder on the host, /workspace in a container.

    The host writes `in_dir`, which is read-only in the container. The container writes `out_dir` and `state_dir`.
    `run_dir` holds sockets on which the host listens. `log_dir` is not visible in the container.
    """

    root: Path

    @property
    def in_dir(self) -> Path:
        return self.root / "in"

    @property
    def out_dir(self) -> Path:
        return self.root / "out"

    @property
    def state_dir(self) -> Path:
        return self.root / "state"

    @property
    def run_dir(self) -> Path:
        return self.root / "run"

    @property
    def log_dir(self) -> Path:
        return self.root / "log"

    @property
    def inbound_db(self) -> Path:
        return self.in_dir / "inbound.db"

    @property
    def wake_fifo(self) -> Path:
        return self.in_dir / "wake"

    @property
    def outbound_db(self) -> Path:
        return self.out_dir / "outbound.db"

    @property
    def writer_lock(self) -> Path:
        return self.out_dir / ".writer"

    @property
    def heartbeat(self) -> Path:
        return self.out_dir / ".heartbeat"

    @property
    def gateway_socket(self) -> Path:
        return self.run_dir / "gateway.sock"

    @property
    def agent_dir(self) -> Path:
        """The agent group's folder: a mount in a container, a link for runtimes without mounts."""
        return self.root / "agent"

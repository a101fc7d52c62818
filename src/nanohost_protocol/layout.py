"""Where things are: inside a session's folder, and inside a container.

A folder is mounted, never a database file alone: without its journal beside it a reader after a crash would see
uncommitted rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WORKSPACE = Path("/workspace")
"""Where a container finds its session. Runtimes without mounts pass another path in NANOHOST_WORKSPACE."""
EXTENSIONS = Path("/opt/nanohost-extensions")
"""Where a container finds the install's own providers and tools. NANOHOST_EXTENSIONS says that there are any, and names
another path where there are no mounts."""
PROVIDERS, TOOLS = "providers", "tools"
"""The folders in it, as they are called in the install root, too."""


@dataclass(frozen=True, slots=True)
class SessionLayout:
    """The paths of one session below `root`: the session's folder on the host, /workspace in a container.

    `in_dir` is written by the host and read-only to the container; `out_dir` and `state_dir` are the container's;
    `run_dir` holds sockets the host listens on; `log_dir` is never visible inside.
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
        """The agent group's folder: mounted here in a container, linked here where there are no mounts."""
        return self.root / "agent"

"""Builds bubblewrap's arguments: the namespaces, the mounts, and the sandbox's own small files. Pure.

Of /etc only the listed entries are visible, because a sandbox of a root host can read what root can.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanohost.runtimes.session_folders import CONTAINER_UID
from nanohost_protocol.layout import EXTENSIONS, WORKSPACE, SessionLayout

SANDBOX_PACKAGES_DIR = Path("/opt/nanohost")
"""The path of the runner's packages in a sandbox."""

_SYSTEM_DIRS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

_ETC_ENTRIES = (
    "alternatives",
    "ca-certificates",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxUser:
    """The user of processes in a sandbox."""

    uid: int
    gid: int

    @classmethod
    def current(cls) -> SandboxUser:
        """Returns this user; for root, the uid that containers have with every runtime."""
        if os.geteuid() == 0:
            return cls(uid=CONTAINER_UID, gid=CONTAINER_UID)
        return cls(uid=os.getuid(), gid=os.getgid())

    @property
    def passwd(self) -> str:
        """An /etc/passwd with only this user: some programs refuse to run as an unknown user."""
        return f"agent:x:{self.uid}:{self.gid}::{WORKSPACE}/state:/bin/sh\n"

    @property
    def group(self) -> str:
        return f"agent:x:{self.gid}:\n"


def isolation_arguments(user: SandboxUser) -> list[str]:
    """Returns the arguments for isolation: own namespaces, no capabilities, no terminal, not root."""
    return [
        *("--unshare-all", "--new-session", "--cap-drop", "ALL"),
        *("--uid", str(user.uid), "--gid", str(user.gid), "--hostname", "nanohost"),
    ]


def system_arguments(prefixes: Sequence[Path]) -> list[str]:
    """Returns the arguments for the system: the machine's programs, read-only, and new /proc, /dev and /tmp.
    `prefixes`: folders of the interpreter."""
    return [
        *("--ro-bind", "/usr", "/usr"),
        *(word for name in _SYSTEM_DIRS for word in _system_dir_arguments(Path("/", name))),
        *(word for name in _ETC_ENTRIES for word in ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")),
        # Read-only as a whole: a sandbox of a root host could otherwise write /proc/sys/kernel/core_pattern.
        *("--proc", "/proc", "--remount-ro", "/proc"),
        *("--dev", "/dev", "--tmpfs", "/tmp"),  # noqa: S108 - inside the sandbox
        # After /tmp, because an install may be in there.
        *(word for prefix in prefixes for word in ("--ro-bind", str(prefix), str(prefix))),
    ]


def _system_dir_arguments(path: Path) -> Iterator[str]:
    if path.is_symlink():
        yield from ("--symlink", str(path.readlink()), str(path))
    elif path.is_dir():
        yield from ("--ro-bind", str(path), str(path))


def interpreter_prefixes() -> list[Path]:
    """Returns the folders of this Python that are not below /usr."""
    prefixes = dict.fromkeys((Path(sys.base_prefix), Path(sys.prefix), Path(sys.executable).resolve().parent.parent))
    return [prefix for prefix in prefixes if not prefix.is_relative_to("/usr")]


def session_arguments(layout: SessionLayout, agent_dir: Path, extensions: Sequence[Path]) -> list[str]:
    """Returns the arguments to mount the session as /workspace, and the install's extensions beside it. Folders are
    mounted, never a database alone; outbound.db is also mounted over itself, so that no link can replace it."""
    inside = SessionLayout(WORKSPACE)
    return [
        *("--ro-bind", str(layout.in_dir), str(inside.in_dir)),
        *("--bind", str(layout.out_dir), str(inside.out_dir)),
        *("--bind", str(layout.outbound_db), str(inside.outbound_db)),
        *("--bind", str(layout.state_dir), str(inside.state_dir)),
        *("--ro-bind", str(layout.run_dir), str(inside.run_dir)),
        *("--bind", str(agent_dir), str(inside.agent_dir)),
        *(word for one in extensions for word in ("--ro-bind", str(one), str(EXTENSIONS / one.name))),
        *("--chdir", str(inside.agent_dir)),
    ]


def file_arguments(passwd: int, group: int, seccomp: int | None) -> list[str]:
    """Returns the arguments for files that are passed as descriptors, and last for the read-only root."""
    return [
        *("--ro-bind-data", str(passwd), "/etc/passwd"),
        *("--ro-bind-data", str(group), "/etc/group"),
        *(() if seccomp is None else ("--seccomp", str(seccomp))),
        *("--remount-ro", "/"),
    ]

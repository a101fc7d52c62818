"""Raises this process's limit of open files, and warns if it is too low."""

from __future__ import annotations

import resource

MIN_OPEN_FILES = 1024
"""A container needs about ten (its databases, their locks, its gateway), a channel a few, the host forty."""
MAX_OPEN_FILES = 65_536
"""More are not needed, and some libraries allocate memory for each possible one."""


def raise_file_limit() -> str | None:
    """Raises the soft limit to the hard one. Returns a warning if that is too low; None if it is enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if 0 <= soft < highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
        soft = highest
    if soft == resource.RLIM_INFINITY or soft >= MIN_OPEN_FILES:
        return None
    return (
        f"This process may have {soft} files open, and a host with a few conversations needs "
        f"{MIN_OPEN_FILES}: channels and"
        f" containers will fail. Raise it with: ulimit -Hn {MIN_OPEN_FILES} "
        f"(LimitNOFILE={MIN_OPEN_FILES} in a systemd unit)."
    )

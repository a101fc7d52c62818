"""Raises this process's limit of open files, and warns where it is too low."""

from __future__ import annotations

import resource

MIN_OPEN_FILES = 1024
"""A container takes about ten (its databases, their locks, its gateway), a channel a few, the host forty."""
MAX_OPEN_FILES = 65_536
"""More is of no use to us, and some libraries prepare for as many as there may be."""


def raise_file_limit() -> str | None:
    """Raise the soft limit to the hard one. A sentence where it is too low even so; None where it is enough."""
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

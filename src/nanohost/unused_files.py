"""What people put beside an install for agents and nothing uses yet: found, with what to do. Blocking; nothing is read.

Skills of an install and tool servers are built later; until then neither is ignored in silence.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nanohost.home import Home

SERVERS = ".mcp.json"
MOST = 20
"""Named at once: they have one cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unused:
    """`problem`: in a sentence without a full stop; `do`: what to do, in words."""

    path: Path
    problem: str
    do: str


def unused(home: Home) -> list[Unused]:
    """Nothing, for a home without skills and tool servers. What is in an agent's folder may be the agent's doing."""
    return list(itertools.islice(_found(home), MOST))


def _found(home: Home) -> Iterator[Unused]:
    folders = [home.groups / name for name in _names(home.groups)]
    for path in (home.root, *folders):
        if os.path.lexists(path / SERVERS):
            yield Unused(
                path=path / SERVERS,
                problem="no tool server is started or connected yet",
                do=f"leave {SERVERS} for a later version, or remove it: docs/agents.md",
            )
    for path in (home.root, *folders):
        for name in _names(path / "skills"):
            yield Unused(
                path=path / "skills" / name,
                problem="skills are not looked for here yet",
                do="put a skill into groups/AGENT/.claude/skills/: docs/agents.md",
            )


def _names(folder: Path) -> list[str]:
    """What is in a folder that is no link, but for what is hidden."""
    try:
        if folder.is_symlink():
            return []
        return sorted(entry.name for entry in itertools.islice(os.scandir(folder), 1000) if entry.name[0] != ".")
    except OSError:
        return []

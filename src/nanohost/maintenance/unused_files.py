"""Finds files beside an install that nothing uses, with what to do about them. Blocking; reads none of them.

Skills of an install and tool servers are built later; until then neither is ignored in silence.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nanohost.config.home import Home

MCP_CONFIG_FILE = ".mcp.json"
MAX_REPORTED = 20
"""Named at once: they have one cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedFile:
    """`problem`: in a sentence without a full stop; `hint`: what to do, in words."""

    path: Path
    problem: str
    hint: str


def find_unused_files(home: Home) -> list[UnusedFile]:
    """Nothing, for a home without skills and tool servers. What is in an agent's folder may be the agent's doing."""
    return list(itertools.islice(_iter_unused_files(home), MAX_REPORTED))


def _iter_unused_files(home: Home) -> Iterator[UnusedFile]:
    folders = [home.groups / name for name in _visible_names(home.groups)]
    for path in (home.root, *folders):
        if os.path.lexists(path / MCP_CONFIG_FILE):
            yield UnusedFile(
                path=path / MCP_CONFIG_FILE,
                problem="no tool server is started or connected yet",
                hint=f"leave {MCP_CONFIG_FILE} for a later version, or remove it: docs/agents.md",
            )
    for path in (home.root, *folders):
        for name in _visible_names(path / "skills"):
            yield UnusedFile(
                path=path / "skills" / name,
                problem="skills are not looked for here yet",
                hint="put a skill into groups/AGENT/.claude/skills/: docs/agents.md",
            )


def _visible_names(folder: Path) -> list[str]:
    """What is in a folder that is no link, but for what is hidden."""
    try:
        if folder.is_symlink():
            return []
        return sorted(entry.name for entry in itertools.islice(os.scandir(folder), 1000) if entry.name[0] != ".")
    except OSError:
        return []

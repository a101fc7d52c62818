"""Finds files of an install that nothing uses, with what to do about them. Blocking; reads none of them.

Skills of an install and tool servers are not supported yet; until then their files are reported.
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
"""The most files that are reported: they have the same cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedFile:
    """A file that nothing uses. `problem`: a sentence without a full stop. `hint`: what to do, in words."""

    path: Path
    problem: str
    hint: str


def find_unused_files(home: Home) -> list[UnusedFile]:
    """Returns unused files of skills and tool servers. Those in an agent's folder may be the agent's own."""
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
    """Returns the names in a folder without hidden ones; none if the folder is a link."""
    try:
        if folder.is_symlink():
            return []
        return sorted(entry.name for entry in itertools.islice(os.scandir(folder), 1000) if entry.name[0] != ".")
    except OSError:
        return []

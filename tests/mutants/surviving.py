"""Surviving mutations: their diffs, and which of them are equivalent."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

EQUIVALENT_FILE = Path(__file__).with_name("equal.toml")
_TEXT = re.compile(r'f?"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True)
class MutationChange:
    """The removed and added lines of a module, without their indentation."""

    module: str
    old: tuple[str, ...]
    new: tuple[str, ...]


def parse_change(module: str, diff: str) -> MutationChange:
    """The mutation in a unified diff of one hunk."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    old, new = (tuple(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return MutationChange(module, old, new)


def is_text_only(change: MutationChange) -> bool:
    """Whether only sentences differ. A text of one word does not count: it may be a status."""
    old, new = (" ".join(lines) for lines in (change.old, change.new))
    if _TEXT.sub("", old) != _TEXT.sub("", new):
        return False
    differing = [
        before for before, after in zip(_TEXT.findall(old), _TEXT.findall(new), strict=True) if before != after
    ]
    return bool(differing) and all(" " in text for text in differing)


def load_equivalent(file: Path = EQUIVALENT_FILE) -> Collection[MutationChange]:
    """Equivalent mutations, each with the reason."""
    found = tomllib.loads(file.read_text(encoding="utf-8"))
    assert all(one["why"] for one in found.get("change", ()))
    return [
        MutationChange(one["module"], tuple(one["old"].strip().splitlines()), tuple(one["new"].strip().splitlines()))
        for one in found.get("change", ())
    ]

"""Changes that no test noticed: what they are, and which of them are no fault."""

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
    """The lines of a module that went and that came in their place, without their indentation."""

    module: str
    old: tuple[str, ...]
    new: tuple[str, ...]


def parse_change(module: str, diff: str) -> MutationChange:
    """The change that a unified diff of one hunk shows."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    old, new = (tuple(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return MutationChange(module, old, new)


def is_text_only(change: MutationChange) -> bool:
    """Whether nothing but sentences differs. A text of one word is none: it may be a state."""
    old, new = (" ".join(lines) for lines in (change.old, change.new))
    if _TEXT.sub("", old) != _TEXT.sub("", new):
        return False
    differing = [
        before for before, after in zip(_TEXT.findall(old), _TEXT.findall(new), strict=True) if before != after
    ]
    return bool(differing) and all(" " in text for text in differing)


def load_equivalent(file: Path = EQUIVALENT_FILE) -> Collection[MutationChange]:
    """Changes that change nothing that anybody could see, each with the reason."""
    found = tomllib.loads(file.read_text(encoding="utf-8"))
    assert all(one["why"] for one in found.get("change", ()))
    return [
        MutationChange(one["module"], tuple(one["old"].strip().splitlines()), tuple(one["new"].strip().splitlines()))
        for one in found.get("change", ())
    ]

"""Moves what conversations of earlier versions noted for themselves into the memory that all of an agent's share.

Promises: nothing that is there is written over, nothing is lost when it is broken off, and done again it changes
nothing. Follows no link. Blocking.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

INDEX = "MEMORY.md"


def migrate_memory(config_dir: Path, target_dir: Path) -> None:
    """Empty <config_dir>/projects/*/memory into `target_dir`. Raises OSError; what was moved by then is there."""
    for old in sorted((config_dir / "projects").glob("*/memory")):
        if old.is_symlink() or not old.is_dir():
            continue
        target_dir.mkdir(exist_ok=True)
        notes = [path for path in sorted(old.iterdir()) if path.is_file() and not path.is_symlink()]
        names = {path.name: _copy_note(path, target_dir) for path in notes if path.name != INDEX}
        if old / INDEX in notes:
            _add_to_index((old / INDEX).read_text(encoding="utf-8", errors="replace"), names, target_dir / INDEX)
        for path in notes:  # last: until all of it is there, it is done again
            path.unlink()
        if not any(old.iterdir()):
            old.rmdir()


def _copy_note(note: Path, memory: Path) -> str:
    """Copy a note, beside one of the same name that says something else. Returns its name there."""
    content = note.read_bytes()
    whole = memory / f".{secrets.token_hex(8)}.new"
    with open(whole, "xb", opener=_open_nofollow) as file:
        file.write(content)
    try:
        return next(name for name in _candidate_names(note, content) if _link_note(whole, memory / name, content))
    finally:
        whole.unlink()


def _candidate_names(note: Path, content: bytes) -> Iterator[str]:
    """What it may be called: as it is, and then by what it says."""
    yield note.name
    beginning = f"{note.stem}-{hashlib.sha256(content).hexdigest()[:8]}"
    yield f"{beginning}{note.suffix}"
    yield from (f"{beginning}-{number}{note.suffix}" for number in itertools.count(2))


def _link_note(whole: Path, target: Path, content: bytes) -> bool:
    """Whether it has the name now, or had it. In one step: another conversation may be doing the same."""
    try:
        target.hardlink_to(whole)
    except FileExistsError:
        return target.is_file() and not target.is_symlink() and target.read_bytes() == content
    return True


def _add_to_index(text: str, names: Mapping[str, str], index: Path) -> None:
    known = set(index.read_text(encoding="utf-8", errors="replace").splitlines()) if index.is_file() else set()
    for name, now in names.items():
        text = text.replace(f"({name})", f"({now})")
    new = [line for line in text.splitlines() if line.strip() and line not in known]
    if new:
        with open(index, "a", encoding="utf-8", opener=_open_nofollow) as file:
            file.write("".join(f"{line}\n" for line in new))


def _open_nofollow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)

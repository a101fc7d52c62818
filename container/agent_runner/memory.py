"""Moves notes of single conversations, from earlier versions, into the memory that all the agent's conversations share.

Promises: nothing is overwritten, an interruption loses nothing, and repeating it changes nothing. Follows no links.
Blocks.
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
    """Moves the notes of <config_dir>/projects/*/memory into `target_dir`. Raises OSError; moved notes stay moved."""
    for old in sorted((config_dir / "projects").glob("*/memory")):
        if old.is_symlink() or not old.is_dir():
            continue
        target_dir.mkdir(exist_ok=True)
        notes = [path for path in sorted(old.iterdir()) if path.is_file() and not path.is_symlink()]
        names = {path.name: _copy_note(path, target_dir) for path in notes if path.name != INDEX}
        if old / INDEX in notes:
            _add_to_index((old / INDEX).read_text(encoding="utf-8", errors="replace"), names, target_dir / INDEX)
        for path in notes:  # last, so that an interrupted migration is repeated
            path.unlink()
        if not any(old.iterdir()):
            old.rmdir()


def _copy_note(note: Path, memory: Path) -> str:
    """Copies a note, under another name if one with different content exists. Returns its new name."""
    content = note.read_bytes()
    whole = memory / f".{secrets.token_hex(8)}.new"
    with open(whole, "xb", opener=_open_nofollow) as file:
        file.write(content)
    try:
        return next(name for name in _candidate_names(note, content) if _link_note(whole, memory / name, content))
    finally:
        whole.unlink()


def _candidate_names(note: Path, content: bytes) -> Iterator[str]:
    """Yields the possible names of a note: its own, then one with a hash of its content."""
    yield note.name
    beginning = f"{note.stem}-{hashlib.sha256(content).hexdigest()[:8]}"
    yield f"{beginning}{note.suffix}"
    yield from (f"{beginning}-{number}{note.suffix}" for number in itertools.count(2))


def _link_note(whole: Path, target: Path, content: bytes) -> bool:
    """Links the note under this name; returns whether it has the name now. Atomic: others may migrate, too."""
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

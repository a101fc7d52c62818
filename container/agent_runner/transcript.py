"""Reads the command line's own record of a conversation: its size and its text. Blocks; writes nothing.

It has one JSON object per line, in <config>/projects/<folder>/<conversation>.jsonl; lines of other kinds are skipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

MAX_CHARS = 20_000
"""Characters that are carried over into a new conversation: the latest ones."""
_SYSTEM_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>\s*", re.DOTALL)


def record_size_bytes(config_dir: Path, conversation: str | None) -> int:
    """Returns the bytes of the record; 0 if there is none."""
    found = _find_record(config_dir, conversation)
    try:
        return found.stat().st_size if found is not None and found.is_file() else 0
    except OSError:
        return 0


def read_as_text(config_dir: Path, conversation: str | None) -> str:
    """Returns the text of the conversation, without pictures, files and tool calls; empty if there is no record."""
    found = _find_record(config_dir, conversation)
    if found is None:
        return ""
    try:
        with found.open(encoding="utf-8", errors="replace") as lines:
            text = "\n".join(_spoken_lines(lines))
    except OSError:
        return ""
    return text if len(text) <= MAX_CHARS else "…" + text[-MAX_CHARS:]


def _find_record(config_dir: Path, conversation: str | None) -> Path | None:
    if not conversation:
        return None
    return next((config_dir / "projects").glob(f"*/{conversation}.jsonl"), None)


def _spoken_lines(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # the last line may be incomplete
            continue
        if not isinstance(entry, dict) or entry.get("isSidechain") or entry.get("isMeta"):
            continue
        who = {"user": "They", "assistant": "You"}.get(str(entry.get("type")))
        if who is None or entry.get("isApiErrorMessage"):
            continue
        message = entry.get("message")
        for text in _text_blocks(message.get("content") if isinstance(message, dict) else None):
            yield f"{who}: {text}"


def _text_blocks(content: object) -> Iterator[str]:
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for block in blocks if isinstance(blocks, list) else []:
        if isinstance(block, dict) and block.get("type") == "text":
            text = _SYSTEM_REMINDER.sub("", str(block.get("text") or "")).strip()
            if text:
                yield text

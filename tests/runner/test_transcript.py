"""Claude Code's record of a conversation, as text; lines as its release 2.1.329 writes them."""

from __future__ import annotations

import json
from pathlib import Path

from agent_runner.transcript import MAX_CHARS, read_as_text, record_size_bytes


def record(config: Path, *entries: object, torn: str = "") -> None:
    folder = config / "projects" / "-work"
    folder.mkdir(parents=True)
    text = "".join(json.dumps(entry) + "\n" for entry in entries) + torn
    (folder / "c1.jsonl").write_text(text, encoding="utf-8")


def record_line(who: str, content: object, **more: object) -> dict[str, object]:
    return {"type": who, "message": {"role": who, "content": content}, **more}


def test_only_the_spoken_text_of_a_record_is_kept(tmp_path: Path) -> None:
    record(
        tmp_path,
        {"type": "queue-operation"},
        record_line("user", "look <system-reminder>woven in</system-reminder>at it"),
        record_line("assistant", [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "I look."}]),
        record_line("assistant", [{"type": "tool_use", "name": "Read", "input": {}}]),
        record_line("user", [{"type": "tool_result", "content": [{"type": "image", "source": {"data": "AAAA"}}]}]),
        record_line("assistant", [{"type": "text", "text": "A cat."}]),
        record_line("user", "woven in", isMeta=True),
        record_line("assistant", [{"type": "text", "text": "of another agent"}], isSidechain=True),
        record_line("assistant", [{"type": "text", "text": "API Error: 400"}], isApiErrorMessage=True),
        [1, 2],
        record_line("user", {"no": "content"}),
        record_line("user", [{"type": "text"}, "odd"]),
        torn='{"type": "user", "mess',
    )
    assert read_as_text(tmp_path, "c1").splitlines() == ["They: look at it", "You: I look.", "You: A cat."]


def test_the_latest_part_of_a_long_conversation_is_kept(tmp_path: Path) -> None:
    record(
        tmp_path, record_line("user", "the first words"), record_line("assistant", "x" * MAX_CHARS + " the last words")
    )
    words = read_as_text(tmp_path, "c1")
    assert len(words) == MAX_CHARS + 1
    assert words.startswith("…x")
    assert words.endswith("the last words")


def test_a_missing_or_invalid_record_is_empty(tmp_path: Path) -> None:
    assert (record_size_bytes(tmp_path, None), record_size_bytes(tmp_path, "c1"), read_as_text(tmp_path, "c1")) == (
        0,
        0,
        "",
    )
    (tmp_path / "projects" / "-work" / "c1.jsonl").mkdir(parents=True)
    assert (record_size_bytes(tmp_path, "c1"), read_as_text(tmp_path, "c1")) == (0, "")

"""One memory for each agent: two conversations of it, the real claude program in each, a stub of the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent_runner.memory import migrate_memory
from tests.runner.host_side import HOME, OFFICE, SessionHost, run_runner
from tests.runner.test_claude import api, claude, socket_to
from tests.support.messages_api import RecordedRequest, StubMessagesApi, Text, ToolUse

__all__ = ["api"]

INDEX = "- [Tea](tea.md) - Ada takes it green\n"


@pytest.fixture
async def two(api: StubMessagesApi, tmp_path: Path) -> AsyncIterator[tuple[SessionHost, SessionHost]]:
    """Two chats of one agent."""
    api.default = Text('<message to="home">yes</message>')
    first, second = (SessionHost(tmp_path / name, destinations=(HOME, OFFICE)) for name in ("s1", "s2"))
    second.layout.agent_dir.rmdir()
    second.layout.agent_dir.symlink_to(first.layout.agent_dir)
    async with (
        socket_to(api.base_url, first.layout.gateway_socket),
        socket_to(api.base_url, second.layout.gateway_socket),
    ):
        yield first, second


def request_text(asked: RecordedRequest) -> str:
    """The whole request to the model."""
    return json.dumps(asked.body)


@pytest.mark.behaviour("RU-14")
async def test_a_note_made_in_one_chat_is_known_in_every_chat_of_the_agent(
    two: tuple[SessionHost, SessionHost], api: StubMessagesApi
) -> None:
    first, second = two
    api.replies.append(ToolUse("Write", {"file_path": str(memory_of(first) / "MEMORY.md"), "content": INDEX}))
    first.write_message("m1", "I take my tea green")
    async with run_runner(first, claude(first)):
        await first.wait_for_acks("m1")
    second.write_message("m2", "what tea do I take?")
    async with run_runner(second, claude(second)):
        await second.wait_for_acks("m2")
    assert "Ada takes it green" in request_text(api.messages[-1])
    assert str(memory_of(second)) in request_text(api.messages[-1])
    assert list(first.layout.state_dir.rglob("MEMORY.md")) == []


@pytest.mark.behaviour("RU-14")
async def test_a_resumed_conversation_knows_notes_made_meanwhile_by_another(
    two: tuple[SessionHost, SessionHost], api: StubMessagesApi
) -> None:
    first, _ = two
    first.write_message("m1", "hello")
    async with run_runner(first, claude(first)):
        await first.wait_for_acks("m1")
    memory_of(first).mkdir(exist_ok=True)
    (memory_of(first) / "MEMORY.md").write_text(INDEX)
    first.write_message("m2", "what tea do I take?")
    async with run_runner(first, claude(first, "lease-2")):
        await first.wait_for_acks("m2")
    assert "Ada takes it green" in request_text(api.messages[-1])


@pytest.mark.behaviour("RU-14")
async def test_a_conversation_does_not_overwrite_newer_notes_of_another(
    two: tuple[SessionHost, SessionHost], api: StubMessagesApi
) -> None:
    """Claude Code itself ensures it: a change is made to the current file, or refused."""
    first, _ = two
    note = memory_of(first) / "tea.md"
    memory_of(first).mkdir()
    note.write_text("Ada: green\n")
    first.write_message("m1", "look")
    api.replies.append(ToolUse("Read", {"file_path": str(note)}))
    async with run_runner(first, claude(first)):
        await first.wait_for_acks("m1")
        note.write_text("Ada: green\nBob: black\n")  # as another container does
        api.replies.append(ToolUse("Write", {"file_path": str(note), "content": "Ada: white\n"}))
        api.replies.append(ToolUse("Edit", {"file_path": str(note), "old_string": "green", "new_string": "white"}))
        first.write_message("m2", "white it is")
        await first.wait_for_acks("m2")
    assert note.read_text() == "Ada: white\nBob: black\n"


@pytest.mark.behaviour("RU-14")
async def test_an_agents_own_settings_file_moves_no_memory_and_enables_no_tool(
    two: tuple[SessionHost, SessionHost], api: StubMessagesApi
) -> None:
    first, _ = two
    own = first.layout.agent_dir / ".claude"
    own.mkdir()
    elsewhere = {"autoMemoryDirectory": str(first.layout.state_dir / "mine"), "permissions": {"allow": ["WebFetch"]}}
    for name in ("settings.json", "settings.local.json"):
        (own / name).write_text(json.dumps(elsewhere))
    first.write_message("m1", "hello")
    async with run_runner(first, claude(first)):
        await first.wait_for_acks("m1")
    assert str(memory_of(first)) in request_text(api.messages[-1])
    assert str(first.layout.state_dir / "mine") not in request_text(api.messages[-1])
    assert "WebFetch" not in api.messages[-1].tool_names


@pytest.mark.behaviour("RU-14")
async def test_without_tools_the_prompt_does_not_mention_memory(
    two: tuple[SessionHost, SessionHost], api: StubMessagesApi
) -> None:
    """Nothing could be written there."""
    first, _ = two
    first.write_message("m1", "hello")
    async with run_runner(first, replace(claude(first), tools="none")):
        await first.wait_for_acks("m1")
    assert "persistent file-based memory" not in request_text(api.messages[-1])


@pytest.mark.behaviour("RU-14")
async def test_notes_of_an_earlier_versions_conversation_are_moved_to_the_agent(
    two: tuple[SessionHost, SessionHost], api: StubMessagesApi
) -> None:
    first, _ = two
    old = first.layout.state_dir / ".claude" / "projects" / "-workspace-agent" / "memory"
    old.mkdir(parents=True)
    (old / "MEMORY.md").write_text(INDEX)
    (old / "tea.md").write_text("green")
    first.write_message("m1", "what tea do I take?")
    async with run_runner(first, claude(first)):
        await first.wait_for_acks("m1")
    assert "Ada takes it green" in request_text(api.messages[-1])
    assert (memory_of(first) / "tea.md").read_text() == "green"
    assert not old.exists()


@pytest.mark.behaviour("RU-14")
def test_notes_of_several_conversations_are_merged_once(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    for name, drink in (("one", "green"), ("two", "black")):
        old = tmp_path / name / "projects" / "p" / "memory"
        old.mkdir(parents=True)
        (old / "tea.md").write_text(drink)
        (old / "MEMORY.md").write_text(f"- [Tea](tea.md) - {name}\n- [Same](same.md) - both\n")
        (old / "link.md").symlink_to(tmp_path / "elsewhere.md")
        shutil.copytree(old, again := tmp_path / "again", symlinks=True)
        migrate_memory(tmp_path / name, memory)
        shutil.rmtree(old)
        again.rename(old)  # as if it had ended before it removed anything
        migrate_memory(tmp_path / name, memory)
    index = (memory / "MEMORY.md").read_text().splitlines()
    assert index[:2] == ["- [Tea](tea.md) - one", "- [Same](same.md) - both"]
    [moved] = list(memory.glob("tea-*.md"))
    assert index[2:] == [f"- [Tea]({moved.name}) - two"]
    assert (memory / "tea.md").read_text() == "green"
    assert moved.read_text() == "black"
    assert not (memory / "link.md").is_symlink()
    assert sorted(path.name for path in memory.iterdir()) == ["MEMORY.md", moved.name, "tea.md"]


def memory_of(host: SessionHost) -> Path:
    return host.layout.agent_dir / "memory"

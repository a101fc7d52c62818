"""What an agent is told that it can do, and what the real claude program offers it, against a stub of the model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent_runner.abilities import capabilities_prompt
from agent_runner.settings import Settings
from nanohost_protocol.inbound import inbound_transaction
from nanohost_protocol.rows import Destination
from tests.runner.host_side import HOME, SessionHost, run_runner
from tests.runner.test_claude import api, claude, host
from tests.support.messages_api import RecordedRequest, StubMessagesApi, Text

__all__ = ["api", "host"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "agents.md"
OURS = "mcp__nanohost__"
MODELS = (None, "claude-sonnet-4-5")
"""Claude Code offers older models tools for a to-do list of their own."""


async def first_asked(host: SessionHost, api: StubMessagesApi, settings: Settings) -> RecordedRequest:
    """The first request to the model."""
    api.default = Text('<message to="home">yes</message>')
    host.write_message("m1", "hi")
    async with run_runner(host, settings):
        await host.wait_for_acks("m1")
    return api.messages[0]


def on_the_page(heading: str) -> set[str]:
    """The names that begin the rows of the table below a heading."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}


def own(names: Sequence[str]) -> set[str]:
    """Claude Code's own tools."""
    return {name for name in names if not name.startswith(OURS)}


@pytest.mark.behaviour("RU-13")
@pytest.mark.parametrize("model", MODELS)
async def test_claude_code_offers_the_documented_tools_and_none_that_cannot_work(
    host: SessionHost, api: StubMessagesApi, model: str | None
) -> None:
    asked = await first_asked(host, api, replace(claude(host), model=model))
    offered, withheld = on_the_page("Claude's own tools"), on_the_page("What is not offered")
    only_older = {name for name in offered if name.startswith("Task")}
    assert own(asked.tool_names) == (offered if model else offered - only_older)
    assert withheld >= {"WebFetch", "WebSearch"}
    assert not withheld & own(asked.tool_names)


@pytest.mark.behaviour("RU-13")
async def test_each_nanohost_tool_is_documented(host: SessionHost, api: StubMessagesApi) -> None:
    asked = await first_asked(host, api, claude(host))
    ours = {name.removeprefix(OURS) for name in asked.tool_names if name.startswith(OURS)}
    assert ours == on_the_page("nanohost's tools")


@pytest.mark.behaviour("RU-13")
async def test_an_agent_without_a_network_is_told_so_and_one_in_a_plain_process_is_not(
    host: SessionHost, api: StubMessagesApi
) -> None:
    """Without isolation the web can be reached, and the web tools work."""
    without = await first_asked(host, api, claude(host))
    host.write_message("m2", "hi")
    async with run_runner(host, replace(claude(host, "lease-2"), network="open")):
        await host.wait_for_acks("m2")
    reaching = api.messages[-1]
    assert "no network" in json.dumps(without.body["system"])
    assert "no network" not in json.dumps(reaching.body["system"])
    assert {"WebFetch", "WebSearch"} <= own(reaching.tool_names)


async def test_a_resumed_conversation_is_told_what_has_changed_since_it_began(
    host: SessionHost, api: StubMessagesApi
) -> None:
    """Claude Code would repeat for ever what it was told first."""
    await first_asked(host, api, claude(host))
    with inbound_transaction(host.layout.inbound_db, durable=False) as inbound:
        inbound.set_destinations((HOME, Destination(name="attic", display_name="The attic")), "home")
    host.write_message("m2", "and there?")
    async with run_runner(host, claude(host, "lease-2")):
        await host.wait_for_acks("m2")
    told = api.messages[-1]
    assert "hi" in json.dumps(told.body["messages"])
    assert "The attic" in json.dumps(told.body["system"])
    assert "The office" not in json.dumps(told.body["system"])


@pytest.mark.behaviour("RU-13")
async def test_skills_of_claude_code_that_cannot_work_are_not_listed(host: SessionHost, api: StubMessagesApi) -> None:
    own_skill = host.layout.agent_dir / ".claude" / "skills" / "tea" / "SKILL.md"
    own_skill.parent.mkdir(parents=True)
    own_skill.write_text("---\nname: tea\ndescription: How tea is made here.\n---\nWarm the pot.\n")
    asked = await first_asked(host, api, claude(host))
    skills = _system_words(asked).partition("skills are available")[2]
    listed = set(re.findall(r"^- ([a-z-]+): ", skills, re.MULTILINE))
    assert listed == {"tea"} | on_the_page("Claude's own skills")
    assert not listed & on_the_page("Skills that are not listed")
    assert "statusline-setup" not in _system_words(asked)


def _system_words(asked: RecordedRequest) -> str:
    """The system texts of a request."""
    said = [message["content"] for message in asked.body["messages"] if message["role"] == "system"]
    return "\n".join(block["text"] for content in said for block in content)


def test_an_agent_without_tools_is_told_that_it_has_no_files_and_no_memory() -> None:
    text = capabilities_prompt(tools="none", network="none")
    assert "no files" in text
    assert "memory/" not in text


def test_the_prompt_names_what_is_not_available_and_what_to_say_instead() -> None:
    text = capabilities_prompt(tools="all", network="none")
    assert "no network" in text
    assert "MCP" in text
    assert "say so" in text

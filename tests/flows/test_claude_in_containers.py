"""The real thing: Claude's own command line in a real container, asking a stand-in of the Messages API. It uses a
shell, so that what a shell needs of the kernel is let through."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.errors import RuntimeUnavailable
from nanohost.runtimes.bubblewrap import BubblewrapRuntime
from nanohost.runtimes.docker import DockerRuntime
from nanohost.runtimes.docker_image import ensure_image
from nanohost.runtimes.port import Runtime
from nanohost.settings import AgentSettings, HostSettings, Settings
from nanohost.store import model_calls
from tests.support.engine import docker_engine, podman_engine, podman_image
from tests.support.flow import flowing, install_of
from tests.support.messages_api import MessagesApi, Text, ToolUse
from tests.support.need import missing

__all__ = ["docker_engine", "podman_engine", "podman_image"]

KEY = "sk-ant-not-a-real-key"
LIMIT_S = 60.0

SHELL_WORK = "set -e; git init -q repo; echo $((6 * 7)) | cat; python3 -c 'import sqlite3, ssl, threading' && echo fine"


@pytest.mark.docker
@pytest.mark.usefixtures("docker_engine")
@pytest.mark.behaviour("GW-01", "RU-06")
async def test_claude_answers_from_its_container_through_the_gateway(tmp_path: Path) -> None:
    image = await ensure_image(progress=lambda _: None)
    await claude_works(DockerRuntime(install=install_of(tmp_path), image=image), tmp_path)


@pytest.mark.podman
@pytest.mark.usefixtures("podman_image")
@pytest.mark.behaviour("GW-01", "RU-06")
async def test_claude_answers_from_podman_through_the_gateway(tmp_path: Path) -> None:
    image = await ensure_image(progress=lambda _: None)
    await claude_works(DockerRuntime(install=install_of(tmp_path), image=image), tmp_path)


@pytest.mark.bubblewrap
@pytest.mark.behaviour("GW-01", "RU-06")
async def test_claude_answers_from_its_sandbox_through_the_gateway(tmp_path: Path) -> None:
    runtime = BubblewrapRuntime(install=install_of(tmp_path))
    try:
        runtime.check()
    except RuntimeUnavailable as error:
        missing("BUBBLEWRAP", str(error))
    await claude_works(runtime, tmp_path)


async def claude_works(runtime: Runtime, root: Path) -> None:
    """Two messages and a shell command, and the key nowhere in the session's files."""
    async with MessagesApi(key=KEY) as api:
        api.replies.extend(
            [
                ToolUse("mcp__nanohost__send_message", {"text": "one moment"}),
                ToolUse("Bash", {"command": SHELL_WORK, "description": "Try the shell"}),
                Text("the answer"),
            ]
        )
        settings = Settings(
            host=HostSettings.model_validate({"provider": "claude", "timezone": "UTC", "durable": False}),
            agent=AgentSettings.model_validate({"base_url": api.base_url, "api_key": KEY}, strict=False),
        )
        async with flowing(root, settings=settings, runtime=runtime) as flow:
            await flow.wire()
            await flow.fake.person_writes("hello")
            sent = await flow.fake.wait_for(2, LIMIT_S)
            calls = await model_calls.totals(flow.host.store.reports)
    assert [message.text for message in sent] == ["one moment", "the answer"]
    assert calls["calls"] == 3
    assert "42" in api.messages[2].user_text
    assert "fine" in api.messages[2].user_text
    written = [path for path in (root / "sessions").rglob("*") if path.is_file()]
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []

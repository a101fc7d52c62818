"""The real thing: Claude's own command line in a real container, asking a stand-in of the Messages API."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.runtimes.docker import DockerRuntime
from nanohost.runtimes.docker_image import ensure_image
from nanohost.settings import AgentSettings, HostSettings, Settings
from nanohost.store import model_calls
from tests.support.engine import docker_engine
from tests.support.flow import flowing, install_of
from tests.support.messages_api import MessagesApi, Text, ToolUse

__all__ = ["docker_engine"]

KEY = "sk-ant-not-a-real-key"
LIMIT_S = 60.0


@pytest.mark.docker
@pytest.mark.usefixtures("docker_engine")
@pytest.mark.behaviour("GW-01", "RU-06")
async def test_claude_answers_from_its_container_through_the_gateway(tmp_path: Path) -> None:
    image = await ensure_image(progress=lambda _: None)
    async with MessagesApi(key=KEY) as api:
        api.replies.extend([ToolUse("mcp__nanohost__send_message", {"text": "one moment"}), Text("the answer")])
        settings = Settings(
            host=HostSettings.model_validate({"provider": "claude", "timezone": "UTC", "durable": False}),
            agent=AgentSettings.model_validate({"base_url": api.base_url, "api_key": KEY}, strict=False),
        )
        runtime = DockerRuntime(install=install_of(tmp_path), image=image)
        async with flowing(tmp_path, settings=settings, runtime=runtime) as flow:
            await flow.wire()
            await flow.fake.person_writes("hello")
            sent = await flow.fake.wait_for(2, LIMIT_S)
            calls = await model_calls.totals(flow.host.store)
    assert [message.text for message in sent] == ["one moment", "the answer"]
    assert calls["calls"] == 2
    written = [path for path in (tmp_path / "sessions").rglob("*") if path.is_file()]
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []

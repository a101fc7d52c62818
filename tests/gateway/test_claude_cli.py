"""The bundled claude program connects to a session's socket by itself. ANTHROPIC_UNIX_SOCKET is undocumented: this test
fails when a new release stops honouring it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage

from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_call import CallOutcome
from nanohost.model import SessionId
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.gateway.conftest import KEY, CallLedger, GatewayTestHost
from tests.support.messages_api import UNAUTHORIZED, StubMessagesApi, Text, ToolUse, rate_limited


@pytest.fixture
def options(tmp_path: Path, host: GatewayTestHost) -> ClaudeAgentOptions:
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    environment = {
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "ANTHROPIC_BASE_URL": "http://localhost",
        "ANTHROPIC_UNIX_SOCKET": str(host.socket("s1")),
        "ANTHROPIC_API_KEY": "worthless",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ENABLE_TOOL_SEARCH": "false",
    }
    if os.getuid() == 0:
        environment["IS_SANDBOX"] = "1"
    return ClaudeAgentOptions(
        env=environment, cwd=work, permission_mode="bypassPermissions", setting_sources=[], tools=["Bash"]
    )


async def turn(client: ClaudeSDKClient, text: str) -> ResultMessage:
    await client.query(text)
    results = [message async for message in client.receive_response() if isinstance(message, ResultMessage)]
    return results[-1]


@pytest.mark.behaviour("GW-01", "GW-02", "GW-05")
async def test_the_real_claude_client_works_through_the_socket(
    api: StubMessagesApi, host: GatewayTestHost, gateway: Gateway, ledger: CallLedger, options: ClaudeAgentOptions
) -> None:
    await gateway.attach(SessionId("s1"), host.socket("s1"))
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)), ClaudeSDKClient(options) as claude:
        api.replies += [
            ToolUse("Bash", {"command": "env", "description": "Look around"}),
            rate_limited(),
            Text("Done."),
        ]
        assert (await turn(claude, "What do you see?")).result == "Done."
        api.replies.append(UNAUTHORIZED)
        refused = await turn(claude, "And now?")
    assert refused.is_error
    seen_inside = api.messages[1].user_text
    assert "ANTHROPIC_API_KEY=worthless" in seen_inside
    assert KEY not in seen_inside
    assert {asked.headers["x-api-key"] for asked in api.messages} == {KEY}
    assert [call.status for call in await ledger.wait_for_recorded(4)] == [200, 429, 200, 401]
    assert ledger.calls[2].outcome is CallOutcome.COMPLETED
    assert len(api.messages) == len(api.requests) == 4, "side calls, or a refused key was tried again"

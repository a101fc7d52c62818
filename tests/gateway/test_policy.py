"""The requests that a container may make, as a table."""

from __future__ import annotations

import pytest

from nanohost.gateway.request_policy import GatewayDecision, decide


@pytest.mark.parametrize(
    ("method", "target", "verdict"),
    [
        ("POST", "/v1/messages", GatewayDecision.CALL),
        ("POST", "/v1/messages?beta=true", GatewayDecision.CALL),
        ("POST", "/v1/messages/count_tokens?beta=true", GatewayDecision.FORWARD),
        ("GET", "/v1/models", GatewayDecision.FORWARD),
        ("GET", "/v1/models?limit=5", GatewayDecision.FORWARD),
        ("GET", "/v1/models/claude-opus-4-5@20251101", GatewayDecision.FORWARD),
        ("HEAD", "/", GatewayDecision.PROBE),
        ("GET", "/", GatewayDecision.PROBE),
        ("GET", "/api/hello", GatewayDecision.PROBE),
        ("GET", "/v1/messages", GatewayDecision.REJECT),
        ("DELETE", "/v1/models/claude", GatewayDecision.REJECT),
        ("POST", "/v1/files", GatewayDecision.REJECT),
        ("POST", "/v1/messages/batches", GatewayDecision.REJECT),
        ("GET", "/v1/organizations/api_keys", GatewayDecision.REJECT),
        ("CONNECT", "api.anthropic.com:443", GatewayDecision.REJECT),
        ("POST", "http://elsewhere.example/v1/messages", GatewayDecision.REJECT),
        ("POST", "//elsewhere.example/v1/messages", GatewayDecision.REJECT),
        ("POST", "/v1/messages/", GatewayDecision.REJECT),
        ("POST", "/v1/../v1/messages", GatewayDecision.REJECT),
        ("POST", "/v1/%6dessages", GatewayDecision.REJECT),
        ("GET", "/v1/models/..", GatewayDecision.REJECT),
        ("GET", "/v1/models/../files", GatewayDecision.REJECT),
        ("GET", "/v1/models/%2e%2e", GatewayDecision.REJECT),
        ("GET", "/v1/models/a/b", GatewayDecision.REJECT),
        ("post", "/v1/messages", GatewayDecision.REJECT),
        ("POST", "", GatewayDecision.REJECT),
    ],
)
def test_only_listed_paths_are_forwarded(method: str, target: str, verdict: GatewayDecision) -> None:
    assert decide(method, target) is verdict

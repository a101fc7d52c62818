"""What a container may ask for, as a table."""

from __future__ import annotations

import pytest

from nanohost.gateway.policy import Verdict, judge


@pytest.mark.parametrize(
    ("method", "target", "verdict"),
    [
        ("POST", "/v1/messages", Verdict.CALL),
        ("POST", "/v1/messages?beta=true", Verdict.CALL),
        ("POST", "/v1/messages/count_tokens?beta=true", Verdict.FORWARD),
        ("GET", "/v1/models", Verdict.FORWARD),
        ("GET", "/v1/models?limit=5", Verdict.FORWARD),
        ("GET", "/v1/models/claude-opus-4-5@20251101", Verdict.FORWARD),
        ("HEAD", "/", Verdict.PROBE),
        ("GET", "/", Verdict.PROBE),
        ("GET", "/api/hello", Verdict.PROBE),
        ("GET", "/v1/messages", Verdict.REFUSE),
        ("DELETE", "/v1/models/claude", Verdict.REFUSE),
        ("POST", "/v1/files", Verdict.REFUSE),
        ("POST", "/v1/messages/batches", Verdict.REFUSE),
        ("GET", "/v1/organizations/api_keys", Verdict.REFUSE),
        ("CONNECT", "api.anthropic.com:443", Verdict.REFUSE),
        ("POST", "http://elsewhere.example/v1/messages", Verdict.REFUSE),
        ("POST", "//elsewhere.example/v1/messages", Verdict.REFUSE),
        ("POST", "/v1/messages/", Verdict.REFUSE),
        ("POST", "/v1/../v1/messages", Verdict.REFUSE),
        ("POST", "/v1/%6dessages", Verdict.REFUSE),
        ("GET", "/v1/models/..", Verdict.REFUSE),
        ("GET", "/v1/models/../files", Verdict.REFUSE),
        ("GET", "/v1/models/%2e%2e", Verdict.REFUSE),
        ("GET", "/v1/models/a/b", Verdict.REFUSE),
        ("post", "/v1/messages", Verdict.REFUSE),
        ("POST", "", Verdict.REFUSE),
    ],
)
def test_only_what_the_table_names_passes(method: str, target: str, verdict: Verdict) -> None:
    assert judge(method, target) is verdict

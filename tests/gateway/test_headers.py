"""Which headers are forwarded, in which direction."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from nanohost.gateway.request_policy import request_headers, response_headers


@pytest.mark.behaviour("GW-01")
def test_credentials_of_the_client_are_replaced_by_the_key() -> None:
    received = CIMultiDict({"X-Api-Key": "worthless", "Authorization": "Bearer worthless", "Cookie": "a=b"})
    assert dict(request_headers(received, "sk-ant-api03-k")) == {
        "x-api-key": "sk-ant-api03-k",
        "Accept-Encoding": "identity",
    }


@pytest.mark.behaviour("GW-01")
@pytest.mark.parametrize("key", [None, "sk-ant-oat01-t", "sk-ant-api03-k"])
def test_credentials_of_the_client_are_never_forwarded_whatever_the_key_is(key: str | None) -> None:
    received = CIMultiDict({"X-Api-Key": "worthless", "Authorization": "Bearer worthless", "Cookie": "a=worthless"})
    assert "worthless" not in str(request_headers(received, key))


def test_api_headers_are_forwarded() -> None:
    received = CIMultiDict({"anthropic-version": "2023-06-01", "anthropic-beta": "a,b", "User-Agent": "cli"})
    sent = request_headers(received, None)
    assert received.items() <= sent.items()


def test_a_subscription_token_is_sent_as_a_bearer_token_with_its_beta_header() -> None:
    received = CIMultiDict([("anthropic-beta", "one,two"), ("anthropic-beta", "three")])
    sent = request_headers(received, "sk-ant-oat01-t")
    assert sent["authorization"] == "Bearer sk-ant-oat01-t"
    assert sent.getall("anthropic-beta") == ["one,two,three,oauth-2025-04-20"]
    assert "x-api-key" not in sent


def test_connection_headers_are_not_forwarded() -> None:
    received = CIMultiDict(
        {
            "Connection": "keep-alive, X-Private",
            "X-Private": "1",
            "Transfer-Encoding": "chunked",
            "Upgrade": "h2c",
            "Accept-Encoding": "gzip, br",
            "Host": "localhost",
            "Expect": "100-continue",
        }
    )
    assert dict(request_headers(received, None)) == {"Accept-Encoding": "identity"}


def test_a_header_that_cannot_be_forwarded_is_left_out() -> None:
    assert "x-odd" not in request_headers(CIMultiDict({"X-Odd": "caf\udce9"}), None)


@pytest.mark.behaviour("GW-01")
def test_cookies_and_framing_headers_of_the_service_do_not_reach_the_client() -> None:
    received = CIMultiDict(
        {"Set-Cookie": "session=1", "Content-Length": "9", "Transfer-Encoding": "chunked", "request-id": "req_1"}
    )
    assert dict(response_headers(received, 200)) == {"request-id": "req_1"}


@pytest.mark.behaviour("GW-05")
def test_clients_are_told_not_to_retry_a_refused_key() -> None:
    assert response_headers(CIMultiDict({"x-should-retry": "true"}), 401).getall("x-should-retry") == ["false"]
    assert "x-should-retry" not in response_headers(CIMultiDict(), 529)

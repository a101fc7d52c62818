"""Which headers pass, in which direction."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from nanohost.gateway.request_policy import request_headers, response_headers


@pytest.mark.behaviour("GW-01")
def test_the_clients_own_credentials_are_replaced_by_the_key() -> None:
    received = CIMultiDict({"X-Api-Key": "worthless", "Authorization": "Bearer worthless", "Cookie": "a=b"})
    assert dict(request_headers(received, "sk-ant-api03-k")) == {
        "x-api-key": "sk-ant-api03-k",
        "Accept-Encoding": "identity",
    }


@pytest.mark.behaviour("GW-01")
@pytest.mark.parametrize("key", [None, "sk-ant-oat01-t", "sk-ant-api03-k"])
def test_whatever_the_key_is_nothing_of_the_clients_own_goes_beside_it(key: str | None) -> None:
    received = CIMultiDict({"X-Api-Key": "worthless", "Authorization": "Bearer worthless", "Cookie": "a=worthless"})
    assert "worthless" not in str(request_headers(received, key))


def test_what_the_api_needs_to_know_passes() -> None:
    received = CIMultiDict({"anthropic-version": "2023-06-01", "anthropic-beta": "a,b", "User-Agent": "cli"})
    sent = request_headers(received, None)
    assert received.items() <= sent.items()


def test_a_subscription_token_is_sent_as_a_bearer_with_its_beta() -> None:
    received = CIMultiDict([("anthropic-beta", "one,two"), ("anthropic-beta", "three")])
    sent = request_headers(received, "sk-ant-oat01-t")
    assert sent["authorization"] == "Bearer sk-ant-oat01-t"
    assert sent.getall("anthropic-beta") == ["one,two,three,oauth-2025-04-20"]
    assert "x-api-key" not in sent


def test_what_belongs_to_one_connection_stays_on_it() -> None:
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


def test_a_header_that_cannot_be_sent_as_it_came_is_left_out() -> None:
    assert "x-odd" not in request_headers(CIMultiDict({"X-Odd": "caf\udce9"}), None)


@pytest.mark.behaviour("GW-01")
def test_no_cookie_and_no_framing_of_the_service_reaches_the_client() -> None:
    received = CIMultiDict(
        {"Set-Cookie": "session=1", "Content-Length": "9", "Transfer-Encoding": "chunked", "request-id": "req_1"}
    )
    assert dict(response_headers(received, 200)) == {"request-id": "req_1"}


@pytest.mark.behaviour("GW-05")
def test_clients_are_told_not_to_try_a_refused_key_again() -> None:
    assert response_headers(CIMultiDict({"x-should-retry": "true"}), 401).getall("x-should-retry") == ["false"]
    assert "x-should-retry" not in response_headers(CIMultiDict(), 529)

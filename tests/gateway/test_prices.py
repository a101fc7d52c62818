"""The cost of a call: by model and kind of token, and unknown where no price is known."""

from __future__ import annotations

import pytest

from nanohost.gateway.model_call import Usage
from nanohost.gateway.model_service import Upstream
from nanohost.gateway.prices import PRICED_HOST, PRICES, cost_usd
from nanohost.gateway.usage_reader import StreamReader

M = 1_000_000


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(tokens_in=M), 4),
        (Usage(tokens_out=M), 20),
        (Usage(tokens_cached=M), 0.2),
        (Usage(tokens_cache_written=M), 5),
        (Usage(tokens_cache_written=M, tokens_cache_written_1h=M), 8),
        (Usage(tokens_cache_written=2 * M, tokens_cache_written_1h=M), 13),
        (Usage(tokens_cache_written=M, tokens_cache_written_1h=9 * M), 8),
    ],
)
def test_each_kind_of_token_has_its_price(usage: Usage, dollars: float) -> None:
    assert cost_usd("claude-opus-5-5", usage, host=PRICED_HOST) == pytest.approx(dollars)


@pytest.mark.parametrize("name", ["claude-3-haiku-20240307", "claude-3-haiku", "claude-3-haiku@20240307"])
def test_an_old_small_model_has_its_own_price_whatever_its_date(name: str) -> None:
    assert cost_usd(name, Usage(tokens_in=M), host=PRICED_HOST) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("model", "host"),
    [
        ("claude-opus-9", PRICED_HOST),
        ("claude-opus-5-5-turbo", PRICED_HOST),
        ("", PRICED_HOST),
        ("qwen3:8b", PRICED_HOST),
        ("claude-opus-5-5", "localhost"),
        ("claude-opus-5-5", "models.example.com"),
    ],
)
def test_a_model_without_a_known_price_has_an_unknown_cost(model: str, host: str) -> None:
    assert cost_usd(model, Usage(tokens_in=1), host=host) is None
    assert cost_usd(model, Usage(), host=host) == 0


def test_a_long_prompt_has_a_higher_price_where_it_applies() -> None:
    short, long = Usage(tokens_in=1, tokens_cached=99_999), Usage(tokens_in=1, tokens_cached=100_000)
    assert cost_usd("claude-haiku-5-5", short, host=PRICED_HOST) == pytest.approx((0.1 + 0.01 * 99_999) / M)
    assert cost_usd("claude-haiku-5-5", long, host=PRICED_HOST) == pytest.approx((0.5 + 0.05 * 100_000) / M)


@pytest.mark.parametrize("name", PRICES)
def test_prices_keep_their_usual_proportions(name: str) -> None:
    """A typing error would show: caching for 5 minutes costs 1.25 times the input, for an hour twice."""
    price = PRICES[name]
    assert price.cache_write_5m == pytest.approx(1.25 * price.tokens_in, rel=0.05)
    assert price.cache_write_1h == pytest.approx(2 * price.tokens_in)
    assert price.tokens_out == pytest.approx(5 * price.tokens_in)
    assert price.cache_read <= 0.12 * price.tokens_in


def test_the_default_service_is_the_one_with_prices() -> None:
    assert Upstream().host == PRICED_HOST


def test_the_lifetime_of_cached_tokens_is_read_from_the_answer() -> None:
    reader = StreamReader()
    reader.feed(
        b'data: {"type":"message_start","message":{"model":"m","usage":{"input_tokens":1,'
        b'"cache_creation_input_tokens":7,"cache_creation":{"ephemeral_5m_input_tokens":2,'
        b'"ephemeral_1h_input_tokens":5}}}}\n\n'
    )
    assert reader.summary.usage == Usage(tokens_in=1, tokens_cache_written=7, tokens_cache_written_1h=5)

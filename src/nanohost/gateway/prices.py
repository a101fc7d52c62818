"""Calculates what a model call costs: list prices of Claude models in US dollars per million tokens. Pure.

Source: platform.claude.com/docs/en/about-claude/pricing, compared with the data of genai-prices 0.2.3 and with the
figures of Claude's command line 2.1.329; taken on 2026-11-30. Left out on purpose: discounts, batches, fast mode,
and fees per use (web search). A model that is not in the table has no known price.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nanohost.gateway.model_call import Usage

PRICED_HOST = "api.anthropic.com"
"""The only service that these prices apply to. Prices behind other addresses are not known."""


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens, also for tokens read from the service's cache or written to it for 5 minutes or an
    hour."""

    tokens_in: float
    tokens_out: float
    cache_read: float
    cache_write_5m: float
    cache_write_1h: float


@dataclass(frozen=True, slots=True)
class _LongPromptPrice:
    """The price of whole calls whose prompt, with its cached part, has more than `above_tokens` tokens."""

    above_tokens: int
    price: Price


PRICES: dict[str, Price] = {
    "claude-fable-5-2": Price(8, 40, 0.2, 10, 16),
    "claude-fable-5-1": Price(10, 50, 0.25, 12.5, 20),
    "claude-fable-5": Price(10, 50, 1, 12.5, 20),
    "claude-mythos-5-2": Price(8, 40, 0.2, 10, 16),
    "claude-mythos-5-1": Price(10, 50, 0.25, 12.5, 20),
    "claude-mythos-5": Price(10, 50, 1, 12.5, 20),
    "claude-opus-5-5": Price(4, 20, 0.2, 5, 8),
    "claude-opus-5": Price(5, 25, 0.5, 6.25, 10),
    "claude-opus-4-8": Price(5, 25, 0.5, 6.25, 10),
    "claude-opus-4-7": Price(5, 25, 0.5, 6.25, 10),
    "claude-opus-4-6": Price(5, 25, 0.5, 6.25, 10),
    "claude-opus-4-5": Price(5, 25, 0.5, 6.25, 10),
    "claude-opus-4-1": Price(15, 75, 1.5, 18.75, 30),
    "claude-opus-4-0": Price(15, 75, 1.5, 18.75, 30),
    "claude-opus-4": Price(15, 75, 1.5, 18.75, 30),
    "claude-3-opus": Price(15, 75, 1.5, 18.75, 30),
    "claude-sonnet-5-5": Price(2, 10, 0.1, 2.5, 4),
    "claude-sonnet-5": Price(2, 10, 0.2, 2.5, 4),
    "claude-sonnet-4-6": Price(3, 15, 0.3, 3.75, 6),
    "claude-sonnet-4-5": Price(3, 15, 0.3, 3.75, 6),
    "claude-sonnet-4-0": Price(3, 15, 0.3, 3.75, 6),
    "claude-sonnet-4": Price(3, 15, 0.3, 3.75, 6),
    "claude-3-7-sonnet": Price(3, 15, 0.3, 3.75, 6),
    "claude-3-5-sonnet": Price(3, 15, 0.3, 3.75, 6),
    "claude-haiku-5-5": Price(0.1, 0.5, 0.01, 0.125, 0.2),
    "claude-haiku-4-5": Price(1, 5, 0.1, 1.25, 2),
    "claude-3-5-haiku": Price(0.8, 4, 0.08, 1, 1.6),
    "claude-3-haiku": Price(0.25, 1.25, 0.03, 0.3, 0.5),
}
_LONG_PROMPT_PRICES = {
    "claude-haiku-5-5": _LongPromptPrice(100_000, Price(0.5, 2.5, 0.05, 0.625, 1)),
    "claude-sonnet-4-5": _LongPromptPrice(200_000, Price(6, 22.5, 0.6, 7.5, 12)),
}
_DATE_SUFFIX = re.compile(r"[-@](?:\d{8}|latest)\Z")


def cost_usd(model: str, usage: Usage, *, host: str) -> float | None:
    """Returns the dollars for one call to a model at a host; None if its price is not known.

    A call without tokens, such as one that the service rejected, costs nothing at any host.
    """
    if not (usage.tokens_in or usage.tokens_out or usage.tokens_cached or usage.tokens_cache_written):
        return 0.0
    price = _find_price(_DATE_SUFFIX.sub("", model), usage) if host == PRICED_HOST else None
    if price is None:
        return None
    written_1h = min(usage.tokens_cache_written_1h, usage.tokens_cache_written)
    return (
        usage.tokens_in * price.tokens_in
        + usage.tokens_out * price.tokens_out
        + usage.tokens_cached * price.cache_read
        + (usage.tokens_cache_written - written_1h) * price.cache_write_5m
        + written_1h * price.cache_write_1h
    ) / 1_000_000


def _find_price(name: str, usage: Usage) -> Price | None:
    prompt = usage.tokens_in + usage.tokens_cached + usage.tokens_cache_written
    long = _LONG_PROMPT_PRICES.get(name)
    return long.price if long is not None and prompt > long.above_tokens else PRICES.get(name)

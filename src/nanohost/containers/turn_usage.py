"""What the turns of a session took, from what the gateway saw and what their runner tells. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from nanohost.db.model_calls import CallTotals
from nanohost_protocol.rows import Ack, AckStatus, Usage


def turn_end_times(acks: Iterable[Ack], closed: Iterable[Ack], now: datetime) -> dict[str, datetime]:
    """When turns ended, by id. One whose container died without a word ends when its messages are closed."""
    found = {ack.turn_id: now for ack in closed}
    return found | {ack.turn_id: ack.changed_at for ack in acks if ack.status is not AckStatus.PROCESSING}


def turn_usages(reported: Mapping[str, Usage], metered: Mapping[str, CallTotals]) -> dict[str, Usage]:
    """By turn. What passed the gateway counts, whatever the runner tells of it; a runner whose calls do not pass there
    is taken at its word. Dollars are None where the price of a call is not known."""
    passed = {turn: _to_usage(spent) for turn, spent in metered.items() if spent.tokens}
    return {**reported, **passed}


def _to_usage(spent: CallTotals) -> Usage:
    return Usage(
        tokens_in=spent.tokens_in,
        tokens_out=spent.tokens_out,
        tokens_cached=spent.tokens_cached,
        cost_usd=None if spent.unpriced else spent.cost_usd,
    )

"""Computes the usage of a session's turns from the gateway's totals and the runner's reports. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from nanohost.db.model_calls import CallTotals
from nanohost_protocol.rows import Ack, AckStatus, Usage


def turn_end_times(acks: Iterable[Ack], closed: Iterable[Ack], now: datetime) -> dict[str, datetime]:
    """Returns when turns ended, by turn id. A turn whose container died without a report ends when its messages are
    closed."""
    ended_now = {ack.turn_id: now for ack in closed}
    return ended_now | {ack.turn_id: ack.changed_at for ack in acks if ack.status is not AckStatus.PROCESSING}


def turn_usages(reported: Mapping[str, Usage], metered: Mapping[str, CallTotals]) -> dict[str, Usage]:
    """Returns the usage by turn id. The gateway's totals count; the runner's report is used only for a turn without
    calls through the gateway. `cost_usd` is None if the price of a call is not known."""
    from_gateway = {turn: _to_usage(totals) for turn, totals in metered.items() if totals.tokens}
    return {**reported, **from_gateway}


def _to_usage(spent: CallTotals) -> Usage:
    return Usage(
        tokens_in=spent.tokens_in,
        tokens_out=spent.tokens_out,
        tokens_cached=spent.tokens_cached,
        cost_usd=None if spent.unpriced else spent.cost_usd,
    )

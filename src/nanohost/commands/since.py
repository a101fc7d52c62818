"""Parses the time of `--since`."""

from __future__ import annotations

from datetime import datetime, timedelta

from nanohost.commands.context import CommandContext
from nanohost.errors import UsageError
from nanohost_protocol.typed_times import parse_duration_s, parse_moment

SINCE_HELP = "only from then on: 2026-03-01T09:00, or 3h for the last three hours"
"""The help of the argument."""


def parse_since(text: str, context: CommandContext) -> datetime:
    """Parses the time. Raises UsageError if it is invalid."""
    now = context.clock.now()
    try:
        length = parse_duration_s(text)
        if length is not None:
            return now - timedelta(seconds=length)
        return parse_moment(text, zone=context.settings.zone, now=now)
    except (ValueError, OverflowError):
        raise UsageError(f"{text[:60]!r} is no time", hint="--since 2026-03-01T09:00, or --since 3h") from None

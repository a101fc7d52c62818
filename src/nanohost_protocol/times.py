"""Times in the files: UTC, ISO 8601, always microseconds, always Z. One width, so text order is time order."""

from __future__ import annotations

from datetime import UTC, datetime


def to_text(moment: datetime) -> str:
    """An aware time as text. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone means nothing here")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_text(text: str) -> datetime:
    """Text back to an aware UTC time. Raises ValueError if it is not in the one form `to_text` writes."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)

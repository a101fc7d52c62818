"""Formats times in the files: ISO 8601 in UTC with microseconds and Z. They sort as text in the order of time."""

from __future__ import annotations

import re
from datetime import UTC, datetime

# Checked first, because fromisoformat accepts other forms; formatting the time again to compare costs four times as
# much.
_TIME_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.\d{6}Z", re.ASCII)


def to_text(moment: datetime) -> str:
    """Returns an aware time as text. Raises ValueError for a naive time, and for one outside UTC's years."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone means nothing here")
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{moment.isoformat()} is before or after all days of UTC") from None
    return utc.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def from_text(text: str) -> datetime:
    """Returns the text as an aware UTC time. Raises ValueError if it is not in the form that `to_text` writes."""
    if _TIME_PATTERN.fullmatch(text) is None:
        raise ValueError(f"{text!r} is a time in another form than ours")
    return datetime.fromisoformat(text)

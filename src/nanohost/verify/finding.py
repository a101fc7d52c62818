"""The type of a finding, and the context of the checks of the central database."""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.config.home import Home
from nanohost.db.database import ReportReader

MAX_ROWS = 100
"""Rows named for one check: who has more than that has one cause, not a hundred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An invariant that does not hold. Each row is a sentence that names what breaks it; the first MOST_ROWS."""

    check: str
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyContext:
    """The data directory under the glass. `is_host_running`: things change while we look."""

    store: ReportReader
    home: Home
    is_host_running: bool

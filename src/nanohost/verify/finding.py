"""Defines a finding, and the context of the checks of the central database."""

from __future__ import annotations

from dataclasses import dataclass

from nanohost.config.home import Home
from nanohost.db.database import ReportReader

MAX_ROWS = 100
"""The most rows that are reported for one check: more of them have the same cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A violated invariant. `rows`: a sentence for each violation, at most MAX_ROWS."""

    check: str
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyContext:
    """The data directory that is checked. `is_host_running`: whether a host may change it meanwhile."""

    store: ReportReader
    home: Home
    is_host_running: bool

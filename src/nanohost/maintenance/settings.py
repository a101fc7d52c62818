"""Defines the setting for how long settled rows are kept."""

from __future__ import annotations

from typing import ClassVar

from nanohost.config.section import Section, setting


class RetentionSettings(Section):
    table: ClassVar = "host"

    keep_days: int = setting(
        30,
        order=150,
        title="For how long what is settled is kept; sums by day stay, the audit log for a year at least. 0: for ever.",
        expected="a whole number of days, 0 or more",
        ge=0,
        le=36500,
    )

"""Defines the settings of how changes of the session files are noticed."""

from __future__ import annotations

from typing import ClassVar

from nanohost.config.section import Section, setting


class OutboxMonitorSettings(Section):
    table: ClassVar = "host"

    poll_interval_s: float = setting(
        1.0,
        order=60,
        title="How often both sides look at the files when no event told them to.",
        expected="seconds, more than 0 and at most 60",
        gt=0,
        le=60,
    )
    watch: bool = setting(
        True,
        order=120,
        title="Whether the host listens to file events. Without them answers are found by polling.",
        expected="true or false",
    )

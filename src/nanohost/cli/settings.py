"""Declares the setting for how long a host may take to stop."""

from __future__ import annotations

from typing import ClassVar

from nanohost.config.section import Section, setting


class StopSettings(Section):
    table: ClassVar = "host"

    stop_limit_s: float = setting(
        60,
        order=110,
        title="After how long a stop that has not ended names what hangs and ends the process, with exit code 1.",
        expected="seconds, more than 0",
        gt=0,
    )

"""Defines the setting of how commits are written."""

from __future__ import annotations

from typing import ClassVar

from nanohost.config.section import Section, setting


class StoreSettings(Section):
    table: ClassVar = "host"

    durable: bool = setting(
        True,
        order=240,
        title="Whether each commit waits for the disk. Turn it off for tests only.",
        expected="true or false",
    )

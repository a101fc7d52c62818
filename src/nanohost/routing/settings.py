"""Declares the setting for the largest file that is fetched for an agent."""

from __future__ import annotations

from typing import ClassVar

from nanohost.config.section import Section, setting


class AttachmentSettings(Section):
    table: ClassVar = "host"

    attachment_bytes: int = setting(
        20 * 1024 * 1024,
        order=160,
        title="The largest file of a person that is fetched for an agent, in bytes.",
        expected="a whole number of bytes, 0 or more",
        ge=0,
    )

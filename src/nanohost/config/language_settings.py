"""The setting for the language in which the host writes to people in chats."""

from __future__ import annotations

from typing import ClassVar

from nanohost.config.section import Section, setting


class LanguageSettings(Section):
    table: ClassVar = "host"

    language: str = setting(
        "en",
        order=31,
        title="The language of what the host itself writes in chats. Commands and the log are in English.",
        expected="a language that has a file, such as en",
        min_length=1,
    )

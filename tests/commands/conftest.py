"""Operator commands without a host: a database, a home, and a manual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nanohost.commands.context import CommandContext
from nanohost.commands.registry import find_command
from nanohost.config.home import Home
from nanohost.config.settings import Settings
from nanohost.testing.manual_clock import ManualClock
from tests.support.template_home import opened_store


@dataclass(frozen=True, slots=True)
class Operator:
    """Runs operator commands."""

    context: CommandContext

    async def run(self, words: str, **arguments: object) -> Any:
        return await find_command(words).execute(self.context, arguments)

    async def render(self, words: str, **arguments: object) -> str:
        """The output on a terminal."""
        return find_command(words).render(await self.run(words, **arguments))


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    home = Home(tmp_path)
    async with opened_store(home, durable=False) as store:
        yield Operator(CommandContext(home=home, settings=Settings(), clock=ManualClock(), store=store))

"""What the agent can do besides writing: one file a tool, found by its file name.

A tool file has a `TOOL`. Adding a tool is adding a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from agent_runner.outbox import NotSent, Outbox

Arguments = Mapping[str, object]


class ToolRefused(Exception):
    """The tool cannot do what was asked; the text tells the agent why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool: how a model sees it (`schema` is JSON Schema), and what it does. `run` returns words for the agent."""

    name: str
    description: str
    schema: dict[str, object]
    run: Callable[[Outbox, Arguments], Awaitable[str]]


class Toolbox:
    """All tools, and the turn they act for. Between turns every call is refused: nobody would be answered."""

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self.tools = tools
        self.outbox: Outbox | None = None

    async def call(self, name: str, arguments: Arguments) -> str:
        """Run a tool. Raises ToolRefused."""
        tool = self.tools.get(name)
        if tool is None:
            raise ToolRefused(f"There is no tool {name!r}.")
        if self.outbox is None:
            raise ToolRefused("No message is being answered now; nothing was done.")
        try:
            return await tool.run(self.outbox, arguments)
        except NotSent as error:
            raise ToolRefused(str(error)) from error


def load_tools() -> dict[str, Tool]:
    """Every tool of this folder by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    tools = [importlib.import_module(f"{__name__}.{name}").TOOL for name in names]
    return {tool.name: tool for tool in tools}

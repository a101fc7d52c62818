"""What the agent can do besides writing: one file a tool, found by its file name.

A tool file has a `TOOL`. Adding a tool is adding a file, here or in the folder `tools` of an install.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path

from agent_runner.log import log
from agent_runner.mailbox import SentMessage
from agent_runner.outbox import Outbox, SendError

Arguments = Mapping[str, object]

AT_HELP = "a local time such as 2026-03-01T09:00, or a wait such as in 10 minutes."
CRON_HELP = (
    "five fields, minute hour day month weekday, such as 0 9 * * 1-5. If neither day nor weekday is *, either is"
    " enough, also where one is a step: 0 9 */2 * 1 is every second day, and every Monday too."
)
TO_HELP = "A destination's name; left out: where the messages came from."
RE_HELP = "The id of the message this answers."
FAILURE_NOTICE = "You are told if the host cannot do it, and if a person had to be asked, what they said."
DECISION_NOTICE = "A person may have to say yes first; you are told what became of it."


class ToolRefused(Exception):
    """The tool cannot do what was asked; the text tells the agent why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool: how a model sees it (`schema` is JSON Schema), and what it does. `run` returns words for the agent."""

    name: str
    description: str
    schema: dict[str, object]
    run: Callable[[Outbox, Arguments], Awaitable[str]]


def require_text(arguments: Arguments, key: str) -> str:
    """A text that has to be there. Raises ToolRefused."""
    value = optional_text(arguments, key)
    if value is None:
        raise ToolRefused(f"{key} must be a text that is not empty.")
    return value


def optional_text(arguments: Arguments, key: str) -> str | None:
    """A text, or None where it is left out or empty. Raises ToolRefused."""
    value = arguments.get(key)
    if not (value is None or isinstance(value, str)):
        raise ToolRefused(f"{key} must be a text.")
    return value if value and value.strip() else None


def optional_number(arguments: Arguments, key: str) -> int | None:
    """The id of a message, or None where it is left out. Raises ToolRefused."""
    value = arguments.get(key)
    if not (value is None or type(value) is int):
        raise ToolRefused(f"{key} must be the id of a message.")
    return value


def require_number(arguments: Arguments, key: str) -> int:
    """The id of a message that has to be there. Raises ToolRefused."""
    value = optional_number(arguments, key)
    if value is None:
        raise ToolRefused(f"{key} must be the id of a message.")
    return value


def format_with_zone(moment: datetime, zone: tzinfo) -> str:
    """A time to come as it is told: whoever is told it may live elsewhere."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M} ({zone})"


def format_sent(said: SentMessage) -> str:
    """How a message that went out is reported: by the number that it can be changed and reacted to by."""
    if said.is_new:
        return f"Sent as message {said.seq}."
    return f"This had been sent before this turn was interrupted, as message {said.seq}; it was not sent again."


def format_done(said: SentMessage) -> str:
    """The same of what is no message of its own."""
    return "Done." if said.is_new else "This had been done before this turn was interrupted; it was not done again."


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
        except SendError as error:
            raise ToolRefused(str(error)) from error


def add_search_folder(folder: Path) -> None:
    """Have the tools of this folder found, too: an install's own."""
    __path__.append(str(folder))


def load_tools() -> dict[str, Tool]:
    """Every tool by name. One of an install's own that cannot be used is logged, and is no reason not to begin."""
    shipped, *own = __path__
    tools = [importlib.import_module(name).TOOL for name in _module_names([shipped])]
    found: dict[str, Tool] = {tool.name: tool for tool in tools}
    for name in _module_names(own):
        try:
            tool = importlib.import_module(name).TOOL
            _validate_tool(tool, found)
        except (Exception, SystemExit) as error:
            log("tool_load_failed", file=name.rpartition(".")[2], why=f"{type(error).__name__}: {error}")
        else:
            found[tool.name] = tool
    return found


def _module_names(folders: list[str]) -> list[str]:
    names = sorted({module.name for module in pkgutil.iter_modules(folders)})
    return [f"{__name__}.{name}" for name in names if not name.startswith("_")]


def _validate_tool(tool: object, others: Mapping[str, Tool]) -> None:
    if not isinstance(tool, Tool):
        raise TypeError("TOOL is no Tool")
    if tool.name in others:
        raise ValueError(f"there is a tool {tool.name} already")

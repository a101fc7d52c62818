"""Finds and runs the tools that the agent can call: one file per tool, found by its file name.

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
    """The tool cannot do what the agent requested; the text tells the agent why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool: its description for a model (`schema` is JSON Schema), and its function. `run` returns text for the
    agent."""

    name: str
    description: str
    schema: dict[str, object]
    run: Callable[[Outbox, Arguments], Awaitable[str]]


def require_text(arguments: Arguments, key: str) -> str:
    """Returns a required text. Raises ToolRefused."""
    value = optional_text(arguments, key)
    if value is None:
        raise ToolRefused(f"{key} must be a text that is not empty.")
    return value


def optional_text(arguments: Arguments, key: str) -> str | None:
    """Returns a text; None if it is left out or empty. Raises ToolRefused."""
    value = arguments.get(key)
    if not (value is None or isinstance(value, str)):
        raise ToolRefused(f"{key} must be a text.")
    return value if value and value.strip() else None


def optional_number(arguments: Arguments, key: str) -> int | None:
    """Returns the number of a message; None if it is left out. Raises ToolRefused."""
    value = arguments.get(key)
    if not (value is None or type(value) is int):
        raise ToolRefused(f"{key} must be the id of a message.")
    return value


def require_number(arguments: Arguments, key: str) -> int:
    """Returns the required number of a message. Raises ToolRefused."""
    value = optional_number(arguments, key)
    if value is None:
        raise ToolRefused(f"{key} must be the id of a message.")
    return value


def format_with_zone(moment: datetime, zone: tzinfo) -> str:
    """Formats a future time with its zone: the reader may live in another one."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M} ({zone})"


def format_sent(sent: SentMessage) -> str:
    """Returns the report about a sent message, with the number by which it can be edited or reacted to."""
    if sent.is_new:
        return f"Sent as message {sent.seq}."
    return f"This had been sent before this turn was interrupted, as message {sent.seq}; it was not sent again."


def format_done(sent: SentMessage) -> str:
    """Returns the report about an edit or a reaction, which is no message of its own."""
    return "Done." if sent.is_new else "This had been done before this turn was interrupted; it was not done again."


class Toolbox:
    """All tools, and the turn that they act for. Between turns every call is refused."""

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self.tools = tools
        self.outbox: Outbox | None = None

    async def call(self, name: str, arguments: Arguments) -> str:
        """Runs a tool. Raises ToolRefused."""
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
    """Adds the folder of an install's own tools."""
    __path__.append(str(folder))


def load_tools() -> dict[str, Tool]:
    """Returns every tool by name. An unusable tool of the install is logged and left out."""
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

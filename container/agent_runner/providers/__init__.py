"""Defines the interface of providers, the model backends. A provider is one file with a function
`create(context) -> Provider`, here or in the folder `providers` of an install; its header is for the host
(nanohost.extensions.providers).

A turn calls `begin` with a prompt, perhaps `push` with more while the provider works, and reads `events` until a
Finished covers every prompt of the turn. The provider outlives turns; it never uses the mailbox itself and never
decides what reaches people.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent_runner.failures import Failure
from agent_runner.prompt import Prompt
from agent_runner.tools import Toolbox
from nanohost_protocol.rows import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderContext:
    """The context for creating a provider.

    `tools`: "all" or "none" of the provider's own tools; the runner's are in `toolbox`. `network`: "none" or "open".
    `resume`: the conversation to continue. `memory`: what the provider stored at the end of its last turn.
    """

    model: str | None
    tools: str
    network: str
    toolbox: Toolbox
    system_prompt: str
    agent_dir: Path
    state_dir: Path
    gateway_socket: Path
    resume: str | None = None
    memory: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConversationKnown:
    """The conversation's id, by which it can be resumed. Sent as soon as it is known, and again when it changes."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Text of the agent. `final`: it ends an answer; otherwise the agent keeps working, and only blocks are sent."""

    text: str
    final: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer to one message, by number, from a provider whose text needs no parsing."""

    text: str
    to_message: int


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool is running. `timeout_s`: its time limit, if known; `for_person`: it waits for a person's answer."""

    name: str
    timeout_s: float | None = None
    for_person: bool = False


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """The tool has returned."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """`prompts` of this turn's prompts have been handled, counted from its beginning.

    `usage` counts since the last Finished. A failure ends the turn. `memory`, if given, is stored with the turn's end
    and kept across containers. `is_unrecorded`: the conversation's record lacks this turn, so that the next provider
    will not know of it.
    """

    prompts: int
    usage: Usage = field(default_factory=Usage)
    failure: Failure | None = None
    memory: Mapping[str, str] | None = None
    is_unrecorded: bool = False


TurnEvent = ConversationKnown | Text | Answer | ToolStarted | ToolEnded | Finished


class Provider(Protocol):
    """One conversation with a model backend. Raises ProviderFailed; any other exception counts as a crash."""

    async def begin(self, prompt: Prompt) -> None:
        """Starts a turn, and connects first if needed. Returns when the prompt was handed over."""
        ...

    async def push(self, prompt: Prompt) -> None:
        """Hands over another prompt in the same turn, also after a Finished that the turn has not read yet."""
        ...

    def events(self) -> AsyncIterator[TurnEvent]:
        """Yields the events of this turn, from `begin` on. The turn stops reading when it has ended."""
        ...

    async def interrupt(self) -> None:
        """Stops working on this turn. Must be quick, and must not raise if there is nothing to stop."""
        ...

    async def close(self) -> None:
        """Frees processes and memory. The conversation can be resumed by a new provider."""
        ...


ProviderFactory = Callable[[ProviderContext], Provider]


def add_search_folder(folder: Path) -> None:
    """Adds a folder of providers. They never replace providers that come with the runner."""
    __path__.append(str(folder))


def provider_names() -> list[str]:
    """Returns the names of all providers."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")})


def load_provider(name: str) -> ProviderFactory:
    """Imports a provider. May take a second: call it in a thread. Raises ValueError for an unknown name."""
    if name not in provider_names():
        raise ValueError(f"there is no provider {name!r}; there is {', '.join(provider_names())}")
    create: ProviderFactory = importlib.import_module(f"{__name__}.{name}").create
    return create

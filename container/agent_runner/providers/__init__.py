"""What thinks, as one port. A provider is one file with a function `create(context) -> Provider`, here or in the folder
`providers` of an install; what stands in its header is for the host (nanohost.extensions.providers).

A turn in a provider's eyes: `begin` with a prompt, perhaps `push` of more while it thinks, and `events` telling what
happens until a Finished covers every prompt of the turn. The provider outlives turns; it never touches the mailbox
itself and never decides what reaches people.
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
    """What a provider is made from.

    `tools` is all or none and concerns the provider's own tools; ours are in `toolbox`. `network` is none or open.
    `resume` is the conversation to continue, `memory` what the provider noted at the end of its last turn.
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
    """The conversation's id, to resume it by. Told as soon as it is known, and again when it changes."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Text of the agent. `final`: it ends an answer; otherwise the agent goes on working, and only blocks count."""

    text: str
    final: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer to one message, by number, from a provider whose text needs no taking apart."""

    text: str
    to_message: int


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool is in flight. `timeout_s`: what it may take, where that is known; `for_person`: somebody has to answer."""

    name: str
    timeout_s: float | None = None
    for_person: bool = False


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """It came back."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """`prompts` of this turn's prompts have been handled, counted from its beginning.

    Numbers in `usage` are those since the last Finished. A failure ends the turn. `memory`, if given, is kept across
    containers together with the turn's end. `is_unrecorded`: what was said is not on record, so that the next provider
    will not know of it.
    """

    prompts: int
    usage: Usage = field(default_factory=Usage)
    failure: Failure | None = None
    memory: Mapping[str, str] | None = None
    is_unrecorded: bool = False


TurnEvent = ConversationKnown | Text | Answer | ToolStarted | ToolEnded | Finished


class Provider(Protocol):
    """One conversation with something that thinks. Raises ProviderFailed; anything else counts as a crash."""

    async def begin(self, prompt: Prompt) -> None:
        """Start a turn, connecting first if need be. Returning means the prompt was handed over."""
        ...

    async def push(self, prompt: Prompt) -> None:
        """Hand over another prompt in the same turn, also after a Finished that the turn had not seen yet."""
        ...

    def events(self) -> AsyncIterator[TurnEvent]:
        """What happens in this turn, from `begin` on. The turn stops reading when it has seen enough."""
        ...

    async def interrupt(self) -> None:
        """Stop thinking about this turn. Quick; never raises because there is nothing to stop."""
        ...

    async def close(self) -> None:
        """Free what is held: processes, memory. The conversation can be resumed by a new provider."""
        ...


ProviderFactory = Callable[[ProviderContext], Provider]


def add_search_folder(folder: Path) -> None:
    """Have the providers of this folder found, too. One that came with the runner is never replaced."""
    __path__.append(str(folder))


def provider_names() -> list[str]:
    """The providers there are."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")})


def load_provider(name: str) -> ProviderFactory:
    """Import a provider; may take a second, so do it in a thread. Raises ValueError for a name that is none."""
    if name not in provider_names():
        raise ValueError(f"there is no provider {name!r}; there is {', '.join(provider_names())}")
    create: ProviderFactory = importlib.import_module(f"{__name__}.{name}").create
    return create

"""Holds the provider of this session and its conversation: opened when needed, closed when idle, resumed by id.

Promises: the conversation's id is stored as soon as it is known, and a stale one is dropped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from agent_runner import providers
from agent_runner.abilities import capabilities_prompt
from agent_runner.log import log
from agent_runner.mailbox import Mailbox
from agent_runner.providers import Provider, ProviderContext, ProviderFactory
from agent_runner.settings import Settings
from agent_runner.tools import Toolbox

CLOSE_TIMEOUT_S = 10.0


class Conversation:
    """The conversation, for the life of the runner. Its provider objects are replaced when needed."""

    def __init__(self, settings: Settings, mailbox: Mailbox, toolbox: Toolbox) -> None:
        self._settings = settings
        self._mailbox = mailbox
        self._toolbox = toolbox
        self._factory: asyncio.Future[ProviderFactory] | None = None
        self._provider: Provider | None = None
        self._system_prompt = ""
        self._memory: Mapping[str, str] = {}
        self._is_restored = False
        self.id: str | None = None

    @property
    def _id_key(self) -> str:
        return f"conversation:{self._settings.provider}"

    @property
    def _memory_key(self) -> str:
        return f"memory:{self._settings.provider}"

    def start_import(self) -> None:
        """Starts to import the provider in a thread: an SDK takes a second, during which the first poll can run."""
        loop = asyncio.get_running_loop()
        self._factory = loop.run_in_executor(None, providers.load_provider, self._settings.provider)

    async def provider(self, system_prompt: str) -> Provider:
        """Returns the open provider; a new one if there is none, or if the system prompt has changed."""
        if self._provider is not None and self._system_prompt != system_prompt:
            await self.close()
        if self._provider is None:
            self._provider = await self._create_provider(system_prompt)
        return self._provider

    async def _create_provider(self, system_prompt: str) -> Provider:
        assert self._factory is not None, "load comes first"
        create = await self._factory
        await self._restore()
        layout = self._settings.layout
        self._system_prompt = system_prompt
        tools, network = self._settings.tools, self._settings.network
        return create(
            ProviderContext(
                model=self._settings.model,
                tools=tools,
                network=network,
                toolbox=self._toolbox,
                system_prompt=f"{system_prompt}\n{capabilities_prompt(tools=tools, network=network)}",
                agent_dir=layout.agent_dir,
                state_dir=layout.state_dir,
                gateway_socket=layout.gateway_socket,
                resume=self.id,
                memory=self._memory,
            )
        )

    async def _restore(self) -> None:
        """Reads the state that an earlier container stored; once."""
        if not self._is_restored:
            self.id = await self._mailbox.state(self._id_key)
            memory = await self._mailbox.state(self._memory_key)
            self._memory = json.loads(memory) if memory else {}
            self._is_restored = True

    async def save_id(self, conversation_id: str) -> None:
        """Stores the id at once."""
        if conversation_id != self.id:
            await self._mailbox.set_state(self._id_key, conversation_id)
            self.id = conversation_id

    async def reset(self) -> None:
        """Drops the conversation; the next provider starts a new one. The file is updated at the end of the turn."""
        await self.close()
        self.id, self._memory = None, {}

    async def clear_state(self) -> dict[str, str | None]:
        """Drops the conversation and the provider's memory of it; returns the state changes for the file."""
        await self.reset()
        self._is_restored = True
        return {self._id_key: None, self._memory_key: None}

    def state_changes(self, memory: Mapping[str, str] | None) -> dict[str, str | None]:
        """Returns the state changes to store at the end of a turn."""
        kept: dict[str, str | None] = {self._id_key: self.id}
        if memory is not None and memory != self._memory:
            self._memory = dict(memory)
            kept[self._memory_key] = json.dumps(self._memory)
        return kept

    async def close(self) -> None:
        """Closes the provider if one is open, and frees its resources; the conversation stays."""
        provider, self._provider = self._provider, None
        if provider is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await provider.close()
        except Exception as error:  # a provider that fails to close must not end the session
            log("provider_close_failed", error=f"{type(error).__name__}: {error}")

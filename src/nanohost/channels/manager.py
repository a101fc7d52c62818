"""Connects the channels of a running host and keeps them receiving.

A channel that cannot be loaded, created or connected is shown with the reason and does not affect others; one that
hangs has a time limit at start and at stop. Connected channels are looked up by (channel type, instance); delivery
waits for one that is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from nanohost.channel_api import (
    Channel,
    ChannelContext,
    ChannelError,
    Condition,
    DeepLinks,
    Inbox,
    MenuCommand,
    SaysItsCondition,
    ShowsCommands,
)
from nanohost.channels.loader import ChannelCatalogue, load
from nanohost.clock import Clock
from nanohost.errors import NanohostError
from nanohost.work.supervisor import Service, ServiceState, Supervisor

CONNECT_TIMEOUT_S = 30.0
"""Seconds for a channel to connect, and to close: the rest of the host waits for both."""

MIN_MENU_RETRY_S, MAX_MENU_RETRY_S = 1.0, 3600.0
"""Seconds before registering the commands with a platform is retried."""

LINK_TIMEOUT_S = 5.0
"""Seconds for a platform to return the bot's name: a person waits at a terminal."""

_log = structlog.get_logger()

CONNECTED = "connected"
"""The state of a channel that works."""
ChannelKey = tuple[str, str]
InboxFactory = Callable[[str, str, Channel], Inbox]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredChannel:
    """A channel instance that the operator has configured."""

    name: str
    instance: str
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionState:
    """The state of one instance as `nanohost status` shows it."""

    name: str
    instance: str
    state: str
    detail: str


class ChannelManager(Mapping[ChannelKey, Channel]):
    """Connected channels by (channel type, instance). `preloaded`: channel objects to use instead of loading files."""

    def __init__(
        self,
        *,
        catalogue: ChannelCatalogue,
        configured: Sequence[ConfiguredChannel],
        home: Path,
        runtime_dir: Path,
        preloaded: Mapping[ChannelKey, Channel] | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._catalogue = catalogue
        self._configured = configured
        self._home = home
        self._runtime_dir = runtime_dir
        self._preloaded = dict(preloaded or {})
        self._connect_timeout_s = connect_timeout_s
        self._channels: dict[ChannelKey, Channel] = {}
        self._problems: dict[ChannelKey, str] = {}
        self._supervisor: Supervisor | None = None

    def __getitem__(self, key: ChannelKey) -> Channel:
        return self._channels[key]

    def __iter__(self) -> Iterator[ChannelKey]:
        return iter(self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Connects the channels while entered."""
        async with AsyncExitStack() as stack:
            for key, channel in self._preloaded.items():
                await self._try_connect(stack, key, partial(_preloaded_channel, channel))
            for wanted in self._configured:
                await self._try_connect(stack, (wanted.name, wanted.instance), partial(self._load, wanted))
            yield
            self._channels.clear()

    def start_receiving(
        self, supervisor: Supervisor, make_inbox: InboxFactory, *, clock: Clock, commands: Sequence[MenuCommand] = ()
    ) -> None:
        """Starts to receive: one service per channel, and one for each channel with a command menu."""
        self._supervisor = supervisor
        for (name, instance), channel in self._channels.items():
            inbox = make_inbox(name, instance, channel)
            supervisor.start(_service_name(name, instance), partial(_receive, channel, inbox))
            if commands and isinstance(channel, ShowsCommands):
                supervisor.start(f"menu of {name}:{instance}", partial(_register_commands, channel, commands, clock))

    @property
    def configured_names(self) -> frozenset[str]:
        """Returns the configured channels, whether they are connected or not."""
        return frozenset(name for name, _ in self._preloaded) | frozenset(wanted.name for wanted in self._configured)

    def disconnect_reason(self, name: str) -> str:
        """Returns why the channel's first instance is not connected; empty while any of its instances is."""
        found = [one for one in self.connection_states() if one.name == name]
        if not found or any(one.state == CONNECTED for one in found):
            return ""
        return f"{found[0].state} ({found[0].detail})" if found[0].detail else found[0].state

    async def deep_link(self, key: ChannelKey, text: str) -> str | None:
        """Returns an address that opens a chat with the bot and sends this text; None if there is none now."""
        channel = self._channels.get(key)
        if channel is None or not isinstance(channel, DeepLinks):
            return None
        try:
            async with asyncio.timeout(LINK_TIMEOUT_S):
                return await channel.deep_link(text)
        except Exception as error:  # any error of a channel file: the link is only a convenience
            _log.info("deep_link_failed", channel=key[0], instance=key[1], error=str(error) or type(error).__name__)
            return None

    def connection_states(self) -> list[ConnectionState]:
        services = {service.name: service for service in self._supervisor.services()} if self._supervisor else {}
        states = [
            ConnectionState(name=name, instance=instance, state="failed", detail=problem)
            for (name, instance), problem in self._problems.items()
        ]
        for name, instance in self._channels:
            service = services.get(_service_name(name, instance))
            states.append(self._connection_state((name, instance), service))
        return states

    def _connection_state(self, key: ChannelKey, service: Service | None) -> ConnectionState:
        """Returns the state: its service failed, or it reports a problem itself, or it works."""
        state, detail = CONNECTED, ""
        channel = self._channels[key]
        if service is not None and service.state is not ServiceState.RUNNING:
            state, detail = str(service.state), service.error
        elif isinstance(channel, SaysItsCondition):
            try:
                condition, detail = channel.condition()
            except Exception as error:  # any error of a channel file: status must still show the rest
                condition, detail = Condition.DOWN, f"it cannot say how it stands: {error}"
            state = state if condition is Condition.UP else str(condition)
        return ConnectionState(name=key[0], instance=key[1], state=state, detail=detail)

    async def _try_connect(
        self, stack: AsyncExitStack, key: ChannelKey, make: Callable[[], Awaitable[Channel]]
    ) -> None:
        try:
            await self._connect(stack, key, await make())
        except (NanohostError, ChannelError) as error:
            self._record_failure(key, str(error))
        except Exception as error:
            _log.error("channel_failed", channel=key[0], instance=key[1], exc_info=error)
            self._record_failure(key, f"{type(error).__name__}: {error}")

    async def _load(self, configured: ConfiguredChannel) -> Channel:
        create = await asyncio.to_thread(load, self._catalogue.find(configured.name))
        return create(
            ChannelContext(
                instance=configured.instance,
                settings=configured.settings,
                runtime_dir=self._runtime_dir,
                home=self._home,
            )
        )

    async def _connect(self, stack: AsyncExitStack, key: ChannelKey, channel: Channel) -> None:
        connection = channel.connected()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await connection.__aenter__()
        except TimeoutError:
            raise ChannelError(f"it did not connect within {self._connect_timeout_s:g} s") from None
        stack.push_async_callback(self._disconnect, key, connection)
        self._channels[key] = channel

    async def _disconnect(self, key: ChannelKey, connection: AbstractAsyncContextManager[None]) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await connection.__aexit__(None, None, None)
        except Exception as error:
            _log.warning("channel_close_failed", channel=key[0], instance=key[1], error=str(error) or "it hangs")

    def _record_failure(self, key: ChannelKey, problem: str) -> None:
        _log.error("channel_connect_failed", channel=key[0], instance=key[1], error=problem)
        self._problems[key] = problem


def _service_name(name: str, instance: str) -> str:
    return f"channel {name}:{instance}"


async def _preloaded_channel(channel: Channel) -> Channel:
    return channel


async def _register_commands(channel: ShowsCommands, commands: Sequence[MenuCommand], clock: Clock) -> None:
    """Registers the commands once, with retries. Errors are not shown: a menu is a convenience, and the channel itself
    reports that the platform cannot be reached."""
    pause_s, refused = MIN_MENU_RETRY_S, ""
    while True:
        try:
            await channel.show_commands(commands)
            break
        except ChannelError as error:
            if refused != error.reason:
                _log.info("command_menu_failed", reason=error.reason, error=str(error))
            refused = error.reason
        await clock.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_MENU_RETRY_S)
    await asyncio.Event().wait()


async def _receive(channel: Channel, inbox: Inbox) -> None:
    """Receives events until the host cancels it. A cancellation raised by the channel's own library is a failure, and a
    cancellation by the host holds even if the channel swallowed it."""
    task = asyncio.current_task()
    assert task is not None, "a service is a task"
    try:
        await channel.receive(inbox)
    except asyncio.CancelledError:
        if not task.cancelling():
            raise ChannelError("something it waited for was cancelled") from None
        raise
    finally:
        if task.cancelling():
            raise asyncio.CancelledError

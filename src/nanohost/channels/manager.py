"""Connects the channels of a running host and keeps them receiving.

A channel that cannot be loaded, made or connected is shown with its reason and harms nothing else; one that hangs is
given a limit, at the start and at the stop. Looked up by (channel type, instance), a connected channel can be sent to;
delivery waits for one that is not here.
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
"""For a channel to connect, and again to close: the rest of the host waits for both."""

MIN_MENU_RETRY_S, MAX_MENU_RETRY_S = 1.0, 3600.0
"""Before a platform is told of the commands again."""

LINK_TIMEOUT_S = 5.0
"""For a platform to say who we are there: somebody waits at a terminal."""

_log = structlog.get_logger()

CONNECTED = "connected"
"""The state of a channel that is in order."""
ChannelKey = tuple[str, str]
InboxFactory = Callable[[str, str, Channel], Inbox]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredChannel:
    """A channel instance that the operator set up."""

    name: str
    instance: str
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionState:
    """One instance as `nanohost status` shows it."""

    name: str
    instance: str
    state: str
    detail: str


class ChannelManager(Mapping[ChannelKey, Channel]):
    """Connected channels by (channel type, instance). `preloaded` are channel objects handed in instead of loaded."""

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
        """Be able to send while entered."""
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
        """Begin to read the platforms: one service a channel, and one for each that has a menu for `commands`."""
        self._supervisor = supervisor
        for (name, instance), channel in self._channels.items():
            inbox = make_inbox(name, instance, channel)
            supervisor.start(_service_name(name, instance), partial(_receive, channel, inbox))
            if commands and isinstance(channel, ShowsCommands):
                supervisor.start(f"menu of {name}:{instance}", partial(_register_commands, channel, commands, clock))

    @property
    def configured_names(self) -> frozenset[str]:
        """The channels that are set up, whether they are connected or not."""
        return frozenset(name for name, _ in self._preloaded) | frozenset(wanted.name for wanted in self._configured)

    def disconnect_reason(self, name: str) -> str:
        """Why nobody is heard there now, of the first of its instances; empty while one of them is connected."""
        found = [one for one in self.connection_states() if one.name == name]
        if not found or any(one.state == CONNECTED for one in found):
            return ""
        return f"{found[0].state} ({found[0].detail})" if found[0].detail else found[0].state

    async def deep_link(self, key: ChannelKey, text: str) -> str | None:
        """An address that opens a chat there and hands over this text; None where there is none, or not now."""
        channel = self._channels.get(key)
        if channel is None or not isinstance(channel, DeepLinks):
            return None
        try:
            async with asyncio.timeout(LINK_TIMEOUT_S):
                return await channel.deep_link(text)
        except Exception as error:  # a channel's own file: it is a convenience, and nothing waits for it
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
        """How one stands: its service failed, or it says itself that something is wrong, or all is well."""
        state, detail = CONNECTED, ""
        channel = self._channels[key]
        if service is not None and service.state is not ServiceState.RUNNING:
            state, detail = str(service.state), service.error
        elif isinstance(channel, SaysItsCondition):
            try:
                condition, detail = channel.condition()
            except Exception as error:  # a channel's own file: whoever looks at the status must still see the rest
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
    """Once, and then there is nothing left to do. A menu is a convenience: while the platform cannot be reached, that
    is said by the channel itself."""
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
    """Whether this service ends is for the host to say: a cancellation out of the channel's own library is a failure
    like any other, and one of ours that the channel swallowed still holds."""
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

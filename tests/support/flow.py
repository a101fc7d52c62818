"""A whole host for flow tests: real stages, real files, real runner processes; the platform is a FakeChannel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanohost.app import running_host
from nanohost.clock import Clock, SystemClock
from nanohost.commands.context import CommandContext
from nanohost.commands.registry import find_command
from nanohost.config.home import Home, lock_home
from nanohost.config.settings import Settings, make_settings
from nanohost.db import agent_groups, messaging_groups, sessions, wirings
from nanohost.host import Host, Overrides
from nanohost.model import AgentGroup, EngageMode, MessagingGroup, Session, SessionMode, UnknownSender
from nanohost.runtimes.process import ProcessRuntime
from nanohost.runtimes.runtime_api import Container, Runtime
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.time_limits import scaled_timeout
from nanohost_protocol.layout import SessionLayout
from tests.support.template_home import create_home_database

FAKE_CHANNEL = ("fake", "default")


Script = Sequence[Mapping[str, object]]
"""Rules of a scripted agent: see agent_runner.providers.scripted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningHost:
    """A running host and its people."""

    host: Host
    fake: FakeChannel
    home: Home

    async def run_command(self, words: str, *parts: object, **arguments: object) -> Any:
        """The result of an operator command; the parts are its positional arguments."""
        command = find_command(words)
        return await command.execute(
            self._context(), dict(zip(command.positional[: len(parts)], parts, strict=True)) | arguments
        )

    async def status(self) -> str:
        """The output of `nanohost status`."""
        return find_command("status").render(await self.run_command("status"))

    def _context(self) -> CommandContext:
        host = self.host
        return CommandContext(
            home=self.home, settings=host.foundation.settings, clock=host.clock, store=host.store, host=host
        )

    async def ensure_group(self, folder: str = "main", *, script: Script | None = None) -> AgentGroup:
        """The agent group of this folder, created when missing; `script` is the script of its agent."""
        found = await agent_groups.find(self.host.store, folder)
        if found is None:
            async with self.host.store.transaction() as tx:
                found = await agent_groups.add(
                    tx, folder=folder, name=folder, provider=None, model=None, now=self.host.clock.now()
                )
        agent_dir = self.home.groups / folder
        agent_dir.mkdir(parents=True, exist_ok=True)
        if script is not None:
            (agent_dir / "script.json").write_text(json.dumps(script))
        return found

    def resume_script(self, folder: str = "main") -> None:
        """Release whatever waits in a group's script: {"until_file": "go"}, in this turn and in every later one."""
        (self.home.groups / folder / "go").touch()

    async def wire(
        self,
        chat: str = "c1",
        folder: str = "main",
        *,
        script: Script | None = None,
        engage: EngageMode = EngageMode.PATTERN,
        pattern: str = ".",
        session: SessionMode = SessionMode.SHARED,
        unknown: UnknownSender = UnknownSender.PUBLIC,
        channel: tuple[str, str] = FAKE_CHANNEL,
    ) -> None:
        """Wire a chat to an agent group; the chat is on the fake platform if no other is named."""
        group = await self.ensure_group(folder, script=script)
        now = self.host.clock.now()
        known = await messaging_groups.find(
            self.host.store, channel_type=channel[0], instance=channel[1], platform_id=chat
        )
        async with self.host.store.transaction() as tx:
            messaging_group: MessagingGroup = known or await messaging_groups.add(
                tx,
                channel_type=channel[0],
                instance=channel[1],
                platform_id=chat,
                is_group=False,
                name=chat,
                unknown_sender=unknown,
                now=now,
            )
            await wirings.add(
                tx,
                messaging_group=messaging_group.id,
                agent_group=group.id,
                engage_mode=engage,
                engage_pattern=pattern,
                session_mode=session,
                priority=0,
                now=now,
            )

    async def sessions(self, folder: str | None = None) -> list[Session]:
        """All sessions, or those of one agent group, oldest first."""
        found = [one async for one in sessions.iter_all(self.host.store.reports) if folder in (None, one.group_folder)]
        return sorted(found, key=lambda one: one.created_at)

    async def session(self, folder: str = "main") -> Session:
        """The only session of an agent group."""
        [found] = await self.sessions(folder)
        return found

    def layout(self, session: Session) -> SessionLayout:
        return self.host.mailboxes.layout(session)

    async def containers(self) -> Sequence[Container]:
        """Containers that really run, found by their processes."""
        return await self.host.foundation.runtime.adopt()

    def texts(self, chat: str | None = None) -> list[str]:
        """What people have read so far, in one chat or in all."""
        return [one.text for one in self.fake.sent if chat in (None, one.address.platform_id)]


def install_id_for(root: Path) -> str:
    """The install id of a test's runners: derived from this folder, otherwise tests would adopt each other's."""
    return "itest" + hashlib.sha256(str(root).encode()).hexdigest()[:12]


SCRIPTED_HOST_SETTINGS = {"provider": "scripted", "runtime": "process", "durable": False, "timezone": "UTC"}
"""[host], with scripted agents; sync is off, for speed."""


def scripted_settings(**host: object) -> Settings:
    """Settings of a host with scripted agents. Its sweep comes later than a test waits, otherwise a lost wake-up would
    not be noticed."""
    return make_settings(host=SCRIPTED_HOST_SETTINGS | {"sweep_interval_s": scaled_timeout(60)} | host)


@asynccontextmanager
async def run_host(
    root: Path,
    *,
    fake: FakeChannel | None = None,
    settings: Settings | None = None,
    runtime: Runtime | None = None,
    clock: Clock | None = None,
    keep_containers: bool = False,
    with_channel: bool = True,
) -> AsyncIterator[RunningHost]:
    """A running host in `root`; opening the same root again simulates a restart."""
    home = Home(root)
    fake = fake or FakeChannel()
    runtime = runtime or ProcessRuntime(install=install_id_for(root))
    parts = Overrides(
        runtime=runtime, channels={FAKE_CHANNEL: fake} if with_channel else {}, clock=clock or SystemClock()
    )
    create_home_database(home)
    with lock_home(home):
        async with running_host(
            home, settings or scripted_settings(), keep_containers=keep_containers, overrides=parts
        ) as host:
            yield RunningHost(host=host, fake=fake, home=home)

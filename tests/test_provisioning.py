"""What a container gets when it is started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from nanohost.config.home import Home
from nanohost.config.settings import Settings, make_settings
from nanohost.db import destinations, messaging_groups
from nanohost.errors import SpawnError
from nanohost.gateway.gateway import Gateway
from nanohost.gateway.model_call import ModelCall
from nanohost.gateway.model_service import Upstream
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import LeaseId, UnknownSender
from nanohost.provisioning import ProvisioningService
from nanohost.runtimes.runtime_api import Isolation
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, run_manager
from tests.support.interleaving import InterleavedMailboxes


async def _records(_: Sequence[ModelCall]) -> None:
    """No model is called."""


def _provisioning(
    bench: ContainerManagerHarness,
    root: Path,
    mailboxes: Mailboxes,
    isolation: Isolation = Isolation.CONTAINER,
    settings: Settings | None = None,
) -> ProvisioningService:
    return ProvisioningService(
        store=bench.store,
        mailboxes=mailboxes,
        gateway=Gateway(upstream=Upstream(), record=_records, clock=bench.clock),
        home=Home(root),
        settings=settings or Settings(),
        isolation=isolation,
        clock=bench.clock,
    )


@pytest.mark.behaviour("RU-13")
@pytest.mark.parametrize(
    ("isolation", "network"), [(Isolation.CONTAINER, "none"), (Isolation.SANDBOX, "none"), (Isolation.NONE, "open")]
)
async def test_a_container_is_told_whether_it_has_a_network(tmp_path: Path, isolation: Isolation, network: str) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        spec = await _provisioning(bench, tmp_path, bench.mailboxes, isolation).spec(session, LeaseId("l1"))
    assert spec.environment["NANOHOST_NETWORK"] == network


async def test_a_starting_agent_knows_a_destination_added_at_that_moment(tmp_path: Path) -> None:
    """The destination is added after running agents were told and before this one has its address book."""
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        files = InterleavedMailboxes(bench.mailboxes)
        provisioning = _provisioning(bench, tmp_path, files)

        async def is_given() -> None:
            async with bench.store.transaction() as tx:
                chat = await messaging_groups.add(
                    tx,
                    channel_type="fake",
                    instance="default",
                    platform_id="c2",
                    is_group=False,
                    name="c2",
                    unknown_sender=UnknownSender.PUBLIC,
                    now=bench.clock.now(),
                )
                await destinations.add(
                    tx,
                    agent_group=session.agent_group_id,
                    name="team",
                    messaging_group=chat.id,
                    created_by="test",
                    now=bench.clock.now(),
                )

        files.before_update = is_given
        await provisioning.prepare(session, LeaseId("l1"))
        told = await bench.mailboxes.read_inbound(session, lambda box: box.destinations())
        assert [one.name for one in told] == ["c1", "team"]


@pytest.mark.behaviour("EX-01")
@pytest.mark.parametrize(
    ("header", "isolation", "problem"),
    [
        ('kind = "provider"', Isolation.NONE, "'parrot' may run tools and has no sandbox"),
        ('kind = "channel"', Isolation.CONTAINER, "tool.nanohost.kind in the header"),
        (None, Isolation.CONTAINER, "there is no provider 'parrot'"),
    ],
)
async def test_a_provider_that_may_not_or_cannot_run_is_not_started(
    tmp_path: Path, header: str | None, isolation: Isolation, problem: str
) -> None:
    if header is not None:
        (tmp_path / "providers").mkdir()
        lines = ("/// script", "[tool.nanohost]", header, "api = 1", "///")
        (tmp_path / "providers" / "parrot.py").write_text("".join(f"# {line}\n" for line in lines))
    settings = make_settings(host={"provider": "parrot"})
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        provisioning = _provisioning(bench, tmp_path, bench.mailboxes, isolation, settings)
        with pytest.raises(SpawnError, match=problem) as caught:
            await provisioning.spec(session, LeaseId("l1"))
    assert caught.value.hint


async def test_a_container_gets_the_installs_runner_files_if_there_are_any(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        provisioning = _provisioning(bench, tmp_path, bench.mailboxes)
        before = await provisioning.spec(session, LeaseId("l1"))
        (tmp_path / "tools").mkdir()
        after = await provisioning.spec(session, LeaseId("l1"))
    assert (before.extensions, after.extensions) == ((), (tmp_path / "tools",))

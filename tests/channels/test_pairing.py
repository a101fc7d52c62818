"""From a fresh install to the first answer: a code made on the command line, typed on the platform."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from nanohost.app import running_host
from nanohost.channel_api import Address, NotSent, OutboundText, Receipt
from nanohost.channels.loader import ChannelCatalogue
from nanohost.channels.manager import ChannelManager
from nanohost.config.home import Home, lock_home
from nanohost.db import roles, users
from nanohost.host import Overrides
from nanohost.runtimes.process import ProcessRuntime
from nanohost.testing.fake_channel import FakeChannel
from nanohost.testing.simulated_chat import find_simulator
from nanohost.testing.simulator import Simulator
from tests.channels.everywhere import AllPlatforms, make_settings, platform_names, read_by, wait_until_connected
from tests.support.flow import RunningHost, install_id_for


@asynccontextmanager
async def fresh(root: Path, *platforms: Simulator) -> AsyncIterator[RunningHost]:
    """A fresh host with its platforms configured and nothing else."""
    world, home = AllPlatforms(platforms={one.name: one for one in platforms}), Home(root)
    parts = Overrides(runtime=ProcessRuntime(install=install_id_for(root)))
    async with world.running():
        with lock_home(home):
            async with running_host(home, make_settings(world), keep_containers=False, overrides=parts) as host:
                flow = RunningHost(host=host, fake=FakeChannel(), home=home)
                await wait_until_connected(flow)
                yield flow


async def wait_for_messages(platform: Simulator, *beginnings: str) -> None:
    """Wait until Ada has messages that begin so."""

    def have_come() -> bool:
        return all(any(text.startswith(begin) for text in read_by(platform)) for begin in beginnings)

    await platform.wait_until(have_come)


@pytest.mark.behaviour("AC-03")
async def test_the_pairing_link_makes_its_user_an_owner_on_telegram_who_is_answered(tmp_path: Path) -> None:
    telegram = find_simulator("telegram")
    async with fresh(tmp_path, telegram) as flow:
        made = await flow.run_command("pair", "telegram")
        assert made["state"] == "connected"
        assert made["link"].startswith("https://t.me/")
        [start] = parse_qs(urlsplit(made["link"]).query)["start"]
        assert start == made["code"]
        await telegram.write(telegram.dm, f"/start {start}")
        await wait_for_messages(telegram, "You are the owner now. You can write to main here now.")
        await telegram.write(telegram.dm, "hello")
        await wait_for_messages(telegram, "echo: hello")
        [grant] = await roles.list_all(flow.host.store)
        assert (grant.user_id, str(grant.role)) == (f"telegram:{telegram.dm}", "owner")


@pytest.mark.behaviour("AC-01", "AC-03")
@pytest.mark.parametrize("name", platform_names())
async def test_an_owner_on_any_platform_is_linked_on_telegram_by_one_more_code(tmp_path: Path, name: str) -> None:
    here, telegram = find_simulator(name), find_simulator("telegram")
    if name == "telegram":
        here, telegram = telegram, find_simulator("slack")
    async with fresh(tmp_path, here, telegram) as flow:
        made = await flow.run_command("pair", name)
        assert (made["link"] is not None) is (name in {"telegram", "whatsapp"})
        await here.write(here.dm, made["code"].lower())
        await wait_for_messages(here, "You are the owner now.")
        await here.write(here.dm, "/link")
        await here.wait_until(lambda: any("Write this to me" in text for text in read_by(here)))
        [said] = [text for text in read_by(here) if "Write this to me" in text]
        await telegram.write(telegram.dm, said.split()[0])
        await wait_for_messages(telegram, "You and ")
        await here.wait_until(lambda: any("is linked with you now" in text for text in read_by(here)))
        [owner] = await roles.list_all(flow.host.store)
        both = await users.list_identities(flow.host.store, owner.user_id)
        assert {one.user_id.partition(":")[0] for one in both} == {here.name, telegram.name}
        await telegram.write(telegram.dm, "hello")
        await wait_for_messages(telegram, "echo: hello")


async def test_a_pairing_link_on_whatsapp_contains_the_number(tmp_path: Path) -> None:
    async with fresh(tmp_path, find_simulator("whatsapp")) as flow:
        made = await flow.run_command("pair", "whatsapp")
        assert made["link"] == f"https://wa.me/15550001111?text={made['code']}"


class _Linking(FakeChannel):
    """`answer`: its result when it is asked for a link."""

    answer: str | Exception = "https://fake.example/"

    async def deep_link(self, text: str) -> str | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer + text

    async def send(self, address: Address, message: OutboundText, *, idempotency_key: str) -> Receipt:
        raise AssertionError("nothing is sent")


async def test_an_unavailable_pairing_link_is_none(tmp_path: Path) -> None:
    fake, plain = _Linking(), FakeChannel()
    connections = ChannelManager(
        catalogue=ChannelCatalogue(available={}, unavailable=()),
        configured=[],
        home=tmp_path,
        runtime_dir=tmp_path,
        preloaded={("fake", "default"): fake, ("plain", "default"): plain},
    )
    assert connections.configured_names == {"fake", "plain"}
    async with connections.opened():
        assert await connections.deep_link(("fake", "default"), "ABC") == "https://fake.example/ABC"
        assert await connections.deep_link(("plain", "default"), "ABC") is None
        assert await connections.deep_link(("nowhere", "default"), "ABC") is None
        for failure in (NotSent("no connection"), ZeroDivisionError()):
            fake.answer = failure
            assert await connections.deep_link(("fake", "default"), "ABC") is None

"""Proxies: the variables mean the same for every channel and the model, and every kind of proxy is really used."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from nanohost.channels.loader import discover
from nanohost.commands.channel_setup import check_settings
from nanohost.config.shipped import shipped_root
from nanohost.errors import ChannelLoadError
from nanohost.net.proxies import InvalidProxyError, aiohttp_options, describe_proxy, proxy_for
from nanohost.testing.simulated_chat import find_simulator
from nanohost.testing.simulator import Simulator
from tests.channels.everywhere import AllPlatforms, platform_names, run_host
from tests.support.proxy import StubProxy

NAME = "platform.example"
KINDS = ["http", "socks5", "socks5h"]


@pytest.fixture(autouse=True)
def _no_proxies_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
async def proxy() -> AsyncIterator[StubProxy]:
    proxy = StubProxy()
    async with proxy.running():
        yield proxy


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("https://a.example", {}, None),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("wss://a.example", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("http://a.example", {"HTTPS_PROXY": "http://p:1"}, None),
        ("ws://a.example", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example", {"HTTPS_PROXY": "http://P:1", "https_proxy": "http://p:2"}, "http://p:2"),
        ("https://a.example", {"ALL_PROXY": "socks5://p:1"}, "socks5://p:1"),
        ("https://a.example", {"all_proxy": "socks5h://u:w@p", "HTTP_PROXY": "http://x:1"}, "socks5h://u:w@p"),
        ("https://a.example", {"HTTPS_PROXY": "p:3128"}, "http://p:3128"),
        ("https://a.example", {"HTTPS_PROXY": " \n"}, None),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "b.example, A.example"}, None),
        ("https://b.a.example", {"HTTPS_PROXY": "http://p:1", "no_proxy": ".a.example"}, None),
        ("https://b.a.example", {"HTTPS_PROXY": "http://p:1", "no_proxy": "*.a.example"}, None),
        ("https://ba.example", {"HTTPS_PROXY": "http://p:1", "no_proxy": "a.example"}, "http://p:1"),
        ("https://a.example", {"HTTPS_PROXY": "http://p:1", "no_proxy": "a.example:8443"}, "http://p:1"),
        ("https://a.example:8443", {"HTTPS_PROXY": "http://p:1", "no_proxy": "a.example:8443"}, None),
        ("https://10.1.2.3", {"HTTPS_PROXY": "http://p:1", "no_proxy": "10.0.0.0/8"}, None),
        ("https://11.1.2.3", {"HTTPS_PROXY": "http://p:1", "no_proxy": "10.0.0.0/8"}, "http://p:1"),
        ("https://[fd00::1]", {"HTTPS_PROXY": "http://p:1", "no_proxy": "[fd00::1]"}, None),
        ("https://localhost", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://127.3.2.1:8080", {"HTTPS_PROXY": "http://p:1"}, None),
        ("http://[::1]:8080", {"ALL_PROXY": "socks5://p:1"}, None),
        ("http://a.example:99999999", {"ALL_PROXY": "socks5://p:1"}, None),
    ],
)
def test_environment_variables_select_the_proxy(url: str, environ: Mapping[str, str], expected: str | None) -> None:
    assert proxy_for(url, environ) == expected


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("socks4://u:hush@p:1", "HTTPS_PROXY begins socks4://, and such a proxy cannot be used"),
        ("ftp://p", "HTTPS_PROXY begins ftp://"),
        ("http://", "HTTPS_PROXY is no address of a proxy, such as http://proxy:3128"),
        ("http://u:hush@p:port", "HTTPS_PROXY is no address of a proxy"),
        ("http://p:0", "HTTPS_PROXY is no address of a proxy"),
        ("http://[p", "HTTPS_PROXY is no address of a proxy"),
    ],
)
def test_an_invalid_proxy_is_reported_in_one_line_without_its_password(value: str, said: str) -> None:
    with pytest.raises(InvalidProxyError) as caught:
        proxy_for("https://a.example", {"HTTPS_PROXY": value})
    assert str(caught.value).startswith(said)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


def elsewhere(platform: Simulator) -> dict[str, Any]:
    """The platform's settings with an address that is not on this machine."""
    return {key: value.replace("127.0.0.1", NAME) if "://" in value else value for key, value in _texts(platform)}


def _texts(platform: Simulator) -> list[tuple[str, str]]:
    return [(key, str(value)) for key, value in platform.settings().items()]


async def check(name: str, settings: Mapping[str, object], home: Path) -> str:
    """nanohost channels check."""
    entry = discover([shipped_root() / "channels"]).find(name)
    return await check_settings(entry, "default", settings, home)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", platform_names())
async def test_each_channel_is_checked_through_each_kind_of_proxy(
    name: str, kind: str, proxy: StubProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = find_simulator(name)
    monkeypatch.setenv("all_proxy", f"{kind}://ann:s3cret@127.0.0.1:{proxy.port}")
    async with platform.running():
        assert await check(name, elsewhere(platform), tmp_path)
    assert set(proxy.requested_hosts) == {NAME}
    assert proxy.logins
    assert len(set(proxy.logins)) == 1


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_each_channel_is_connected_through_each_kind_of_proxy(
    kind: str, proxy: StubProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets and long polls, too: the host starts once all of them are connected."""
    monkeypatch.setenv("all_proxy", f"{kind}://127.0.0.1:{proxy.port}")
    world = AllPlatforms()
    for platform in world.platforms.values():
        monkeypatch.setattr(platform, "settings", lambda platform=platform: _moved(platform))
    async with run_host(tmp_path, world):
        for name in world.platforms:
            assert NAME in proxy.requested_hosts, name
    assert len(proxy.requested_hosts) >= len(world.platforms)


def _moved(platform: Simulator) -> dict[str, Any]:
    plain = type(platform).settings(platform)
    return {
        key: str(value).replace("127.0.0.1", NAME) if "://" in str(value) else value for key, value in plain.items()
    }


@pytest.mark.parametrize("name", platform_names())
async def test_a_local_or_excluded_platform_is_reached_without_the_proxy(
    name: str, proxy: StubProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
    platform = find_simulator(name)
    async with platform.running():
        assert await check(name, dict(_texts(platform)), tmp_path)
    assert proxy.requested_hosts == []


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("name", platform_names())
async def test_a_refusing_proxy_is_reported_by_the_check_in_one_line(
    name: str, kind: str, proxy: StubProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.should_refuse = True
    platform = find_simulator(name)
    monkeypatch.setenv("all_proxy", f"{kind}://127.0.0.1:{proxy.port}")
    async with platform.running():
        with pytest.raises(ChannelLoadError) as caught:
            await check(name, elsewhere(platform), tmp_path)
    said = str(caught.value)
    del caught  # it leads to the connection
    _collect_what_httpcore_forgets()
    assert said.startswith(f"channel {name}: ")
    if kind == "socks5":
        assert f" cannot be reached through the proxy 127.0.0.1:{proxy.port} (all_proxy)" in said
    assert "\n" not in said


def _collect_what_httpcore_forgets() -> None:
    """It leaves a connection open that a SOCKS proxy refused: see findings/httpcore-refused-socks.sh."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("name", platform_names())
async def test_a_dead_proxy_is_reported_by_the_check_without_its_password(
    name: str, kind: str, unused_tcp_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = find_simulator(name)
    monkeypatch.setenv("all_proxy", f"{kind}://ann:hush@127.0.0.1:{unused_tcp_port}")
    async with platform.running():
        with pytest.raises(ChannelLoadError) as caught:
            await check(name, elsewhere(platform), tmp_path)
    assert f" cannot be reached through the proxy 127.0.0.1:{unused_tcp_port} (all_proxy)" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_errors_name_a_proxy_by_its_address_and_variable() -> None:
    assert (
        describe_proxy("https://a.example", {"HTTPS_PROXY": "http://u:w@p:1"}) == " through the proxy p:1 (HTTPS_PROXY)"
    )
    assert describe_proxy("http://a.example", {"all_proxy": "p:1"}) == " through the proxy p:1 (all_proxy)"
    assert describe_proxy("https://127.0.0.1:2", {"HTTPS_PROXY": "http://p:1"}) == ""
    assert describe_proxy("https://a.example", {}) == ""
    assert describe_proxy("https://a.example", {"HTTPS_PROXY": "socks4://p:1"}) == ""


@pytest.mark.behaviour("OP-05")
@pytest.mark.parametrize("name", platform_names())
async def test_an_unusable_proxy_is_reported_by_the_check_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "socks4://u:hush@127.0.0.1:1")
    with pytest.raises(ChannelLoadError, match=f"channel {name}: all_proxy begins socks4://") as caught:
        await check(name, elsewhere(find_simulator(name)), tmp_path)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_model_is_reached_through_each_kind_of_proxy(kind: str, proxy: StubProxy) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    way = aiohttp_options(f"{kind}://127.0.0.1:{proxy.port}", limit=0)
    async with aiohttp.ClientSession(**way) as session, session.get(f"http://{NAME}:{port}/") as got:
        assert await got.text() == "hello"
    await runner.cleanup()
    assert proxy.requested_hosts == [NAME]

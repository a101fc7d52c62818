"""The bridge is a child process: it dies, hangs, writes invalid lines or is slow without affecting the host, and the
host may be killed."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import stat
import sys
from pathlib import Path

import pytest

from channels._whatsapp_linked import LinkedChannel, bridge_environment, restart_delay_s
from nanohost.channel_api import Address, Ambiguous, ChannelDown, Condition, OutboundText, Receipt, SaysItsCondition
from nanohost.testing.channel_suite import SuiteInbox
from nanohost.testing.simulator import Fault
from nanohost.testing.simulator_suite import SimulatorHarness, run_channel
from nanohost.testing.simulators.whatsapp_linked import WhatsAppLinkedSimulator
from nanohost.testing.time_limits import scaled_timeout

from .conftest import Make, wait_until

ADAS = "1001@s.whatsapp.net"


async def _send(channel: LinkedChannel, text: str, chat: str = ADAS) -> Receipt:
    return await channel.send(Address(platform_id=chat), OutboundText(text=text), idempotency_key=text)


@pytest.mark.behaviour("IN-01", "IN-02")
async def test_a_message_that_was_not_accepted_is_repeated_by_the_next_bridge(
    phone: WhatsAppLinkedSimulator, make: Make
) -> None:
    inbox = SuiteInbox()
    inbox.hold()
    async with run_channel(SimulatorHarness(phone, make(), chat=ADAS), inbox):
        id = await phone.write(ADAS, "keep this")
        await inbox.wait_until(lambda: len(inbox.received) == 1)
        phone.kill_bridge()
        await phone.wait_until(lambda: len(phone.opened) == 2)
        assert phone.acknowledged() == []
        inbox.release()
        await inbox.wait_until(lambda: len(inbox.accepted) == 2)
        await phone.wait_until(lambda: phone.acknowledged() == [id])
        phone.kill_bridge()
        await phone.wait_until(lambda: len(phone.opened) == 3)
        await phone.write(ADAS, "and this")
        await inbox.wait_for_accepted("and this")
    assert {event.platform_message_id for event in inbox.accepted[:2]} == {id}
    assert len(inbox.accepted) == 3


async def test_a_bridge_that_hangs_is_replaced(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    phone.answers_pings = False
    channel = make(answer_limit_s=str(scaled_timeout(0.2)))
    async with channel.connected():
        await phone.wait_until(lambda: len(phone.opened) == 2)
        phone.answers_pings = True
        await wait_until(lambda: channel.condition()[0] is Condition.UP)
        await _send(channel, "hello")
    assert phone.texts() == ["hello"]


@pytest.mark.behaviour("DL-05")
async def test_a_slow_bridge_makes_a_send_ambiguous(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    channel = make(answer_limit_s=str(scaled_timeout(0.3)))
    async with channel.connected():
        await _send(channel, "before")
        phone.faults.queue.append(Fault.HANG)
        with pytest.raises(Ambiguous, match="in time"):
            await _send(channel, "during")
        await _send(channel, "after")
    assert phone.texts() == ["before", "after"]


@pytest.mark.behaviour("DL-05")
async def test_a_send_through_a_bridge_that_dies_is_ambiguous(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    channel = make()
    async with channel.connected():
        phone.faults.queue.append(Fault.RESET_AFTER)
        with pytest.raises(Ambiguous):
            await _send(channel, "sent, but nobody says so")
    assert phone.texts() == ["sent, but nobody says so"]


async def test_a_bridge_that_exits_is_restarted_with_growing_pauses_and_its_last_output_shown(
    make: Make, tmp_path: Path
) -> None:
    script = f"echo started >> {shlex.quote(str(tmp_path / 'starts'))}; echo 'libmagic is missing' >&2; exit 3"
    channel = make(bridge=shlex.join(["sh", "-c", script]), answer_limit_s=str(scaled_timeout(0.5)))
    began = asyncio.get_running_loop().time()
    async with channel.connected():
        await wait_until(lambda: "libmagic is missing" in channel.condition()[1])
        with pytest.raises(ChannelDown, match="libmagic is missing"):
            await _send(channel, "hello?")
        assert channel.condition()[0] is Condition.DOWN
    took_s, starts = asyncio.get_running_loop().time() - began, (tmp_path / "starts").read_text().splitlines()
    assert sum(restart_delay_s(number, "down") for number in range(1, len(starts))) <= took_s


def test_pauses_grow_to_a_minute_and_a_banned_number_is_not_retried() -> None:
    pauses = [restart_delay_s(failures, "down") for failures in range(1, 12)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.1, 60.0)
    assert restart_delay_s(1, "banned") == 3600.0


async def test_a_bridge_that_cannot_be_started_is_reported(make: Make) -> None:
    channel = make(bridge="/nowhere/at-all")
    async with channel.connected():
        await wait_until(lambda: "the bridge cannot run" in channel.condition()[1])
        assert "/nowhere/at-all" in channel.condition()[1]
        with pytest.raises(ChannelDown, match="/nowhere/at-all"):
            await _send(channel, "hello?")


async def test_where_the_bridge_is_not_installed_the_command_that_installs_it_is_told(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nanohost_whatsapp_bridge", None)  # how Python is told that there is none
    channel = make(bridge=None)
    async with channel.connected():
        await wait_until(lambda: "pip install -e whatsapp_bridge" in channel.condition()[1])
        assert channel.condition()[0] is Condition.DOWN
        with pytest.raises(ChannelDown, match="pip install -e whatsapp_bridge"):
            await _send(channel, "hello?")


async def test_a_folder_that_cannot_be_created_is_reported(make: Make, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    channel = make()
    async with channel.connected():
        await wait_until(lambda: "the bridge cannot run" in channel.condition()[1])


async def test_the_bridge_ends_with_its_channel(phone: WhatsAppLinkedSimulator, make: Make) -> None:
    channel = make()
    async with channel.connected():
        await wait_until(lambda: channel.condition()[0] is Condition.UP)
        [child] = _children(os.getpid())
    assert not _is_running(child)


async def test_the_bridge_ends_when_its_host_is_killed(phone: WhatsAppLinkedSimulator, tmp_path: Path) -> None:
    program = f"""
import asyncio, pathlib
from channels._whatsapp_linked import create
from nanohost.channel_api import ChannelContext
home = pathlib.Path({str(tmp_path)!r})
async def main():
    channel = create(ChannelContext(instance="x", settings={dict(phone.settings())!r}, runtime_dir=home, home=home))
    async with channel.connected():
        await asyncio.Event().wait()
asyncio.run(main())
"""
    root = str(Path(__file__).parents[3])
    host = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=root)
    try:
        await phone.wait_until(lambda: len(phone.opened) == 1)
        [child] = _children(host.pid)
    finally:
        host.send_signal(signal.SIGKILL)
        await host.wait()
    await wait_until(lambda: not _is_running(child))


async def test_the_bridge_gets_no_secrets_of_the_host(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a secret")
    seen = tmp_path / "seen"
    channel = make(bridge=shlex.join(["sh", "-c", f"env > {shlex.quote(str(seen))}"]))
    async with channel.connected():
        await wait_until(lambda: seen.exists() and "PATH=" in seen.read_text())
    assert "a secret" not in seen.read_text()


async def test_the_session_is_stored_in_a_folder_that_only_its_user_can_read(
    phone: WhatsAppLinkedSimulator, make: Make, tmp_path: Path
) -> None:
    channel = make(phone="+49 170 1234567")
    async with channel.connected():
        await _send(channel, "hello")
    folder = Path(phone.opened[0].folder)
    assert folder.is_relative_to(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert phone.opened[0].phone == "491701234567"
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


async def test_without_a_network_nothing_is_sent_and_the_condition_says_so(
    phone: WhatsAppLinkedSimulator, make: Make
) -> None:
    channel = make()
    assert isinstance(channel, SaysItsCondition)
    async with channel.connected():
        await _send(channel, "before")
        await phone.start_outage()
        with pytest.raises(ChannelDown, match="no network"):
            await _send(channel, "during")
        assert channel.condition() == (Condition.DOWN, "not connected: no network")
        await phone.end_outage()
        await _send(channel, "after")
    assert phone.texts() == ["before", "after"]


def _children(pid: int) -> list[int]:
    """The bridges among the children of a process."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found if b"_whatsapp_bridge.py" in Path(f"/proc/{one}/cmdline").read_bytes()]


def _is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_the_bridge_gets_its_proxy_in_the_one_variable_that_it_reads() -> None:
    environ = {"PATH": "/bin", "ALL_PROXY": "socks5h://p:1", "NO_PROXY": "a.example", "ANTHROPIC_API_KEY": "hush"}
    assert bridge_environment(environ, "socks5h://p:1") == {
        "PATH": "/bin",
        "ALL_PROXY": "socks5h://p:1",
        "NO_PROXY": "a.example",
        "HTTPS_PROXY": "socks5://p:1",
    }
    assert "HTTPS_PROXY" not in bridge_environment(environ, None)

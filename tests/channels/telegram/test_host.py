"""Telegram through a whole host: a person writes, an agent answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nanohost.chat_commands.registry import chat_commands, host_commands
from nanohost.host import Host
from nanohost.testing.simulator import ADA, BOB, Fault
from nanohost.testing.simulators.telegram import TelegramSimulator
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.support.fast_clock import AcceleratedClock
from tests.support.flow import scripted_settings

from .bench import GROUP, run_host


def script(root: Path, rules: Sequence[object]) -> None:
    folder = root / "groups" / "main"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.json").write_text(json.dumps(rules))


async def ledger(host: Host, wanted: Callable[[list[str]], bool]) -> list[str]:
    """The states of all deliveries, once they are as wanted."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            rows = await host.store.fetch_all("SELECT status FROM deliveries ORDER BY seq")
            if wanted(statuses := [row["status"] for row in rows]):
                return statuses
            await asyncio.sleep(0.01)


@pytest.mark.behaviour("DL-01", "DL-11")
async def test_a_person_writes_and_the_agent_answers_in_the_chat_and_the_topic(tmp_path: Path) -> None:
    rain = {"answer": "**Rain** & <wind>\n\n- wet\n- cold"}
    script(tmp_path, [{"match": "weather", "actions": [{"until_file": "go"}, rain]}])
    telegram = TelegramSimulator()
    async with telegram.running(), run_host(tmp_path, telegram, ADA.id, GROUP, clock=AcceleratedClock()):
        await telegram.write(ADA.id, "the weather?")
        await telegram.wait_until(lambda: ADA.id in telegram.typing)
        (tmp_path / "groups" / "main" / "go").touch()
        [answer] = await telegram.wait_for_messages(1, ADA.id)
        await telegram.write(GROUP, "hello", person=BOB, group=True, thread="77", mention=True)
        [in_topic] = await telegram.wait_for_messages(1, GROUP)
        await telegram.wait_until(lambda: len(telegram.acknowledged()) == 2)
    assert answer.text == "Rain & <wind>\n\n• wet\n• cold"
    assert answer.raw == "<b>Rain</b> &amp; &lt;wind&gt;\n\n• wet\n• cold"
    assert (in_topic.text, in_topic.thread) == ("echo: hello", "77")


@pytest.mark.behaviour("IN-01", "IN-02")
async def test_an_accepted_but_unconfirmed_update_is_answered_once_after_a_restart(
    tmp_path: Path,
) -> None:
    telegram = TelegramSimulator()
    async with telegram.running():
        async with run_host(tmp_path, telegram, ADA.id, clock=AcceleratedClock()):
            await telegram.wait_until(lambda: telegram.polls >= 2)
            telegram.poll_faults.append(Fault.HANG)  # the very poll that would confirm
            await telegram.write(ADA.id, "one")
            await telegram.wait_for_messages(1, ADA.id)
            assert telegram.acknowledged() == []
        telegram.poll_faults.clear()
        await telegram.write(ADA.id, "two, while nobody is there")
        async with run_host(tmp_path, telegram, ADA.id, clock=AcceleratedClock()) as host:
            await telegram.wait_for_messages(2, ADA.id)
            await telegram.wait_until(lambda: len(telegram.acknowledged()) == 2)
            await ledger(host, lambda statuses: statuses == ["sent", "sent"])
    assert telegram.texts(ADA.id) == ["echo: one", "echo: two, while nobody is there"]


@pytest.mark.behaviour("DL-05")
async def test_an_answer_whose_receipt_was_lost_is_sent_at_most_twice(tmp_path: Path) -> None:
    telegram = TelegramSimulator()
    telegram.faults.queue.append(Fault.RESET_AFTER)
    async with telegram.running(), run_host(tmp_path, telegram, ADA.id, clock=AcceleratedClock()) as host:
        await telegram.write(ADA.id, "one")
        await ledger(host, lambda statuses: statuses == ["sent"])
        await telegram.write(ADA.id, "two")
        await ledger(host, lambda statuses: statuses == ["sent", "sent"])
    assert telegram.texts(ADA.id) == ["echo: one", "echo: one", "echo: two"]


@pytest.mark.behaviour("DL-05")
async def test_with_ask_an_ambiguous_send_is_held_and_later_messages_are_sent(tmp_path: Path) -> None:
    telegram = TelegramSimulator()
    telegram.faults.queue.append(Fault.RESET_AFTER)
    ask = scripted_settings(ambiguous="ask")
    async with telegram.running(), run_host(tmp_path, telegram, ADA.id, settings=ask, clock=AcceleratedClock()) as host:
        await telegram.write(ADA.id, "one")
        await ledger(host, lambda statuses: statuses == ["unknown"])
        await telegram.write(ADA.id, "two")
        await ledger(host, lambda statuses: statuses == ["unknown", "sent"])
    assert telegram.texts(ADA.id) == ["echo: one", "echo: two"]


@pytest.mark.behaviour("DL-08")
async def test_a_rate_limited_chat_does_not_delay_another(tmp_path: Path) -> None:
    telegram = TelegramSimulator()
    telegram.faults.limits[BOB.id] = (1, 36_000.0)
    async with telegram.running(), run_host(tmp_path, telegram, ADA.id, BOB.id, clock=AcceleratedClock()) as host:
        await telegram.write(BOB.id, "one", person=BOB)
        await telegram.wait_until(
            lambda: BOB.id not in telegram.faults.limits or telegram.faults.limits[BOB.id][0] == 0
        )
        await telegram.write(ADA.id, "two")
        await telegram.wait_for_messages(1, ADA.id)
        statuses = await ledger(host, lambda statuses: sorted(statuses) == ["pending", "sent"])
    assert len(statuses) == 2
    assert telegram.texts() == ["echo: two"]


@pytest.mark.behaviour("DL-04")
async def test_answers_wait_for_an_outage_to_end_and_are_sent_once(tmp_path: Path) -> None:
    telegram = TelegramSimulator()
    async with telegram.running(), run_host(tmp_path, telegram, ADA.id, clock=AcceleratedClock()) as host:
        await telegram.write(ADA.id, "one")
        await telegram.wait_until(lambda: len(telegram.acknowledged()) == 1)
        await telegram.start_outage()
        await telegram.write(ADA.id, "two")
        await asyncio.sleep(0.3)
        await telegram.end_outage()
        await ledger(host, lambda statuses: statuses == ["sent", "sent"])
    assert telegram.texts(ADA.id)[-1] == "echo: two"
    assert len(telegram.texts(ADA.id)) in (2, 3), "the first may have been under way when the line was cut"


@pytest.mark.behaviour("DL-09", "IN-06")
async def test_a_press_a_sent_file_and_a_received_file_work_end_to_end(tmp_path: Path) -> None:
    telegram, demo = TelegramSimulator(), scripted_settings(provider="demo")
    async with telegram.running(), run_host(tmp_path, telegram, ADA.id, settings=demo, clock=AcceleratedClock()):
        await telegram.write(ADA.id, "ask me")
        [card] = await telegram.wait_for_messages(1, ADA.id)
        await telegram.press(card, "Green")
        await telegram.wait_until(lambda: len(telegram.answered) == 1)
        [_, choice] = await telegram.wait_for_messages(2, ADA.id)
        await telegram.write(ADA.id, "send a file")
        [_, _, file] = await telegram.wait_for_messages(3, ADA.id)
        await telegram.write(ADA.id, "look at this", file=("notes.txt", b"twelve bytes"))
        [*_, about] = await telegram.wait_for_messages(4, ADA.id)
    assert "Green" in choice.text
    assert (file.file_name, bool(file.file_bytes)) == ("hello.txt", True)
    assert "look at this" in about.text
    [fetched] = tmp_path.glob("sessions/**/notes.txt")
    assert fetched.read_bytes() == b"twelve bytes"


async def test_the_bots_menu_offers_host_commands_where_they_may_be_typed(tmp_path: Path) -> None:
    telegram = TelegramSimulator()
    async with telegram.running(), run_host(tmp_path, telegram, ADA.id, GROUP, clock=AcceleratedClock()):
        await telegram.wait_until(lambda: len(telegram.menus) == 2)
    private, groups = telegram.menus["all_private_chats"], telegram.menus["all_group_chats"]
    registered = {*chat_commands(), *(one.name for one in host_commands().values() if one.is_in_help)}
    assert set(private) == registered
    assert set(private) - set(groups) == {
        one.name for one in host_commands().values() if one.is_in_help and one.is_direct_only
    }
    assert private["stop"] == chat_commands()["stop"].help
    assert private["pause"].endswith("(owners)")
    assert private["pair"].endswith("(owners): /pair telegram")


async def test_a_command_menu_that_telegram_refuses_delays_nothing(tmp_path: Path) -> None:
    telegram = TelegramSimulator()
    telegram.commands_taken = False
    async with telegram.running(), run_host(tmp_path, telegram, ADA.id, clock=AcceleratedClock()):
        await telegram.wait_until(lambda: "setMyCommands" in telegram.calls)
        await telegram.write(ADA.id, "hello")
        await telegram.wait_for_messages(1, ADA.id)
        telegram.commands_taken = True
        await telegram.wait_until(lambda: len(telegram.menus) == 2)

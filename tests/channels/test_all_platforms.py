"""All platforms at once, on one host with one agent: nothing is lost, duplicated or delayed."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from channels.whatsapp import WhatsAppChannel
from channels.whatsapp import read_settings as whatsapp_settings
from nanohost.channel_api import Channel
from nanohost.config.home import Home
from nanohost.db import agent_groups, deliveries, sessions, status_counts
from nanohost.db.database import Store
from nanohost.db.deliveries import Delivery, DeliveryQueueKey, DeliveryStatus
from nanohost.delivery.service import DeliveryService as LoneDelivery
from nanohost.mailbox.mailboxes import Mailboxes
from nanohost.model import SessionId
from nanohost.testing.manual_clock import START, ManualClock
from nanohost.testing.simulated_chat import find_simulator
from nanohost.testing.simulator import BOB, Fault, ScreenMessage, Simulator, simulate_outage
from nanohost.testing.simulator_suite import LONG_ANSWER
from nanohost.testing.simulators.discord import DiscordSimulator
from nanohost.testing.simulators.slack import SlackSimulator
from nanohost.testing.simulators.telegram import A_MINUTE_IN_A_GROUP, TelegramSimulator
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.payloads import ChatOut, EditOut, encode
from nanohost_protocol.times import from_text
from tests.channels.everywhere import AllPlatforms, bobs_chat, platform_names, read_by, run_host, write_agent_script
from tests.channels.examples import make_channel
from tests.crash.processes import HostProcess
from tests.support.fast_clock import AcceleratedClock
from tests.support.flow import RunningHost
from tests.support.invariants import assert_clean, wait_until
from tests.support.template_home import opened_store

OUTAGE_S = 20.0
BACK_WITHIN_S = 60.0
GROUP = "-1001234"
STEPS = 30
BURST = 8
"""Messages to each platform."""
KILLED_AFTER = 2
"""Answers on each platform."""
MAY_DOUBLE = "telegram"
"""It has no idempotency keys, and a bot cannot look up what it has sent."""
TELLS_BY_ITSELF = "whatsapp"
"""Its confirmation of a send comes on another connection; the channel waits for it within the attempt."""


async def ledger(flow: RunningHost, platform: str) -> list[str]:
    """The states of the deliveries to a platform, in order."""
    rows = await flow.host.store.fetch_all(
        "SELECT status FROM deliveries WHERE channel_type = ? ORDER BY created_at, seq", (platform,)
    )
    return [row["status"] for row in rows]


async def wait_for_ledger(flow: RunningHost, platform: str, *wanted: str) -> None:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while await ledger(flow, platform) != list(wanted):  # noqa: ASYNC110 - the ledger announces itself to nobody
            await asyncio.sleep(0.02)


async def lost_answers(flow: RunningHost) -> dict[str, int]:
    """The number of attempts that ended without a response, by platform."""
    rows = await flow.host.store.fetch_all(
        "SELECT d.channel_type AS name, count(*) AS count FROM delivery_attempts a JOIN deliveries d"
        " ON d.session_id = a.session_id AND d.seq = a.seq WHERE a.outcome = 'ambiguous' GROUP BY 1"
    )
    return {row["name"]: row["count"] for row in rows}


# --- an outage ---


@pytest.mark.behaviour("IN-01", "IN-02", "DL-04", "DL-07")
async def test_after_an_outage_of_all_platforms_every_message_is_sent_once_within_a_minute(tmp_path: Path) -> None:
    write_agent_script(tmp_path, {"match": "think", "actions": [{"until_file": "go"}, {"answer": "thought it over"}]})
    world = AllPlatforms()
    async with run_host(tmp_path, world) as flow:
        await world.send_to_all("before")
        await world.wait_until_read("echo: before")
        await world.send_to_all("think")
        await wait_for_turns(flow, len(world.platforms))
        async with simulate_outage(*world.platforms.values()):
            (tmp_path / "groups" / "main" / "go").touch()
            for text in ("during", "the outage"):
                await world.send_to_all(text)
            await asyncio.sleep(OUTAGE_S)
        texts = ["echo: before", "thought it over", "echo: during", "echo: the outage"]
        took = await world.wait_until_read(*texts, limit_s=BACK_WITHIN_S)
        await world.send_to_all("after")
        await world.wait_until_read("echo: after")
        await assert_clean(flow)
    print("\nback after", {name: f"{took_s:.1f} s" for name, took_s in took.items()})  # noqa: T201
    assert world.read_texts() == {name: [*texts, "echo: after"] for name in world.platforms}


async def wait_for_turns(flow: RunningHost, count: int) -> None:
    """Wait until so many turns run."""
    open_turns = "SELECT count(*) AS count FROM routes WHERE outcome = 'written'"
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            [row] = await flow.host.store.fetch_all(open_turns)
            if row["count"] >= 2 * count:
                return
            await asyncio.sleep(0.02)


# --- a platform that answers with errors only ---

TEN_MINUTES_S = 600.0
BACK_AFTER_S = 120.0
"""The longest pause is half a minute, but this clock runs on while a request is on its way."""
WHATSAPP_STATUS_S = 0.01
"""How long its channel waits for word of a message whose answer was lost; real seconds, for each attempt."""


@pytest.mark.case("a platform that answers 503 for ten minutes")
@pytest.mark.behaviour("DL-04", "DL-05", "DL-07")
@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.SERVER_ERROR])
@pytest.mark.parametrize("name", platform_names())
async def test_after_ten_minutes_of_server_errors_messages_are_sent_once_and_in_order(
    tmp_path: Path, name: str, fault: Fault
) -> None:
    clock, platform = ManualClock(), find_simulator(name)
    mailboxes = Mailboxes(Home(tmp_path).sessions, durable=False)
    key = (name, "default")
    async with opened_store(Home(tmp_path), durable=False) as store, mailboxes.opened(), platform.running():
        channel = channel_with_short_wait(platform, tmp_path)
        delivery = LoneDelivery(store=store, mailboxes=mailboxes, clock=clock, channels={key: channel})
        async with channel.connected(), delivery.opened():
            await platform.write(bobs_chat(platform), "hello", person=BOB)
            platform.faults.persistent = fault
            entries = [*((platform.dm, text) for text in ("one", "two", "three")), (bobs_chat(platform), "mine")]
            for number, (chat, text) in enumerate(entries):
                await enqueue_message(store, DeliveryQueueKey(await only_session(store), *key, chat), text, number)
            await advance_by(clock, TEN_MINUTES_S)
            assert platform.screen() == []
            [down] = (await status_counts.lists(store.reports, clock.now()))["platforms_down"]
            assert (down["channel"], down["messages"]) == (f"{name}:default", 4)
            since = clock.now() - from_text(str(down["since"]))
            assert timedelta(seconds=TEN_MINUTES_S - 30) <= since <= timedelta(seconds=TEN_MINUTES_S + 60)
            platform.faults.persistent = None
            back = clock.now()
            await pass_until_all_is_sent(clock, store)
            assert clock.now() - back <= timedelta(seconds=BACK_AFTER_S)
            assert (await status_counts.lists(store.reports, clock.now()))["platforms_down"] == []
    assert read_by(platform) == ["one", "two", "three"]
    assert read_by(platform, bobs_chat(platform)) == ["mine"]


def channel_with_short_wait(platform: Simulator, home: Path) -> Channel:
    """The real channel with a shorter wait for the platform's own confirmations."""
    if platform.name == TELLS_BY_ITSELF:
        return WhatsAppChannel(whatsapp_settings(platform.settings()), status_wait_s=WHATSAPP_STATUS_S)
    return make_channel(platform, home)


async def only_session(store: Store) -> SessionId:
    async with store.transaction() as tx:
        if found := await sessions.find_by_prefix(tx, ""):
            return found[0].id
        group = await agent_groups.add(tx, folder="main", name="main", provider=None, model=None, now=START)
        return await sessions.add(tx, agent_group=group.id, messaging_group=None, thread_id=None, now=START)


async def enqueue_message(store: Store, lane: DeliveryQueueKey, text: str, number: int) -> DeliveryQueueKey:
    """Enqueue a message of the agent."""
    entry = Delivery(
        queue=lane,
        seq=2 * number + 1,
        out_id=f"o{number}",
        kind="chat",
        thread_id=None,
        reply_to=None,
        content=encode(ChatOut(text=text)),
        status=DeliveryStatus.PENDING,
        created_at=START,
    )
    async with store.transaction() as tx:
        await deliveries.add(tx, entry)
    return lane


async def advance_by(clock: ManualClock, length_s: float) -> None:
    """Advance the clock pause by pause; the work in between takes real time only."""
    until = clock.monotonic() + length_s
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while clock.monotonic() < until:
            await clock.wait_for_sleeper()
            await clock.advance(min(clock.remaining_sleeps_s(), default=0.0))


async def pass_until_all_is_sent(clock: ManualClock, store: Store) -> None:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while await _open(store):
            await clock.advance(min(clock.remaining_sleeps_s(), default=0.0))


async def _open(store: Store) -> bool:
    rows = await store.fetch_all("SELECT status FROM deliveries")
    assert {row["status"] for row in rows} <= {"pending", "sending", "sent"}
    return any(row["status"] != "sent" for row in rows)


# --- a lost response ---


@pytest.mark.behaviour("DL-05")
async def test_a_send_with_a_lost_response_is_shown_once_where_the_platform_can_tell(tmp_path: Path) -> None:
    world = AllPlatforms()
    async with run_host(tmp_path, world, clock=AcceleratedClock()) as flow:
        for platform in world.platforms.values():
            platform.faults.queue.append(Fault.RESET_AFTER)
        for text in ("one", "two"):
            await world.send_to_all(text)
            await world.wait_until_read(f"echo: {text}")
        for name in world.platforms:
            await wait_for_ledger(flow, name, "sent", "sent")
        assert await lost_answers(flow) == dict.fromkeys(world.platforms.keys() - {TELLS_BY_ITSELF}, 1)
    once = {name: ["echo: one", "echo: two"] for name in world.platforms}
    seen = world.read_texts()
    assert seen.pop(MAY_DOUBLE) == ["echo: one", "echo: one", "echo: two"]
    assert {**seen, MAY_DOUBLE: once[MAY_DOUBLE]} == once
    assert not any(platform.faults.queue for platform in world.platforms.values())


@pytest.mark.behaviour("DL-05", "DL-03")
async def test_with_ask_only_an_unverifiable_send_is_held_until_the_operator_resends_it(tmp_path: Path) -> None:
    world = AllPlatforms()
    async with run_host(tmp_path, world, clock=AcceleratedClock(), ambiguous="ask") as flow:
        for platform in world.platforms.values():
            platform.faults.queue.append(Fault.RESET_AFTER)
        for text in ("one", "two"):
            await world.send_to_all(text)
            await world.wait_until_read(f"echo: {text}")
        for name in world.platforms:
            held = "unknown" if name == MAY_DOUBLE else "sent"
            await wait_for_ledger(flow, name, held, "sent")
        assert world.read_texts() == {name: ["echo: one", "echo: two"] for name in world.platforms}
        [unknown] = (await flow.run_command("status"))["deliveries_unknown"]
        await flow.run_command("deliveries resend", unknown["session"], unknown["seq"])
        await wait_for_ledger(flow, MAY_DOUBLE, "sent", "sent")
    assert world.read_texts()[MAY_DOUBLE] == ["echo: one", "echo: two", "echo: one"]


# --- pace ---


@pytest.mark.behaviour("DL-08", "DL-09")
async def test_thirty_edits_in_a_telegram_group_respect_its_rate_limit_and_end_with_the_last(tmp_path: Path) -> None:
    """Both the host's minute and the platform's take three seconds."""
    clock = AcceleratedClock(20)
    telegram = TelegramSimulator()
    telegram.enforces_pace, telegram.minute_s = True, 60 / clock.factor
    world = AllPlatforms(platforms={"telegram": telegram})
    async with run_host(tmp_path, world, ("telegram", GROUP), clock=clock) as flow:
        began = time.monotonic()
        await telegram.write(GROUP, "work", group=True, mention=True)
        await telegram.wait_for_messages(1, GROUP)
        lane = await progress_lane(flow)
        for step in range(1, STEPS + 1):
            await progress(flow, lane, step)
            await asyncio.sleep(1.2 / clock.factor)
        last = f"step {STEPS} of {STEPS}"
        await telegram.wait_until(lambda: telegram.texts(GROUP) == [last])
        took = time.monotonic() - began
        rows = await settled_edits(flow)
    [shown] = telegram.screen(GROUP)
    print(f"\n{shown.edit_count} edits of {STEPS} in {took * clock.factor:.0f} s, {telegram.too_many} refused")  # noqa: T201
    assert A_MINUTE_IN_A_GROUP - 5 <= shown.edit_count < STEPS, "as many as the pace allows, and no more"
    assert telegram.too_many <= 1, "the two clocks are not quite the same"
    assert sum(row["status"] == "sent" for row in rows) == shown.edit_count
    assert {row["reason"] for row in rows if row["status"] != "sent"} == {"superseded"}


async def settled_edits(flow: RunningHost) -> list[sqlite3.Row]:
    """The ledger's rows of all edits, once none is left to send."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while {"pending", "sending"} & set(await ledger(flow, "telegram")):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return await flow.host.store.fetch_all("SELECT status, reason FROM deliveries WHERE kind = 'edit'")


async def progress_lane(flow: RunningHost) -> DeliveryQueueKey:
    [session] = await flow.sessions()
    return DeliveryQueueKey(session.id, "telegram", "default", GROUP)


async def progress(flow: RunningHost, lane: DeliveryQueueKey, step: int) -> None:
    """The agent changes its first message."""
    [first] = await flow.host.store.fetch_all("SELECT min(seq) AS seq FROM deliveries WHERE kind = 'chat'")
    edit = Delivery(
        queue=lane,
        seq=-1_000_000 + 2 * step,
        out_id=f"step-{step}",
        kind="edit",
        thread_id=None,
        reply_to=None,
        content=encode(EditOut(message=first["seq"], text=f"step {step} of {STEPS}")),
        status=DeliveryStatus.PENDING,
        created_at=flow.host.clock.now(),
    )
    async with flow.host.store.transaction() as tx:
        await deliveries.add(tx, edit)


@pytest.mark.behaviour("DL-07", "DL-08")
async def test_a_rate_limited_chat_does_not_delay_others_on_its_platform(tmp_path: Path) -> None:
    world = AllPlatforms()
    async with run_host(tmp_path, world, clock=AcceleratedClock()):
        await world.send_to_all("warm")
        await world.wait_until_read("echo: warm")
        for platform in world.platforms.values():
            platform.faults.limits[bobs_chat(platform)] = (1, 36_000.0)
            await platform.write(bobs_chat(platform), "mine", person=BOB)
        await asyncio.gather(*map(_until_limited, world.platforms.values()))
        await world.send_to_all("and mine?")
        took = await world.wait_until_read("echo: and mine?")
        assert [name for name, one in world.platforms.items() if read_by(one, bobs_chat(one))] == []
    print("\nbeside a 429", {name: f"{took_s:.2f} s" for name, took_s in took.items()})  # noqa: T201
    assert max(took.values()) < scaled_timeout(HANG_TIMEOUT_S) / 2


async def _until_limited(platform: Simulator) -> None:
    await wait_until(lambda: platform.faults.limits[bobs_chat(platform)][0] == 0)


# --- a long answer ---


@pytest.mark.behaviour("DL-06", "DL-12")
async def test_a_long_mixed_answer_arrives_complete_and_in_order_on_every_platform_and_pings_nobody(
    tmp_path: Path,
) -> None:
    write_agent_script(tmp_path, {"match": "report", "actions": [{"answer": LONG_ANSWER}]})
    assert len(LONG_ANSWER) > 11_000
    world = AllPlatforms()
    async with run_host(tmp_path, world, clock=AcceleratedClock()):
        await world.send_to_all("report")
        await asyncio.gather(*(_until_ended(one) for one in world.platforms.values()))
    for name, platform in world.platforms.items():
        shown = platform.screen(platform.dm)
        text = "\n".join(read_by(platform))
        assert re.findall(r"\bw\d{4}\b", text) == [f"w{number:04}" for number in range(1, 148)], name
        for word in ("ordinary", "plain"):
            assert text.count(word) == LONG_ANSWER.count(word), (name, word)
        assert frozenset().union(*(one.notified for one in shown)) == frozenset(), name
        assert words_in_code(platform, shown) == IN_BLOCKS, name
    print("\nparts", {name: len(one.screen(one.dm)) for name, one in world.platforms.items()})  # noqa: T201


async def _until_ended(platform: Simulator) -> None:
    await platform.wait_until(lambda: any("w0147" in one for one in read_by(platform)))


IN_BLOCKS = [f"w{number:04}" for number in [*range(9, 60), *range(62, 110), 145, 146]]
"""The numbered words of the long answer's three blocks of code."""
IN_TABLE = {"w0007", "w0008"}
"""Some platforms have no tables: these are seen as code."""


def words_in_code(platform: Simulator, shown: Sequence[ScreenMessage]) -> list[str]:
    """The numbered words that a person sees in blocks of code, by what came over the wire."""
    block = r"<pre>.*?</pre>" if platform.name == "telegram" else r"^```[^\n]*\n.*?\n```$"
    found = []
    for one in shown:
        raw = one.raw
        if isinstance(platform, SlackSimulator):
            raw = "\n".join(str(each.get("text")) for each in platform.blocks(one))
        for code in re.findall(block, raw, re.DOTALL | re.MULTILINE):
            found += re.findall(r"\bw\d{4}\b", code)
    return [word for word in found if word not in IN_TABLE]


# --- a kill ---


@pytest.mark.behaviour("IN-01", "IN-02", "DL-02", "DL-05")
async def test_a_host_killed_during_a_burst_on_all_platforms_answers_every_message_once(tmp_path: Path) -> None:
    world = AllPlatforms()
    async with world.running(), killable_host(tmp_path, world) as host:
        host.start()
        await wait_until(lambda: host.is_ready() and _is_listened_to(world))
        await world.send_to_all("warm")
        await world.wait_until_read("echo: warm")
        for number in range(1, BURST + 1):
            await world.send_to_all(f"m{number}")
        await asyncio.gather(*(one.wait_for_messages(1 + KILLED_AFTER, one.dm) for one in world.platforms.values()))
        host.kill()
        await world.send_to_all("to nobody")
        host.start()
        answers = ["echo: warm", *(f"echo: m{number}" for number in range(1, BURST + 1)), "echo: to nobody"]
        took = await world.wait_until_read(*answers, limit_s=BACK_WITHIN_S)
        await asyncio.to_thread(host.stop)
        seen = world.read_texts()
    print("\nafter the kill", {name: f"{took_s:.1f} s" for name, took_s in took.items()})  # noqa: T201
    extra = len(seen[MAY_DOUBLE]) - len(answers)
    assert 0 <= extra <= 1, "one send may have been cut off"
    assert list(dict.fromkeys(seen.pop(MAY_DOUBLE))) == answers
    assert seen == dict.fromkeys(seen, answers)


def _is_listened_to(world: AllPlatforms) -> bool:
    """Discord keeps no messages for a bot that never connected."""
    return all(one.is_listened_to for one in world.platforms.values() if isinstance(one, DiscordSimulator))


@asynccontextmanager
async def killable_host(root: Path, world: AllPlatforms) -> AsyncIterator[HostProcess]:
    """`nanohost run` as an operator set it up: the file, and a wiring for each platform."""
    host = HostProcess(root, 0, {})
    tables = {"host": {"timezone": "UTC", "provider": "scripted", "runtime": "process"}}
    tables |= {f"channels.{name}": dict(one.settings()) for name, one in world.platforms.items()}
    (root / "nanohost.toml").write_text("\n".join(_table(name, table) for name, table in tables.items()))
    try:
        await _type(host, "agents", "create", "main")
        for name, one in world.platforms.items():
            place = ("--channel", name, "--chat", one.dm)
            await _type(host, "wirings", "create", *place, "--group", "main", "--unknown", "public")
        yield host
    finally:
        await asyncio.to_thread(host.cleanup)


async def _type(host: HostProcess, *words: str) -> None:
    done = await asyncio.to_thread(host.command, *words)
    assert done.returncode == 0, done.stderr


def _table(name: str, values: Mapping[str, str]) -> str:
    return "\n".join([f"[{name}]", *(f'{key} = "{value}"' for key, value in values.items()), ""])


def test_all_four_platforms_are_tested() -> None:
    assert {"telegram", "slack", "discord", "whatsapp"} <= set(platform_names())

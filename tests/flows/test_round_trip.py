"""A message in, an agent in its own container, an answer out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from nanohost.channel_api import InboundEvent, Sender
from nanohost.db import events
from nanohost.db.database import Transaction
from nanohost.testing.fake_channel import PERSON
from tests.flows.host_fixture import HostTestEnv

MEGABYTE = 1024 * 1024


@pytest.mark.behaviour("DL-01", "RU-07")
async def test_a_message_is_answered_and_the_receipt_is_kept(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await flow.wire()
        await host_env.fake.person_writes("hello", message_id="m-1")
        [answer] = await host_env.fake.wait_for_sent(1)
    assert (answer.text, answer.reply_to) == ("echo: hello", "m-1")
    async with host_env.run_host() as flow:
        [row] = await flow.host.store.fetch_all("SELECT status, attempts, receipt FROM deliveries")
    assert tuple(row) == ("sent", 1, '["fake-1"]')


@pytest.mark.behaviour("IN-01")
async def test_an_event_is_acknowledged_only_after_it_is_committed(
    host_env_with_events: HostTestEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with host_env_with_events.run_host(should_verify_clean=False) as flow:
        await flow.wire()

        async def full_disk(tx: Transaction, *_: object, **__: object) -> bool:
            raise OSError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(events, "add", full_disk)
            with pytest.raises(OSError, match="no space"):
                await host_env_with_events.fake.person_writes("lost?", message_id="m-1")
        assert host_env_with_events.fake.acknowledged == []
        await host_env_with_events.fake.person_writes("lost?", message_id="m-1")
        # A new host, before the old one could do anything: acknowledged events are there.
        rows = await flow.host.store.fetch_all("SELECT platform_message_id FROM inbound_events")
    assert [row[0] for row in rows] == host_env_with_events.fake.acknowledged == ["m-1"]


@pytest.mark.behaviour("IN-02")
async def test_the_same_event_twice_is_answered_once(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await flow.wire()
        both = await asyncio.gather(*(host_env.fake.person_writes("hello", message_id="m-1") for _ in range(2)))
        await host_env.fake.person_writes("after", message_id="m-2")
        await host_env.fake.wait_for_sent(2)
    assert sorted(accepted.new for accepted in both) == [False, True]
    async with host_env.run_host() as flow:
        again = await host_env.fake.person_writes("hello", message_id="m-1")
    assert not again.new
    assert flow.texts() == ["echo: hello", "echo: after"]


@pytest.mark.behaviour("IN-07", "DL-07")
async def test_the_order_of_a_chat_is_kept(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await flow.wire()
        for number in range(10):
            await host_env.fake.person_writes(f"{number}")
        await host_env.fake.wait_for_sent(10)
    assert flow.texts() == [f"echo: {number}" for number in range(10)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\ud800b\x00c", "echo: a?bc"), ("x" * MEGABYTE, "echo: xxx")],
    ids=["half a character", "a megabyte"],
)
async def test_any_text_of_a_person_is_answered(host_env_with_events: HostTestEnv, text: str, shown: str) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes(text)
        [answer] = await host_env_with_events.fake.wait_for_sent(1)
    assert answer.text.startswith(shown)


@pytest.mark.parametrize("field", ["platform_id", "platform_message_id", "thread_id", "handle", "refers_to"])
async def test_an_event_with_an_invalid_id_is_dropped_on_record(host_env_with_events: HostTestEnv, field: str) -> None:
    bad = "bad\ud800"
    ids = {"platform_id": "c1", "platform_message_id": "m-bad", "thread_id": None, "refers_to": None} | {field: bad}
    handle = ids.pop("handle", "u1")
    assert handle is not None
    event = InboundEvent(sender=Sender(handle=handle, name="Eve"), text="hi", sent_at=datetime.now(UTC), **ids)  # type: ignore[arg-type]
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        assert (await host_env_with_events.fake.emit_event(event)).new
        await host_env_with_events.fake.person_writes("hello", sender=PERSON)
        await host_env_with_events.fake.wait_for_sent(1)
        rows = await flow.host.store.fetch_all("SELECT reason FROM inbound_events WHERE status = 'dropped'")
    assert len(rows) == 1


@pytest.mark.behaviour("SE-01")
async def test_fifty_simultaneous_messages_to_a_new_session_start_one_container(host_env: HostTestEnv) -> None:
    runtime = host_env.make_runtime()
    async with host_env.run_host(runtime=runtime) as flow:
        await flow.wire()
        await asyncio.gather(*(host_env.fake.person_writes(f"{number}") for number in range(50)))
        await host_env.fake.wait_for_sent(50)
        assert len(await flow.containers()) == 1
    assert len(runtime.started) == 1
    assert sorted(flow.texts()) == sorted(f"echo: {number}" for number in range(50))

"""Which sessions a message reaches: threads, direct messages, several agents in one chat, engagement."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanohost.channel_api import Capabilities
from nanohost.model import EngageMode, SessionMode
from nanohost.testing.fake_channel import FakeChannel
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import RunningHost

SAY_NAME = {
    folder: [{"match": "", "actions": [{"answer": f"{folder}: {{text}}"}]}] for folder in ("main", "one", "two")
}


def corrupt_database(path: Path) -> bytes:
    """Corrupt a database; returns its content."""
    was = path.read_bytes()
    path.write_bytes(b"this is no database" * 500)
    return was


async def outcomes(flow: RunningHost) -> list[str]:
    return [
        row[0] for row in await flow.host.store.fetch_all("SELECT outcome FROM routes ORDER BY event_id, wiring_id")
    ]


@pytest.mark.behaviour("RT-01", "RT-02", "RU-07")
async def test_each_thread_of_a_group_is_a_separate_conversation(host_env: HostTestEnv) -> None:
    host_env.fake = FakeChannel(capabilities=Capabilities(threads=True))
    async with host_env.run_host() as flow:
        await flow.wire()
        for text, thread in (("a", "t1"), ("b", "t2"), ("c", "t1"), ("d", None)):
            await host_env.fake.person_writes(text, thread=thread, group=True)
        sent = await host_env.fake.wait_for_sent(4)
        found = [session.thread_id for session in await flow.sessions()]
    assert sorted(found, key=str) == [None, "t1", "t2"]
    assert {(one.text, one.address.thread_id) for one in sent} == {
        ("echo: a", "t1"),
        ("echo: b", "t2"),
        ("echo: c", "t1"),
        ("echo: d", None),
    }


@pytest.mark.behaviour("RT-01", "RT-02", "RU-07")
async def test_a_direct_message_is_one_conversation_and_is_answered_in_its_thread(host_env: HostTestEnv) -> None:
    host_env.fake = FakeChannel(capabilities=Capabilities(threads=True))
    async with host_env.run_host() as flow:
        await flow.wire()
        for text, thread in (("a", "t1"), ("b", "t2")):
            await host_env.fake.person_writes(text, thread=thread)
        sent = await host_env.fake.wait_for_sent(2)
        assert len(await flow.sessions()) == 1
    assert [(one.text, one.address.thread_id) for one in sent] == [("echo: a", "t1"), ("echo: b", "t2")]


@pytest.mark.behaviour("RT-01")
async def test_threads_are_ignored_on_a_platform_without_them(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        for thread in ("t1", "t2"):
            await host_env_with_events.fake.person_writes("hi", thread=thread, group=True)
        sent = await host_env_with_events.fake.wait_for_sent(2)
        assert len(await flow.sessions()) == 1
    assert {one.address.thread_id for one in sent} == {None}


@pytest.mark.behaviour("RT-02", "RU-06")
async def test_chats_that_share_a_session_are_each_answered_in_their_chat(host_env: HostTestEnv) -> None:
    script = [{"match": "tell the other", "actions": [{"text": '<message to="c2">from c1</message>'}]}]
    async with host_env.run_host() as flow:
        for chat in ("c1", "c2"):
            await flow.wire(chat, session=SessionMode.AGENT_SHARED, script=script)
            await host_env.fake.person_writes(f"here is {chat}", chat=chat)
        await host_env.fake.wait_for_sent(2)
        assert (flow.texts("c1"), flow.texts("c2")) == (["echo: here is c1"], ["echo: here is c2"])
        await host_env.fake.person_writes("tell the other", chat="c1")
        await host_env.fake.wait_for_sent(3)
        assert len(await flow.sessions()) == 1
    assert flow.texts("c2")[1:] == ["from c1"]


@pytest.mark.behaviour("RU-06")
async def test_a_message_to_an_unknown_destination_is_dropped_and_the_rest_is_delivered(
    host_env_with_events: HostTestEnv,
) -> None:
    text = '<message to="nobody">lost</message><message to="c1">found</message><internal>secret</internal>'
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=[{"match": "", "actions": [{"text": text}]}])
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(1)
    assert flow.texts() == ["found"]


@pytest.mark.behaviour("RT-03")
async def test_two_agents_in_one_chat_both_answer(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        for folder in ("one", "two"):
            await flow.wire("c1", folder, script=SAY_NAME[folder])
        await host_env.fake.person_writes("hi")
        await host_env.fake.wait_for_sent(2)
        assert [len(await flow.sessions(folder)) for folder in ("one", "two")] == [1, 1]
    assert sorted(flow.texts()) == ["one: hi", "two: hi"]


@pytest.mark.behaviour("RT-03", "IN-03")
async def test_a_damaged_mailbox_delays_its_agent_only_and_is_written_once_repaired(
    host_env: HostTestEnv,
) -> None:
    async with host_env.run_host() as flow:
        for folder in ("one", "two"):
            await flow.wire("c1", folder, script=SAY_NAME[folder])
        await host_env.fake.person_writes("hi")
        await host_env.fake.wait_for_sent(2)
        inbound = flow.layout(await flow.session("two")).inbound_db
    was = corrupt_database(inbound)
    async with host_env.run_host() as flow:
        await host_env.fake.person_writes("there?")
        await host_env.fake.wait_for_sent(3)
        assert flow.texts()[2:] == ["one: there?"]
        await host_env.fake.person_writes("still?")
        await host_env.fake.wait_for_sent(4)
        [row, _] = await flow.host.store.fetch_all("SELECT reason FROM routes WHERE outcome = 'waiting'")
        assert "not a database" in row["reason"]
        inbound.write_bytes(was)
        await host_env.fake.wait_for_sent(6)
    assert [text for text in flow.texts() if text.startswith("two")] == ["two: hi", "two: there?", "two: still?"]


@pytest.mark.behaviour("RT-04", "RT-05")
async def test_a_pattern_selects_the_messages_an_agent_answers(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(pattern=r"^!\w")
        for text in ("hello", "!", "!go"):
            await host_env_with_events.fake.person_writes(text)
        await host_env_with_events.fake.wait_for_sent(1)
        assert await outcomes(flow) == ["not_engaged", "not_engaged", "written"]
    assert flow.texts() == ["echo: !go"]


@pytest.mark.behaviour("RT-04")
async def test_a_mention_is_needed_in_a_group_and_not_in_a_direct_message(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(engage=EngageMode.MENTION)
        await flow.wire("dm", "one", engage=EngageMode.MENTION)
        await host_env_with_events.fake.person_writes("chatter", group=True)
        await host_env_with_events.fake.person_writes("you there", group=True, mentions=True)
        await host_env_with_events.fake.person_writes("more chatter", group=True)
        await host_env_with_events.fake.person_writes("psst", chat="dm")
        await host_env_with_events.fake.wait_for_sent(2)
    assert sorted(flow.texts()) == ["echo: psst", "echo: you there"]


@pytest.mark.behaviour("RT-04")
async def test_a_sticky_mention_holds_for_its_thread_only(host_env_with_events: HostTestEnv) -> None:
    host_env_with_events.fake = FakeChannel(capabilities=Capabilities(threads=True))
    async with host_env_with_events.run_host() as flow:
        await flow.wire(engage=EngageMode.MENTION_STICKY)
        await host_env_with_events.fake.person_writes("before", thread="t1", group=True)
        await host_env_with_events.fake.person_writes("you", thread="t1", group=True, mentions=True)
        await host_env_with_events.fake.person_writes("go on", thread="t1", group=True)
        await host_env_with_events.fake.person_writes("elsewhere", thread="t2", group=True)
        await host_env_with_events.fake.wait_for_sent(2)
        assert await outcomes(flow) == ["not_engaged", "written", "written", "not_engaged"]
    assert flow.texts() == ["echo: you", "echo: go on"]

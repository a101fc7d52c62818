"""What people do besides writing reaches the agent: presses, files, reactions."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.channel_api import Attachment, Button, EventKind, InboundEvent
from nanohost.db import deliveries
from nanohost.db.deliveries import DeliveryQueueKey, DeliveryStatus
from nanohost.testing.fake_channel import PERSON, SentMessage
from nanohost.testing.full_channel import FullFeatureChannel
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.inbound import inbound_snapshot
from nanohost_protocol.payloads import ChatIn, QuestionOut, decode_in, encode
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import FAKE_CHANNEL, RunningHost, Script
from tests.support.invariants import wait_until


@pytest.fixture
def able(host_env_with_events: HostTestEnv) -> FullFeatureChannel:
    host_env_with_events.fake = able = FullFeatureChannel()
    return able


async def ask(flow: RunningHost, able: FullFeatureChannel) -> SentMessage:
    """Have the session send a question in a thread; returns it as people see it."""
    lane = DeliveryQueueKey((await flow.session()).id, *FAKE_CHANNEL, "c1")
    async with flow.host.store.transaction() as tx:
        entry = deliveries.Delivery(
            queue=lane,
            seq=-1_000_000,
            out_id="question",
            kind="question",
            thread_id="t7",
            reply_to=None,
            content=encode(QuestionOut(text="Which?", options=("Red", "Blue"))),
            status=DeliveryStatus.PENDING,
            created_at=flow.host.clock.now(),
        )
        await deliveries.add(tx, entry)
    return (await able.wait_for_sent(2))[-1]


async def outcomes(flow: RunningHost, count: int) -> list[tuple[str, str]]:
    """The outcomes of the presses, once so many are routed."""
    query = (
        "SELECT r.outcome, r.reason FROM routes r JOIN inbound_events e ON e.id = r.event_id"
        " WHERE e.event_kind = 'click' AND e.status = 'routed' ORDER BY e.id"
    )
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while len(rows := await flow.host.store.fetch_all(query)) < count:  # noqa: ASYNC110 - it announces itself to nobody
            await asyncio.sleep(0.01)
    return [(row["outcome"], row["reason"]) for row in rows]


@pytest.mark.behaviour("DL-09", "RT-04")
async def test_a_press_reaches_the_session_of_its_card_as_the_agents_own_label(
    host_env_with_events: HostTestEnv, able: FullFeatureChannel
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(pattern="hello")
        await able.person_writes("hello")
        await able.wait_for_sent(1)
        card = await ask(flow, able)
        assert [button.label for button in card.buttons] == ["Red", "Blue"]
        lying = Button(label="/stop", value=card.buttons[1].value)
        await able.person_presses(card, lying)
        *_, answer = await able.wait_for_sent(3)
        assert (answer.text, answer.address.thread_id) == ("echo: Blue", "t7")
        assert answer.reply_to == f"fake-{card.order}"


@pytest.mark.behaviour("RT-10")
async def test_a_press_on_an_unknown_button_is_recorded_and_reaches_no_session(
    host_env_with_events: HostTestEnv, able: FullFeatureChannel
) -> None:
    async with host_env_with_events.run_host() as flow:
        for chat in ("c1", "c2"):
            await flow.wire(chat, "main" if chat == "c1" else "other")
        await able.person_writes("hello")
        await able.wait_for_sent(1)
        card = await ask(flow, able)
        await able.person_presses(card, Button(label="Red", value="q:aaaaaaaaaaaaaaaaaaaa:1"))
        await able.person_presses(card, card.buttons[0], chat="c2")
        nowhere = ("not_engaged", "no card of an agent in this chat has such a button")
        assert await outcomes(flow, 2) == [nowhere, nowhere]
        assert len(able.sent) == 2


@pytest.mark.behaviour("IN-06")
async def test_an_attached_file_exists_when_the_agent_reads_of_it(
    host_env_with_events: HostTestEnv, able: FullFeatureChannel
) -> None:
    able.files = {"f1": b"hello"}
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await able.person_sends("see this", Attachment(ref="f1", name="notes.txt"), Attachment(ref="f2", name="b"))
        [answer] = await able.wait_for_sent(1)
        found = re.search(r"\[file: notes\.txt, 5 bytes, at (\S+)\]", answer.text)
        assert found is not None
        assert Path(found[1]).read_bytes() == b"hello"
        assert "[file: b could not be fetched: it is gone]" in answer.text


@pytest.mark.behaviour("IN-06", "IN-07")
async def test_order_is_kept_around_a_message_whose_file_is_slow(
    host_env_with_events: HostTestEnv, able: FullFeatureChannel
) -> None:
    able.files = {"f1": b"hello"}
    able.fetch_failures_left = 1
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await able.person_sends("first", Attachment(ref="f1", name="a"))
        await able.person_writes("second")
        answers = await able.wait_for_sent(2)
        assert [one.text.split("\n")[0] for one in answers] == ["echo: first", "echo: second"]


@pytest.mark.behaviour("RT-11")
async def test_edits_and_reactions_reach_the_agent_as_rows_about_the_message(
    host_env_with_events: HostTestEnv, able: FullFeatureChannel
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await able.person_writes("teh", message_id="m1")
        await able.wait_for_sent(1)
        event = InboundEvent(
            platform_id="c1",
            platform_message_id="m1:edited:7",
            sender=PERSON,
            text="the",
            sent_at=datetime.now(UTC),
            kind=EventKind.EDIT,
            refers_to="m1",
        )
        await able.emit_event(event)
        await able.emit_event(replace(event, platform_message_id="m1:👍", text="👍", kind=EventKind.REACTION))
        answers = await able.wait_for_sent(3)
        assert [one.reply_to for one in answers] == ["m1"] * 3, "what is answered is the message"
        with inbound_snapshot(flow.layout(await flow.session()).inbound_db) as box:
            rows = [decode_in(row.kind, row.content) for seq in (2, 4, 6, 8, 10) if (row := box.find_by_seq(seq))]
    said = [(row.event, row.text, row.refers_to) for row in rows if isinstance(row, ChatIn)]
    assert said == [("message", "teh", None), ("edit", "the", "m1"), ("reaction", "👍", "m1")]


@pytest.mark.behaviour("RT-11")
async def test_a_reaction_refers_by_number_to_the_message_of_a_person_or_the_agent(
    host_env_with_events: HostTestEnv, able: FullFeatureChannel
) -> None:
    shows: Script = [
        {"match": "👍", "actions": [{"answer": "{prompt}"}]},
        {"match": "", "actions": [{"answer": "hello"}]},
    ]
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=shows)
        await able.person_writes("hi", message_id="m1")
        await able.wait_for_sent(1)
        inbound_db = flow.layout(await flow.session()).inbound_db

        def told() -> bool:
            with inbound_snapshot(inbound_db) as box:
                return bool(box.find_out_ids("fake-1"))

        await wait_until(told)
        for number, about in enumerate(("m1", "fake-1"), 2):
            event = InboundEvent(
                platform_id="c1",
                platform_message_id=f"{about}:👍",
                sender=PERSON,
                text="👍",
                sent_at=datetime.now(UTC),
                kind=EventKind.REACTION,
                refers_to=about,
            )
            await able.emit_event(event)
            await able.wait_for_sent(number)
    prompts = [one.text for one in able.sent[1:]]
    assert [re.findall(r'about="(\d+)"', prompt) for prompt in prompts] == [["2"], ["3"]]


@pytest.mark.behaviour("DL-09", "DL-10")
async def test_an_agent_reports_progress_reacts_and_sends_a_file(
    host_env_with_events: HostTestEnv, able: FullFeatureChannel
) -> None:
    calls: list[tuple[str, dict[str, object]]] = [
        ("send_message", {"text": "working"}),
        ("edit_message", {"message": 3, "text": "half of it"}),
        ("edit_message", {"message": 3, "text": "all of it"}),
        ("react", {"message": 2, "emoji": "👍"}),
        ("send_file", {"path": "report.txt", "caption": "The report."}),
    ]
    tools: Script = [
        {"match": "", "actions": [{"tool": name, "arguments": arguments} for name, arguments in calls]},
    ]
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=tools)
        (flow.home.groups / "main" / "report.txt").write_text("all good")
        await able.person_writes("go", message_id="m1")
        await able.wait_for_edits("all of it")
        assert await able.wait_for_reactions(1) == [("m1", "👍")]
        progress, report = await able.wait_for_sent(2)
    assert progress.text == "all of it"
    assert (report.file_name, report.content, report.text) == ("report.txt", b"all good", "The report.")

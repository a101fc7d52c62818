"""Questions and answers: by a button, by typing, too late, two at once, and by people without access."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nanohost.channel_api import Capabilities, InboundEvent, Sender
from nanohost.db import destinations, messaging_groups, roles
from nanohost.maintenance.retention import Retention
from nanohost.model import EngageMode, Role, UnknownSender
from nanohost.testing.fake_channel import PERSON, FakeChannel, SentMessage
from nanohost.testing.full_channel import FullFeatureChannel
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.inbound import inbound_snapshot
from nanohost_protocol.payloads import ChatIn, decode_in
from nanohost_protocol.rows import InKind
from nanohost_protocol.times import to_text
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import FAKE_CHANNEL, RunningHost

pytestmark = pytest.mark.behaviour("AP-09")

BOB = Sender(handle="u2", name="Bob")
EVE = Sender(handle="u3", name="Eve")
COLOURS = {"question": "Which colour?", "options": ["Red", "Light blue"]}
ASKS = [{"match": "^ask", "actions": [{"tool": "ask_user_question", "arguments": COLOURS, "answer": "so: {result}"}]}]
ONLY_ASKS = [
    {"match": "^ask", "actions": [{"tool": "ask_user_question", "arguments": {**COLOURS, "wait_minutes": 0}}]},
]
ASKS_FREELY = [
    {
        "match": "^ask",
        "actions": [{"tool": "ask_user_question", "arguments": {"question": "What name?"}, "answer": "so: {result}"}],
    }
]


@pytest.fixture
def able(host_env_with_events: HostTestEnv) -> FullFeatureChannel:
    host_env_with_events.fake = able = FullFeatureChannel()
    return able


async def ask_question(fake: FakeChannel, after: int = 0) -> SentMessage:
    """Have the agent ask; returns the question as people see it."""
    await fake.person_writes("ask me")
    return (await fake.wait_for_sent(after + 1))[-1]


async def grant(flow: RunningHost, *senders: Sender) -> None:
    """Make these users members."""
    async with flow.host.store.transaction() as tx:
        for sender in senders:
            user = f"fake:{sender.handle}"
            await roles.grant(tx, user_id=user, role=Role.MEMBER, agent_group=None, now=flow.host.clock.now())


async def event_statuses(flow: RunningHost, count: int, kind: str = "click") -> list[tuple[str, str | None]]:
    """The statuses of so many events of a kind."""
    query = "SELECT status, reason FROM inbound_events WHERE event_kind = ? AND status != 'new' ORDER BY id"
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while len(rows := await flow.host.store.fetch_all(query, (kind,))) < count:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.01)
    return [(row["status"], row["reason"]) for row in rows]


async def answers(flow: RunningHost) -> list[ChatIn]:
    """The answers in the session's mailbox."""
    with inbound_snapshot(flow.layout(await flow.session()).inbound_db) as box:
        rows = [box.find_by_seq(number) for number in range(2, 20, 2)]
    said = [decode_in(row.kind, row.content) for row in rows if row is not None and row.kind is InKind.CHAT]
    return [one for one in said if isinstance(one, ChatIn) and one.answers is not None]


async def test_a_press_is_returned_to_the_asking_call_and_the_question_shows_the_answer(
    host_env_with_events: HostTestEnv, able: FullFeatureChannel
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ASKS)
        card = await ask_question(able)
        assert [button.label for button in card.buttons] == ["Red", "Light blue"]
        await able.person_presses(card, replace(card.buttons[1], label="lies"))
        *_, answer = await able.wait_for_sent(2)
        assert answer.text == 'so: <answer from="Ann" id="4">Light blue</answer>'
        await able.wait_for_edits("Which colour?\n\nAnswered by Ann: Light blue")
        assert able.sent[0].text == "Which colour?\n\nAnswered by Ann: Light blue"
        assert able.sent[0].buttons == ()


@pytest.mark.parametrize("typed", ["2", "2.", "#2", " light   BLUE "])
async def test_without_buttons_a_number_or_the_text_answers_without_a_mention(
    host_env_with_events: HostTestEnv, typed: str
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ASKS, engage=EngageMode.MENTION)
        await host_env_with_events.fake.person_writes("ask me", group=True, mentions=True)
        [question] = await host_env_with_events.fake.wait_for_sent(1)
        assert question.text == "From the agent `main`:\nWhich colour?\n1. Red\n2. Light blue"
        await host_env_with_events.fake.person_writes("chatter", group=True)
        await host_env_with_events.fake.person_writes(typed, group=True, sender=BOB)
        *_, answer = await host_env_with_events.fake.wait_for_sent(2)
        assert answer.text == 'so: <answer from="Bob" id="4">Light blue</answer>'
        assert len(host_env_with_events.fake.sent) == 2, "where messages cannot be changed nothing is said about it"


async def test_a_text_that_matches_no_choice_is_an_ordinary_message_and_the_question_stays_open(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ONLY_ASKS)
        await ask_question(host_env_with_events.fake)
        await host_env_with_events.fake.person_writes("3")
        await host_env_with_events.fake.person_writes("2")
        replies = await host_env_with_events.fake.wait_for_sent(3)
        assert [reply.text for reply in replies[1:]] == ["echo: 3", "echo: Light blue"]
        [answer] = await answers(flow)
        assert answer.text == "Light blue"


async def test_a_question_without_choices_is_answered_by_the_next_message(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ASKS_FREELY)
        await ask_question(host_env_with_events.fake)
        await host_env_with_events.fake.person_writes("Rex, I think")
        *_, answer = await host_env_with_events.fake.wait_for_sent(2)
        assert answer.text == 'so: <answer from="Ann" id="4">Rex, I think</answer>'


async def test_in_a_group_without_engagement_only_a_reply_or_mention_answers_in_free_text(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ASKS_FREELY, engage=EngageMode.MENTION)
        await host_env_with_events.fake.person_writes("ask me", group=True, mentions=True)
        [question] = await host_env_with_events.fake.wait_for_sent(1)
        await host_env_with_events.fake.person_writes("how was lunch", group=True)
        reply = InboundEvent(
            platform_id="c1",
            platform_message_id="r1",
            sender=BOB,
            text="Rex",
            sent_at=datetime.now(UTC),
            is_group=True,
            refers_to=f"fake-{question.order}",
        )
        await host_env_with_events.fake.emit_event(reply)
        *_, answer = await host_env_with_events.fake.wait_for_sent(2)
        assert answer.text == 'so: <answer from="Bob" id="4">Rex</answer>'


async def test_any_reply_to_the_question_answers_it(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ASKS)
        question = await ask_question(host_env_with_events.fake)
        reply = InboundEvent(
            platform_id="c1",
            platform_message_id="r1",
            sender=PERSON,
            text="neither of them",
            sent_at=datetime.now(UTC),
            refers_to=f"fake-{question.order}",
        )
        await host_env_with_events.fake.emit_event(reply)
        *_, answer = await host_env_with_events.fake.wait_for_sent(2)
        assert answer.text == 'so: <answer from="Ann" id="4">neither of them</answer>'


async def test_a_command_answers_no_question(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ASKS_FREELY)
        await ask_question(host_env_with_events.fake)
        await host_env_with_events.fake.person_writes("/stop")
        *_, stopped = await host_env_with_events.fake.wait_for_sent(2)
        assert "topped" in stopped.text
        assert await answers(flow) == []


async def test_an_answer_after_the_turn_is_a_message_that_wakes_the_agent(host_env: HostTestEnv) -> None:
    async with host_env.run_host({"idle_timeout_s": 0.2}) as flow:
        await flow.wire(script=ONLY_ASKS)
        await ask_question(host_env.fake)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while await flow.containers():  # noqa: ASYNC110 - a process ends and tells nobody here
                await asyncio.sleep(0.02)
    async with host_env.run_host() as flow:
        await host_env.fake.person_writes("1")
        *_, answer = await host_env.fake.wait_for_sent(2)
        assert answer.text == "echo: Red"
        assert len(await answers(flow)) == 1


async def test_of_two_simultaneous_presses_the_first_answers_and_the_second_is_notified_once(
    host_env_with_events: HostTestEnv, able: FullFeatureChannel
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ONLY_ASKS)
        card = await ask_question(able)
        red, blue = card.buttons
        async with asyncio.TaskGroup() as both:
            both.create_task(able.person_presses(card, red))
            both.create_task(able.person_presses(card, blue, sender=BOB))
        await able.person_presses(card, blue, sender=BOB)
        await able.person_presses(card, red)
        assert await event_statuses(flow, 4) == [("routed", None)] + 3 * [
            ("dropped", "the question is answered already")
        ]
        await able.wait_for_sent(3)
        assert sorted(flow.texts()) == [
            "Ann answered already: Red",
            "Which colour?\n\nAnswered by Ann: Red",
            "echo: Red",
        ]
        assert len(await answers(flow)) == 1


async def test_a_press_by_somebody_without_access_changes_nothing_and_is_notified_once(
    host_env_with_events: HostTestEnv, able: FullFeatureChannel
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ASKS, unknown=UnknownSender.STRICT)
        await grant(flow, PERSON)
        card = await ask_question(able)
        for _ in range(3):
            await able.person_presses(card, card.buttons[0], sender=EVE)
        await able.wait_for_sent(2)
        assert {status for status, _ in await event_statuses(flow, 3)} == {"dropped"}
        await able.person_presses(card, card.buttons[1])
        *_, answer = await able.wait_for_sent(3)
        assert answer.text == 'so: <answer from="Ann" id="4">Light blue</answer>'
        assert flow.texts().count("Only people who may talk to the agent here can answer this.") == 1


async def test_an_unknown_sender_who_types_a_choice_does_not_answer(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ONLY_ASKS, unknown=UnknownSender.STRICT)
        await grant(flow, PERSON)
        await ask_question(host_env_with_events.fake)
        await host_env_with_events.fake.person_writes("1", sender=EVE)
        await host_env_with_events.fake.person_writes("2")
        *_, answer = await host_env_with_events.fake.wait_for_sent(2)
        assert answer.text == "echo: Light blue"
        assert [one.sender for one in await answers(flow)] == ["Ann"]


async def test_a_forged_button_answers_no_question(host_env_with_events: HostTestEnv, able: FullFeatureChannel) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ONLY_ASKS)
        card = await ask_question(able)
        await able.person_presses(card, replace(card.buttons[0], value=card.buttons[0].value[:-1] + "7"))
        await event_statuses(flow, 1)
        assert await answers(flow) == []
        assert len(able.sent) == 1


async def test_clear_closes_open_questions(host_env_with_events: HostTestEnv, able: FullFeatureChannel) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ONLY_ASKS)
        card = await ask_question(able)
        await able.person_writes("/clear")
        await able.wait_for_sent(2)
        await able.person_presses(card, card.buttons[0])
        *_, told = await able.wait_for_sent(3)
        assert told.text == "Nobody waits for an answer to this any more."
        assert await answers(flow) == []


@pytest.mark.case("a question that the platform gives up on later")
@pytest.mark.behaviour("DL-16")
async def test_a_late_failure_of_a_question_ends_the_wait_for_its_answer(host_env: HostTestEnv) -> None:
    """As on WhatsApp outside of the 24-hour window, minutes after the send."""
    host_env.fake = FakeChannel(capabilities=Capabilities(fails_later=True))
    async with host_env.run_host() as flow:
        await flow.wire(script=ASKS)
        question = await ask_question(host_env.fake)
        await until(flow, "SELECT 1 FROM deliveries WHERE status = 'sent'")
        await flow.host.delivery.record_late_failure(
            FAKE_CHANNEL, key=question.key, platform_message_id=f"fake-{question.order}", reason="outside of the window"
        )
        *_, answer = await host_env.fake.wait_for_sent(2)
        assert "The question did not arrive, so nobody will answer it." in answer.text


@pytest.mark.behaviour("DL-03")
async def test_a_question_that_the_platform_refuses_is_not_waited_for(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ASKS)
        host_env_with_events.fake.should_refuse = True
        await host_env_with_events.fake.person_writes("ask me")
        await until(flow, "SELECT 1 FROM deliveries WHERE status = 'dead'")
        host_env_with_events.fake.should_refuse = False
        [answer] = await host_env_with_events.fake.wait_for_sent(1)
        assert "The question did not arrive, so nobody will answer it." in answer.text


async def until(flow: RunningHost, query: str) -> None:
    """Wait until the central database has such a row."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while not await flow.host.store.fetch_all(query):  # noqa: ASYNC110 - the database announces nothing
            await asyncio.sleep(0.01)


async def test_a_question_is_closed_after_a_week(host_env_with_events: HostTestEnv, able: FullFeatureChannel) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=ONLY_ASKS)
        card = await ask_question(able)
        upkeep = Retention(store=flow.host.store, mailboxes=flow.host.mailboxes, clock=flow.host.clock, keep_days=0)
        await upkeep.run_once()
        await _age(flow, timedelta(days=6, hours=23))
        await upkeep.run_once()
        assert await _statuses(flow) == ["open"]
        await _age(flow, timedelta(days=7, minutes=1))
        await upkeep.run_once()
        assert await _statuses(flow) == ["closed"]
        await able.person_writes("1")
        *_, answer = await able.wait_for_sent(2)
        assert answer.text == "echo: 1", "an ordinary message by now"
        await able.person_presses(card, card.buttons[0])
        await able.wait_for_sent(3)


async def test_a_question_to_another_chat_is_answered_there_and_returned_to_the_asker(
    host_env_with_events: HostTestEnv, able: FullFeatureChannel
) -> None:
    rule = {**COLOURS, "to": "boss"}
    script = [
        {"match": "^ask", "actions": [{"tool": "ask_user_question", "arguments": rule, "answer": "so: {result}"}]},
    ]
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=script)
        await destination(flow, "boss", "dm-boss", UnknownSender.STRICT)
        await grant(flow, BOB)
        await able.person_writes("ask me")
        [card] = await able.wait_for_sent(1)
        assert card.address.platform_id == "dm-boss"
        await able.person_presses(card, card.buttons[0], sender=EVE)
        await able.wait_for_sent(2)
        await able.person_presses(card, card.buttons[1], sender=BOB)
        *_, answer = await able.wait_for_sent(3)
        assert (answer.text, answer.address.platform_id) == (
            'so: <answer from="Bob" id="4">Light blue</answer>',
            "c1",
        )


async def test_an_answer_in_a_chat_of_other_agents_reaches_only_the_asking_agent(
    host_env_with_events: HostTestEnv,
) -> None:
    script = [{"match": "^ask", "actions": [{"tool": "ask_user_question", "arguments": {**COLOURS, "to": "boss"}}]}]
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=script)
        await flow.wire("dm-boss", "other")
        await destination(flow, "boss", "dm-boss", UnknownSender.PUBLIC)
        await host_env_with_events.fake.person_writes("ask me")
        await host_env_with_events.fake.wait_for_sent(1)
        await host_env_with_events.fake.person_writes("1", chat="dm-boss", sender=BOB)
        await host_env_with_events.fake.person_writes("1", chat="dm-boss", sender=BOB)
        await host_env_with_events.fake.wait_for_sent(2)
        assert flow.texts("dm-boss")[-1] == "echo: 1", "the second one is for the agent of that chat"
        assert len(await answers(flow)) == 1


async def destination(flow: RunningHost, name: str, chat: str, policy: UnknownSender) -> None:
    """Let the agents of `main` send to a chat under a name."""
    store, now = flow.host.store, flow.host.clock.now()
    found = await messaging_groups.find(store, channel_type=FAKE_CHANNEL[0], instance=FAKE_CHANNEL[1], platform_id=chat)
    async with store.transaction() as tx:
        place = found or await messaging_groups.add(
            tx,
            channel_type=FAKE_CHANNEL[0],
            instance=FAKE_CHANNEL[1],
            platform_id=chat,
            is_group=False,
            name=chat,
            unknown_sender=policy,
            now=now,
        )
        group = await flow.ensure_group()
        await destinations.add(
            tx, agent_group=group.id, name=name, messaging_group=place.id, created_by="local:test", now=now
        )
    await flow.host.addresses_changed(group.id)


async def _age(flow: RunningHost, by: timedelta) -> None:
    asked_at = to_text(flow.host.clock.now() - by)
    async with flow.host.store.transaction() as tx:
        await tx.execute("UPDATE questions SET asked_at = ?", (asked_at,))


async def _statuses(flow: RunningHost) -> list[str]:
    return [row["status"] for row in await flow.host.store.fetch_all("SELECT status FROM questions")]

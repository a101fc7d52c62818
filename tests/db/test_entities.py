"""The functions of each entity, on a real database."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nanohost.channel_api import EventKind, InboundEvent, Sender
from nanohost.db import (
    agent_groups,
    deliveries,
    events,
    host_messages,
    install,
    messaging_groups,
    model_calls,
    roles,
    routes,
    sessions,
    turn_failures,
    wirings,
)
from nanohost.db.database import Store
from nanohost.db.deliveries import AttemptOutcome, Delivery, DeliveryQueueKey, DeliveryStatus
from nanohost.db.events import ChatKey
from nanohost.db.routes import Route, RouteOutcome
from nanohost.db.turn_failures import TurnFailures
from nanohost.model import (
    AgentGroup,
    EngageMode,
    EventId,
    LeaseId,
    MessagingGroup,
    Role,
    SessionId,
    SessionMode,
    UnknownSender,
    Wiring,
)
from nanohost_protocol.rows import ErrorClass

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
CHAT = ChatKey("fake", "main", "c1")


async def an_agent(store: Store, folder: str = "main") -> AgentGroup:
    async with store.transaction() as tx:
        return await agent_groups.add(tx, folder=folder, name=folder, provider=None, model="m", now=NOON)


async def a_chat(store: Store, platform_id: str = "c1") -> MessagingGroup:
    async with store.transaction() as tx:
        return await messaging_groups.add(
            tx,
            channel_type="fake",
            instance="main",
            platform_id=platform_id,
            is_group=True,
            name="Chat",
            unknown_sender=UnknownSender.STRICT,
            now=NOON,
        )


async def a_wiring(store: Store, chat: MessagingGroup, agent: AgentGroup, *, priority: int = 0) -> Wiring:
    async with store.transaction() as tx:
        return await wirings.add(
            tx,
            messaging_group=chat.id,
            agent_group=agent.id,
            engage_mode=EngageMode.MENTION,
            engage_pattern="",
            session_mode=SessionMode.AGENT_SHARED,
            priority=priority,
            now=NOON,
        )


async def a_session(store: Store, folder: str = "main", thread: str | None = None) -> SessionId:
    agent = await agent_groups.find(store, folder) or await an_agent(store, folder)
    async with store.transaction() as tx:
        return await sessions.add(tx, agent_group=agent.id, messaging_group=None, thread_id=thread, now=NOON)


def an_event(message_id: str = "1", text: str = "hi") -> InboundEvent:
    return InboundEvent(
        platform_id="c1",
        platform_message_id=message_id,
        sender=Sender(handle="u1", name="Ada"),
        text=text,
        sent_at=NOON,
        kind=EventKind.EDIT,
        thread_id="7",
        is_group=True,
        mentions_bot=True,
        refers_to="0",
        chat_name="Chat",
    )


# --- groups, wirings, roles, install


async def test_an_agent_group_is_found_by_its_unique_folder(store: Store) -> None:
    agent = await an_agent(store)
    assert await agent_groups.find(store, "main") == agent == await agent_groups.get(store, agent.id)
    assert await agent_groups.find(store, "nobody") is None
    with pytest.raises(sqlite3.IntegrityError):
        await an_agent(store)
    second = await an_agent(store, "a")
    assert await agent_groups.list_all(store) == [second, agent]


async def test_a_chat_is_found_by_its_platform_id(store: Store) -> None:
    chat = await a_chat(store)
    found = await messaging_groups.find(store, channel_type="fake", instance="main", platform_id="c1")
    assert found == chat == await messaging_groups.get(store, chat.id)
    assert await messaging_groups.find(store, channel_type="fake", instance="other", platform_id="c1") is None
    with pytest.raises(sqlite3.IntegrityError):
        await a_chat(store)


async def test_chat_details_from_the_platform_are_stored(store: Store) -> None:
    chat = await a_chat(store)
    async with store.transaction() as tx:
        await messaging_groups.update_from_platform(tx, chat.id, is_group=False, name="New")
        await messaging_groups.set_unknown_sender(tx, chat.id, UnknownSender.PUBLIC)
    assert await messaging_groups.list_all(store) == [
        replace(chat, is_group=False, name="New", unknown_sender=UnknownSender.PUBLIC)
    ]


@pytest.mark.behaviour("RT-09")
async def test_wirings_are_evaluated_by_priority_then_by_age(store: Store) -> None:
    chat = await a_chat(store)
    late, first, second = [
        await a_wiring(store, chat, await an_agent(store, folder), priority=priority)
        for folder, priority in (("a", 9), ("b", 1), ("c", 1))
    ]
    assert await wirings.list_for_chat(store, chat.id) == [first, second, late]
    assert await wirings.list_all(store) == [first, second, late]
    assert await wirings.find(store, late.id) == late
    shared = await messaging_groups.list_for_session(store, agent_group=late.agent_group_id, messaging_group=None)
    assert [(one.group, one.given_name, one.has_moved) for one in shared] == [(chat, None, False)]
    with pytest.raises(sqlite3.IntegrityError):
        await a_wiring(store, chat, await agent_groups.get(store, late.agent_group_id))


async def test_a_wiring_is_deleted_with_its_dependent_rows(store: Store) -> None:
    chat = await a_chat(store)
    wiring = await a_wiring(store, chat, await an_agent(store))
    async with store.transaction() as tx:
        await events.add(tx, CHAT, an_event(), now=NOON)
        await routes.add(tx, Route(event_id=EventId(1), wiring_id=wiring.id, outcome=RouteOutcome.DENIED), now=NOON)
    async with store.transaction() as tx:
        assert await wirings.delete(tx, wiring.id) is True
        assert await wirings.delete(tx, wiring.id) is False
    assert await wirings.find(store, wiring.id) is None


@pytest.mark.behaviour("AC-02")
async def test_a_role_is_granted_and_revoked_once_each(store: Store) -> None:
    agent = await an_agent(store)
    async with store.transaction() as tx:
        for scope in (None, agent.id):
            assert await roles.grant(tx, user_id="fake:u", role=Role.ADMIN, agent_group=scope, now=NOON) is True
            assert await roles.grant(tx, user_id="fake:u", role=Role.ADMIN, agent_group=scope, now=NOON) is False
    assert {grant.agent_group_id for grant in await roles.list_for_user(store, "fake:u")} == {None, agent.id}
    async with store.transaction() as tx:
        assert await roles.revoke(tx, user_id="fake:u", role=Role.ADMIN, agent_group=None) is True
        assert await roles.revoke(tx, user_id="fake:u", role=Role.ADMIN, agent_group=None) is False
    assert [grant.agent_group_id for grant in await roles.list_all(store)] == [agent.id]


@pytest.mark.behaviour("AC-02")
async def test_an_owner_role_for_one_agent_group_is_refused(store: Store) -> None:
    agent = await an_agent(store)
    with pytest.raises(sqlite3.IntegrityError):
        async with store.transaction() as tx:
            await roles.grant(tx, user_id="fake:u", role=Role.OWNER, agent_group=agent.id, now=NOON)


async def test_people_who_may_decide_are_listed_without_members(store: Store) -> None:
    async with store.transaction() as tx:
        for user, role in (("fake:o", Role.OWNER), ("fake:a", Role.ADMIN), ("fake:m", Role.MEMBER)):
            await roles.grant(tx, user_id=user, role=role, agent_group=None, now=NOON)
    assert [grant.user_id for grant in await roles.list_deciders(store)] == ["fake:a", "fake:o"]
    assert len(await roles.list_all(store)) == 3


async def test_the_install_id_is_generated_once(store: Store) -> None:
    async with store.transaction() as tx:
        first = await install.get_or_create(tx, NOON)
    async with store.transaction() as tx:
        assert await install.get_or_create(tx, LATER) == first


# --- sessions


async def test_a_session_is_found_by_its_key_and_created_once(store: Store) -> None:
    agent, chat = await an_agent(store), await a_chat(store)
    async with store.transaction() as tx:
        made = [
            await sessions.add(tx, agent_group=agent.id, messaging_group=group, thread_id=thread, now=NOON)
            for group, thread in ((chat.id, None), (chat.id, "7"), (None, None))
        ]
    found = [
        await sessions.find_by_key(store, agent_group=agent.id, messaging_group=group, thread_id=thread)
        for group, thread in ((chat.id, None), (chat.id, "7"), (None, None), (chat.id, "8"))
    ]
    assert [session.id if session else None for session in found] == [*made, None]
    for group, thread in ((chat.id, None), (None, None)):
        with pytest.raises(sqlite3.IntegrityError):
            async with store.transaction() as tx:
                await sessions.add(tx, agent_group=agent.id, messaging_group=group, thread_id=thread, now=NOON)
    assert await sessions.find(store, SessionId("nobody")) is None
    assert len([one async for one in sessions.iter_all(store.reports)]) == 3


async def test_due_sessions_are_found_when_their_time_has_come(store: Store) -> None:
    now_due, later_due, idle = [await a_session(store, folder) for folder in "abc"]
    async with store.transaction() as tx:
        await sessions.make_due(tx, now_due, at=NOON, now=NOON)
        await sessions.make_due(tx, later_due, at=LATER, now=NOON)
    assert [session.id for session in await sessions.list_due(store, NOON)] == [now_due]
    assert await sessions.next_due(store, NOON) == LATER
    assert [session.id for session in await sessions.list_due(store, LATER)] == [now_due, later_due]
    assert await sessions.next_due(store, LATER) is None
    assert (await sessions.get(store, idle)).due_at is None


async def test_a_later_due_time_does_not_replace_an_earlier_one(store: Store) -> None:
    session = await a_session(store)
    async with store.transaction() as tx:
        await sessions.make_due(tx, session, at=NOON, now=NOON - timedelta(hours=1))
        await sessions.make_due(tx, session, at=LATER, now=NOON - timedelta(hours=1))
    assert (await sessions.get(store, session)).due_at == NOON


async def test_a_due_time_is_replaced_only_if_nobody_changed_it(store: Store) -> None:
    session = await a_session(store)
    async with store.transaction() as tx:
        assert await sessions.replace_due(tx, session, expected=NOON, due=None) is False
        assert await sessions.replace_due(tx, session, expected=None, due=NOON) is True
        assert await sessions.replace_due(tx, session, expected=None, due=LATER) is False
        assert await sessions.replace_due(tx, session, expected=NOON, due=LATER) is True
        await sessions.make_due(tx, session, at=NOON, now=NOON)
        assert await sessions.replace_due(tx, session, expected=LATER, due=None) is False
        assert await sessions.replace_due(tx, session, expected=NOON, due=None) is True
    assert (await sessions.get(store, session)).due_at is None


async def test_cursors_never_go_back_and_move_only_from_the_expected_position(store: Store) -> None:
    session = await a_session(store)
    for seen, cursor, moves in ((0, 5, True), (0, 7, False), (5, 3, True)):
        async with store.transaction() as tx:
            assert await sessions.advance_out_cursor(tx, session, expected=seen, cursor=cursor, now=LATER) is moves
            known = replace(await sessions.get(tx, session), ack_cursor=seen)
            moved = await sessions.advance_ack_cursor(tx, known, cursor=cursor, due=None, has_failures=False)
            assert moved is moves
    found = await sessions.get(store, session)
    assert (found.out_cursor, found.ack_cursor, found.last_active_at) == (5, 5, LATER)


async def test_acks_change_the_due_time_only_if_nobody_else_changed_it(store: Store) -> None:
    session = await a_session(store)
    seen = await sessions.get(store, session)
    async with store.transaction() as tx:
        assert await sessions.advance_ack_cursor(tx, seen, cursor=1, due=NOON, has_failures=False)
        seen = await sessions.get(tx, session)
        assert seen.due_at == NOON
        await sessions.make_due(tx, session, at=LATER, now=LATER)
        assert await sessions.advance_ack_cursor(tx, seen, cursor=2, due=None, has_failures=False)
    assert (await sessions.get(store, session)).due_at == LATER


async def test_acks_are_not_processed_if_a_failure_was_recorded_meanwhile(store: Store) -> None:
    session = await a_session(store)
    seen = await sessions.get(store, session)
    failures = TurnFailures(
        error_class=ErrorClass.OVERLOADED, sentence="It is down.", since=NOON, latest_at=NOON, count=1
    )
    async with store.transaction() as tx:
        await turn_failures.save(tx, session, failures)
        assert not await sessions.advance_ack_cursor(tx, seen, cursor=1, due=None, has_failures=False)
        assert await sessions.advance_ack_cursor(tx, seen, cursor=1, due=None, has_failures=True)


@pytest.mark.behaviour("SE-01")
async def test_only_the_holder_of_a_lease_may_change_it(store: Store) -> None:
    session = await a_session(store)
    old, new = LeaseId("old"), LeaseId("new")
    async with store.transaction() as tx:
        await sessions.set_lease(tx, session, old, "docker")
        await sessions.set_runtime_state(tx, session, old, {"container": "1"})
        await sessions.set_runtime_state(tx, session, new, {"container": "2"})
    assert [(found.lease, found.runtime_state) for found in await sessions.list_leased(store)] == [
        (old, {"container": "1"})
    ]
    async with store.transaction() as tx:
        await sessions.set_lease(tx, session, new, "process")
        assert await sessions.release_lease(tx, session, old) is False
        assert await sessions.release_lease(tx, session, new) is True
    assert await sessions.list_leased(store) == []
    assert (await sessions.get(store, session)).runtime is None


# --- events and routes


@pytest.mark.behaviour("IN-02")
async def test_an_event_is_stored_once_and_read_back_unchanged(store: Store) -> None:
    async with store.transaction() as tx:
        assert await events.add(tx, CHAT, an_event(), now=NOON) is True
        assert await events.add(tx, CHAT, an_event(text="again"), now=LATER) is False
    (stored,) = await events.list_new(store, CHAT, limit=10)
    assert (stored.chat, stored.event) == (CHAT, an_event())
    assert await events.get(store, stored.id) == replace(stored, may_be_answer=True)


async def test_an_event_that_violates_a_constraint_is_an_error_and_not_a_duplicate(store: Store) -> None:
    broken = replace(an_event(), sender=Sender(handle=None, name="Ada"))  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        async with store.transaction() as tx:
            await events.add(tx, CHAT, broken, now=NOON)


async def test_events_are_listed_by_chat_in_order_until_they_are_handled(store: Store) -> None:
    async with store.transaction() as tx:
        for number in range(3):
            await events.add(tx, CHAT, an_event(str(number)), now=NOON)
        await events.add(tx, CHAT, an_event("bot"), now=NOON, drop_reason="another bot wrote it")
        await events.add(tx, ChatKey("fake", "other", "c1"), an_event("0"), now=NOON)
    assert set(await events.list_chats_with_new(store)) == {CHAT, ChatKey("fake", "other", "c1")}
    waiting = await events.list_new(store, CHAT, limit=2)
    assert [stored.event.platform_message_id for stored in waiting] == ["0", "1"]
    async with store.transaction() as tx:
        await events.mark_routed(tx, [waiting[0].id])
        await events.mark_dropped(tx, waiting[1].id, "why not")
    assert [each.event.platform_message_id for each in await events.list_new(store, CHAT, limit=9)] == ["2"]


@pytest.mark.behaviour("RT-10")
async def test_routes_record_what_waits_and_why(store: Store) -> None:
    chat = await a_chat(store)
    wiring = await a_wiring(store, chat, await an_agent(store))
    session = await a_session(store)
    async with store.transaction() as tx:
        for number in range(3):
            await events.add(tx, CHAT, an_event(str(number)), now=NOON)
            route = Route(
                event_id=EventId(number + 1),
                wiring_id=wiring.id,
                outcome=RouteOutcome.WAITING,
                reason="full",
                session_id=session,
                message_id=f"m{number}",
            )
            await routes.add(tx, route, now=NOON)
            await routes.add(tx, route, now=NOON)
        await routes.set_waiting_reason(tx, session, "still full")
        before = await tx.fetch_one("SELECT total_changes() AS made")
        await routes.set_waiting_reason(tx, session, "still full")  # at each try, and there may be thousands
        assert await tx.fetch_one("SELECT total_changes() AS made") == before
        await routes.mark_written(tx, EventId(2), wiring.id, now=NOON)
    assert await routes.list_waiting_sessions(store) == [session]
    assert [one.event_id for one in await routes.list_waiting(store, session, limit=9)] == [1, 3]
    assert [one.event_id for one in await routes.list_waiting(store, session, limit=1)] == [1]
    kept = await store.fetch_all("SELECT outcome, reason FROM routes ORDER BY event_id")
    assert [tuple(row) for row in kept] == [("waiting", "still full"), ("written", ""), ("waiting", "still full")]


# --- deliveries and model calls


def a_delivery(session: SessionId, seq: int, *, channel: str = "fake") -> Delivery:
    return Delivery(
        queue=DeliveryQueueKey(session, channel, "main", "c1"),
        seq=seq,
        out_id=f"o{seq}",
        kind="chat",
        thread_id=None,
        reply_to="7",
        content="{}",
        status=DeliveryStatus.PENDING,
        created_at=NOON,
    )


@pytest.mark.behaviour("DL-02")
async def test_a_delivery_passes_through_its_states_and_keeps_its_attempts(store: Store) -> None:
    session = await a_session(store)
    delivery = a_delivery(session, 1)
    failed = AttemptOutcome(
        status=DeliveryStatus.PENDING, code="not_sent", reason="down", error="no route", next_attempt_at=LATER
    )
    sent = AttemptOutcome(status=DeliveryStatus.SENT, code="sent", receipt=("8", "9"))
    async with store.transaction() as tx:
        assert await deliveries.add(tx, delivery) is True
        assert await deliveries.add(tx, delivery) is False
    assert await deliveries.next_in_queue(store, delivery.queue, LATER) == delivery
    async with store.transaction() as tx:
        await deliveries.begin_attempt(tx, delivery, NOON)
    begun = await deliveries.next_in_queue(store, delivery.queue, LATER)
    assert begun is not None
    assert (begun.status, begun.attempts) == (DeliveryStatus.SENDING, 1)
    async with store.transaction() as tx:
        await deliveries.end_attempt(tx, delivery, failed, NOON)
        await deliveries.begin_attempt(tx, delivery, LATER)
        await deliveries.end_attempt(tx, delivery, sent, LATER)
    assert await deliveries.next_in_queue(store, delivery.queue, LATER) is None
    attempts = await store.fetch_all("SELECT number, outcome, error FROM delivery_attempts ORDER BY number")
    assert [tuple(row) for row in attempts] == [(1, "not_sent", "no route"), (2, "sent", None)]
    row = await store.fetch_one("SELECT status, receipt FROM deliveries")
    assert row is not None
    assert tuple(row) == ("sent", '["8", "9"]')


@pytest.mark.behaviour("DL-07")
async def test_a_delivery_queue_is_ordered_and_separate_from_others(store: Store) -> None:
    session = await a_session(store)
    async with store.transaction() as tx:
        for delivery in (a_delivery(session, 3), a_delivery(session, 1), a_delivery(session, 2, channel="other")):
            await deliveries.add(tx, delivery)
    assert len(await deliveries.list_open_queues(store)) == 2
    lane = DeliveryQueueKey(session, "fake", "main", "c1")
    following = await deliveries.next_in_queue(store, lane, NOON)
    assert following is not None
    assert (following.seq, following.is_last_in_queue) == (1, False)
    async with store.transaction() as tx:
        await deliveries.skip(tx, following, "not needed", NOON)
    following = await deliveries.next_in_queue(store, lane, NOON)
    assert following is not None
    assert (following.seq, following.is_last_in_queue) == (3, True)


@pytest.mark.behaviour("DL-07")
async def test_a_message_is_not_the_last_of_its_lane_while_another_one_there_is_for_later(store: Store) -> None:
    session = await a_session(store)
    async with store.transaction() as tx:
        await deliveries.add(tx, a_delivery(session, 1))
        await deliveries.add(tx, replace(a_delivery(session, 2), not_before=LATER))
    following = await deliveries.next_in_queue(store, DeliveryQueueKey(session, "fake", "main", "c1"), NOON)
    assert following is not None
    assert (following.seq, following.is_last_in_queue) == (1, False)


async def test_a_delivery_that_violates_a_constraint_is_an_error_and_not_a_duplicate(store: Store) -> None:
    broken = replace(a_delivery(await a_session(store), 1), status="lost")  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        async with store.transaction() as tx:
            await deliveries.add(tx, broken)


async def test_model_calls_are_summed(store: Store) -> None:
    session = await a_session(store)
    nothing = {"calls": 0, "tokens_in": 0, "tokens_out": 0, "cost_usd": 0.0, "unpriced": 0}
    assert await model_calls.totals(store.reports) == nothing
    for status, error, cost in ((200, None, 0.5), (0, "no answer", None)):
        async with store.transaction() as tx:
            await model_calls.add(
                tx,
                session=session,
                model="m",
                started_at=NOON,
                duration_ms=5,
                status=status,
                tokens_in=10,
                tokens_out=2,
                tokens_cached=0,
                tokens_cache_written=0,
                error=error,
                cost_usd=cost,
            )
    sums = {"calls": 2, "tokens_in": 20, "tokens_out": 4, "cost_usd": 0.5, "unpriced": 1}
    assert await model_calls.totals(store.reports) == sums


async def test_a_model_call_belongs_to_the_first_turn_that_ended_after_it_began(store: Store) -> None:
    """Of turns that are recorded together; a late call counts to the next turn, so that the sum is right."""
    session = await a_session(store)

    async def call(at: datetime, tokens: int) -> None:
        async with store.transaction() as tx:
            await model_calls.add(
                tx,
                session=session,
                model="m",
                started_at=at,
                duration_ms=1,
                status=200,
                tokens_in=tokens,
                tokens_out=0,
                tokens_cached=0,
                tokens_cache_written=0,
                error=None,
                cost_usd=tokens / 4,
            )

    async def settled(**ends: int) -> dict[str, float]:
        async with store.transaction() as tx:
            moments = {turn: NOON + timedelta(minutes=end) for turn, end in ends.items()}
            return {
                turn: spent.cost_usd
                for turn, spent in (await model_calls.assign_to_turns(tx, session, moments)).items()
            }

    for minute, tokens in ((1, 4), (2, 8), (6, 16), (12, 32)):
        await call(NOON + timedelta(minutes=minute), tokens)
    assert await settled(b=10, a=5) == {"a": 3, "b": 12}
    assert await settled(b=10, a=5) == {"a": 3, "b": 12}
    await call(NOON + timedelta(minutes=1), 64)
    assert await settled() == {}
    assert await settled(c=20) == {"c": 16}


@pytest.mark.parametrize("sql", [host_messages.BY_OUT_ID, deliveries.STATUS_OF])
async def test_a_sent_message_is_found_by_its_id_through_an_index(store: Store, sql: str) -> None:
    plan = [row["detail"] for row in await store.fetch_all(f"EXPLAIN QUERY PLAN {sql}", ("host", "o1"))]
    assert all("deliveries_by_out_id" in step for step in plan), plan

"""Retention of decisions and host messages: they are deleted with age, unless they are open or referred to."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest

from nanohost.db import approvals, audit, codes, dropped, host_messages, questions, rules
from nanohost.db.approvals import Approval, ApprovalStatus
from nanohost.db.audit import AuditOutcome
from nanohost.db.codes import CodePurpose
from nanohost.db.deliveries import Delivery
from nanohost.db.events import ChatKey
from nanohost.db.rules import RuleEffect
from nanohost.maintenance.retention import Retention
from nanohost.model import HOST_SESSION_ID, ApprovalId
from nanohost_protocol.payloads import CardOut, ChatOut, EditOut
from nanohost_protocol.rows import Origin
from tests.verify.healthy import HealthyHome

pytestmark = pytest.mark.behaviour("OP-02")

MONTHS_S = 90 * 86400.0
DM = Origin(channel_type="fake", instance="default", platform_id="dm")


async def tidy(bench: HealthyHome, *, keep_days: int = 30) -> None:
    await Retention(store=bench.store, mailboxes=bench.mailboxes, clock=bench.clock, keep_days=keep_days).run_once()


async def rows(bench: HealthyHome, what: str) -> list[sqlite3.Row]:
    return await bench.store.fetch_all(f"SELECT * FROM {what}")


async def send_host_message(
    bench: HealthyHome, name: str, *, about: int | None = None, settled: bool = True
) -> Delivery:
    """The host sends a message, or an edit of one."""
    what = ChatOut(text=name) if about is None else EditOut(message=about, text=name)
    async with bench.store.transaction() as tx:
        entry = await host_messages.enqueue(tx, DM, what, out_id=name, now=bench.clock.now())
        if settled:
            await tx.execute("UPDATE deliveries SET status = 'sent', attempts = 1 WHERE out_id = ?", (name,))
            await tx.execute(
                "INSERT INTO delivery_attempts (session_id, seq, number, started_at, ended_at, outcome)"
                " VALUES (?, ?, 1, '2026', '2026', 'sent')",
                (HOST_SESSION_ID, entry.seq),
            )
    return entry


async def add_approval(bench: HealthyHome, id: str, *, decided: bool = True) -> Delivery:
    """An approval with a sent card, and a refused press of somebody else."""
    now, approval = bench.clock.now(), ApprovalId(id)
    async with bench.store.transaction() as tx:
        await approvals.add(
            tx,
            Approval(
                id=approval,
                kind="sender",
                subject=id,
                agent_group_id=None,
                rendered_text="x",
                options=(),
                payload="{}",
                requested_by="fake:x",
                origin=None,
                session_id=None,
                seq=None,
                created_at=now,
                expires_at=now + timedelta(days=3),
                digest="d",
            ),
        )
        card = await host_messages.enqueue(tx, DM, CardOut(title=id, body="x"), out_id=id, now=now)
        await tx.execute("UPDATE deliveries SET status = 'dead' WHERE out_id = ?", (id,))
        await approvals.add_card(tx, approval, "fake:owner", seq=card.seq, problem=None, now=now)
        await approvals.count_unauthorized(tx, approval, "fake:other")
        if decided:
            await approvals.close(
                tx, approval, ApprovalStatus.DENIED, decided_by="fake:owner", choice=None, reason=None, now=now
            )
    return card


async def test_a_decided_approval_is_deleted_with_its_cards_and_notices(home_fixture: HealthyHome) -> None:
    await add_approval(home_fixture, "OLD")
    await home_fixture.clock.advance(MONTHS_S)
    await add_approval(home_fixture, "NEW")
    await tidy(home_fixture)
    assert [row["id"] for row in await rows(home_fixture, "approvals")] == ["NEW"]
    assert [row["approval_id"] for row in await rows(home_fixture, "approval_cards")] == ["NEW"]
    assert [row["approval_id"] for row in await rows(home_fixture, "unauthorized_decisions")] == ["NEW"]
    assert [
        row["out_id"] for row in await rows(home_fixture, f"deliveries WHERE session_id = '{HOST_SESSION_ID}'")
    ] == ["NEW"]
    assert await home_fixture.verify() == []


async def test_an_open_approval_is_kept_with_its_card_however_old_it_is(home_fixture: HealthyHome) -> None:
    card = await add_approval(home_fixture, "OPEN", decided=False)
    await send_host_message(home_fixture, "later")
    await home_fixture.clock.advance(MONTHS_S)
    await tidy(home_fixture)
    assert [row["id"] for row in await rows(home_fixture, "approvals")] == ["OPEN"]
    assert await host_messages.find(home_fixture.store, card.seq) is not None


async def test_an_approval_is_kept_while_its_action_is_not_done(home_fixture: HealthyHome) -> None:
    await add_approval(home_fixture, "YES")
    home_fixture.run_central_sql(
        "INSERT INTO actions"
        " (session_id, seq, out_id, name, arguments, requested_at, status, notified, created_at, approval_id)"
        f" VALUES ('{home_fixture.idle_session.id}', 99, 'a', 'x', '{{}}', '2026', 'pending', 0, '2026', 'YES')"
    )
    await home_fixture.clock.advance(MONTHS_S)
    await tidy(home_fixture)
    assert [row["id"] for row in await rows(home_fixture, "approvals")] == ["YES"]


async def test_host_messages_are_deleted_and_their_numbers_not_reused(home_fixture: HealthyHome) -> None:
    first = await send_host_message(home_fixture, "one")
    last = await send_host_message(home_fixture, "two")
    await home_fixture.clock.advance(MONTHS_S)
    await tidy(home_fixture)
    assert await host_messages.find(home_fixture.store, first.seq) is None
    assert (await send_host_message(home_fixture, "three")).seq > last.seq
    assert (
        await rows(home_fixture, f"delivery_attempts WHERE session_id = '{HOST_SESSION_ID}' AND seq = {first.seq}")
        == []
    )
    assert await home_fixture.verify() == []


async def test_host_messages_are_kept_for_thirty_days_however_short_the_retention(home_fixture: HealthyHome) -> None:
    await send_host_message(home_fixture, "one")
    await send_host_message(home_fixture, "two")
    await home_fixture.clock.advance(29 * 86400)
    await tidy(home_fixture, keep_days=1)
    assert len(await rows(home_fixture, f"deliveries WHERE session_id = '{HOST_SESSION_ID}'")) == 2


@pytest.mark.parametrize("status", ["pending", "sending", "unknown"])
async def test_a_host_message_is_kept_while_an_edit_in_its_chat_is_pending(
    home_fixture: HealthyHome, status: str
) -> None:
    first = await send_host_message(home_fixture, "one")
    edit = await send_host_message(home_fixture, "changed", about=first.seq, settled=False)
    await send_host_message(home_fixture, "two")
    home_fixture.run_central_sql(
        f"UPDATE deliveries SET status = '{status}' WHERE session_id = '{HOST_SESSION_ID}' AND seq = {edit.seq}"
    )
    await home_fixture.clock.advance(MONTHS_S)
    await tidy(home_fixture)
    assert await host_messages.find(home_fixture.store, first.seq) is not None


async def test_a_rule_is_deleted_long_after_its_end_and_its_number_is_not_reused(
    home_fixture: HealthyHome,
) -> None:
    made = []
    for _ in range(3):
        async with home_fixture.store.transaction() as tx:
            rule = await rules.add(
                tx,
                kind="sender",
                effect=RuleEffect.DENY,
                agent_group=None,
                subject=None,
                created_by="fake:owner",
                expires_at=None,
                now=home_fixture.clock.now(),
            )
            made.append(rule.id)
            if len(made) != 1:
                await rules.end(tx, rule.id, ended_by="fake:owner", now=home_fixture.clock.now())
    await home_fixture.clock.advance(MONTHS_S)
    await tidy(home_fixture)
    assert [row["id"] for row in await rows(home_fixture, "rules")] == [made[0], made[2]]


async def test_the_audit_log_is_kept_for_a_year_at_least(home_fixture: HealthyHome) -> None:
    for what in ("roles.create", "roles.delete"):
        async with home_fixture.store.transaction() as tx:
            await audit.record(tx, actor="host", action=what, outcome=AuditOutcome.DONE, now=home_fixture.clock.now())
    await home_fixture.clock.advance(365 * 86400)
    await tidy(home_fixture)
    assert len(await rows(home_fixture, "audit_log")) == 2
    await home_fixture.clock.advance(2 * 86400)
    await tidy(home_fixture, keep_days=400)
    assert len(await rows(home_fixture, "audit_log")) == 2
    await tidy(home_fixture)
    assert [row["action"] for row in await rows(home_fixture, "audit_log")] == ["roles.delete"], "the latest stays"


async def test_counts_of_dropped_messages_are_deleted_when_unchanged_for_long(home_fixture: HealthyHome) -> None:
    chat = ChatKey("fake", "default", "c")
    async with home_fixture.store.transaction() as tx:
        for number in range(450):
            await dropped.record(tx, chat, f"fake:{number}", "why", now=home_fixture.clock.now())
    await home_fixture.clock.advance(MONTHS_S)
    async with home_fixture.store.transaction() as tx:
        await dropped.record(tx, chat, "fake:7", "why", now=home_fixture.clock.now())
    await tidy(home_fixture)
    assert [(row["user_id"], row["count"]) for row in await rows(home_fixture, "dropped_messages")] == [("fake:7", 2)]


async def test_codes_and_guesses_are_deleted_after_a_day_even_without_a_new_request(
    home_fixture: HealthyHome,
) -> None:
    now = home_fixture.clock.now()
    async with home_fixture.store.transaction() as tx:
        await codes.add(
            tx,
            hash="h",
            purpose=CodePurpose.OWNER,
            channel_type=None,
            user_id=None,
            created_by="local:me",
            expires_at=now + timedelta(minutes=15),
            now=now,
        )
        await codes.record_guess(tx, "fake:x", now=now, lockout=timedelta(hours=1))
    await home_fixture.clock.advance(86400 / 2)
    await tidy(home_fixture)
    assert (len(await rows(home_fixture, "codes")), len(await rows(home_fixture, "code_guesses"))) == (1, 1)
    await home_fixture.clock.advance(86400)
    await tidy(home_fixture)
    assert (await rows(home_fixture, "codes"), await rows(home_fixture, "code_guesses")) == ([], [])


async def test_an_open_question_keeps_its_delivery(home_fixture: HealthyHome) -> None:
    [row] = await rows(home_fixture, f"deliveries WHERE session_id = '{home_fixture.idle_session.id}'")
    home_fixture.run_central_sql(
        "INSERT INTO questions (session_id, seq, out_id, channel_type, instance, platform_id, asked_at)"
        " SELECT session_id, seq, out_id, channel_type, instance, platform_id, changed_at FROM deliveries"
        f" WHERE session_id = '{home_fixture.idle_session.id}'"
    )
    await home_fixture.clock.advance(3 * 86400)
    await tidy(home_fixture, keep_days=1)
    assert await questions.find(home_fixture.store, home_fixture.idle_session.id, row["seq"]) is not None
    assert len(await rows(home_fixture, f"deliveries WHERE session_id = '{home_fixture.idle_session.id}'")) == 1
    await home_fixture.clock.advance(5 * 86400)
    await tidy(home_fixture, keep_days=1)
    assert await questions.find(home_fixture.store, home_fixture.idle_session.id, row["seq"]) is None
    assert await rows(home_fixture, f"deliveries WHERE session_id = '{home_fixture.idle_session.id}'") == []

"""Upkeep of what people decided and what the host said: it goes with age, and what is open, or refers, keeps it."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest

from nanohost.model import HOST, ApprovalId
from nanohost.store import approvals, audit, codes, dropped, host_messages, questions, rules
from nanohost.store.approvals import Approval, ApprovalStatus
from nanohost.store.audit import AuditOutcome
from nanohost.store.codes import Purpose
from nanohost.store.deliveries import Delivery
from nanohost.store.events import ChatKey
from nanohost.store.rules import RuleEffect
from nanohost.upkeep.upkeep import Upkeep
from nanohost_protocol.payloads import CardOut, ChatOut, EditOut
from nanohost_protocol.rows import Origin
from tests.verify.healthy import Bench

pytestmark = pytest.mark.behaviour("OP-02")

MONTHS_S = 90 * 86400.0
DM = Origin(channel_type="fake", instance="default", platform_id="dm")


async def tidy(bench: Bench, *, keep_days: int = 30) -> None:
    await Upkeep(store=bench.store, mailboxes=bench.mailboxes, clock=bench.clock, keep_days=keep_days).tidy()


async def rows(bench: Bench, what: str) -> list[sqlite3.Row]:
    return await bench.store.all(f"SELECT * FROM {what}")


async def said(bench: Bench, name: str, *, about: int | None = None, settled: bool = True) -> Delivery:
    """The host says something, or changes what it said, and it is sent."""
    what = ChatOut(text=name) if about is None else EditOut(message=about, text=name)
    async with bench.store.transaction() as tx:
        entry = await host_messages.say(tx, DM, what, out_id=name, now=bench.clock.now())
        if settled:
            await tx.run("UPDATE deliveries SET status = 'sent', attempts = 1 WHERE out_id = ?", (name,))
            await tx.run(
                "INSERT INTO delivery_attempts (session_id, seq, number, started_at, ended_at, outcome)"
                " VALUES (?, ?, 1, '2026', '2026', 'sent')",
                (HOST, entry.seq),
            )
    return entry


async def asked(bench: Bench, id: str, *, decided: bool = True) -> Delivery:
    """An approval whose card was sent, and that somebody else tried to decide."""
    now, approval = bench.clock.now(), ApprovalId(id)
    async with bench.store.transaction() as tx:
        await approvals.add(
            tx,
            Approval(
                id=approval,
                kind="sender",
                subject=id,
                agent_group_id=None,
                shown="x",
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
        card = await host_messages.say(tx, DM, CardOut(title=id, body="x"), out_id=id, now=now)
        await tx.run("UPDATE deliveries SET status = 'dead' WHERE out_id = ?", (id,))
        await approvals.add_card(tx, approval, "fake:owner", seq=card.seq, problem=None, now=now)
        await approvals.count_refusal(tx, approval, "fake:other")
        if decided:
            await approvals.close(
                tx, approval, ApprovalStatus.DENIED, by="fake:owner", choice=None, reason=None, now=now
            )
    return card


async def test_a_decided_approval_goes_with_its_cards_and_what_the_host_said_of_it(bench: Bench) -> None:
    await asked(bench, "OLD")
    await bench.clock.advance(MONTHS_S)
    await asked(bench, "NEW")
    await tidy(bench)
    assert [row["id"] for row in await rows(bench, "approvals")] == ["NEW"]
    assert [row["approval_id"] for row in await rows(bench, "approval_cards")] == ["NEW"]
    assert [row["approval_id"] for row in await rows(bench, "approval_refusals")] == ["NEW"]
    assert [row["out_id"] for row in await rows(bench, f"deliveries WHERE session_id = '{HOST}'")] == ["NEW"]
    assert await bench.verify() == []


async def test_an_open_approval_stays_with_its_card_however_old_it_is(bench: Bench) -> None:
    card = await asked(bench, "OPEN", decided=False)
    await said(bench, "later")
    await bench.clock.advance(MONTHS_S)
    await tidy(bench)
    assert [row["id"] for row in await rows(bench, "approvals")] == ["OPEN"]
    assert await host_messages.find(bench.store, card.seq) is not None


async def test_an_approval_stays_while_what_it_allowed_is_not_done(bench: Bench) -> None:
    await asked(bench, "YES")
    bench.central(
        "INSERT INTO actions"
        " (session_id, seq, out_id, name, arguments, asked_at, status, told, created_at, approval_id)"
        f" VALUES ('{bench.rest.id}', 99, 'a', 'x', '{{}}', '2026', 'pending', 0, '2026', 'YES')"
    )
    await bench.clock.advance(MONTHS_S)
    await tidy(bench)
    assert [row["id"] for row in await rows(bench, "approvals")] == ["YES"]


async def test_what_the_host_said_goes_and_its_numbers_never_come_again(bench: Bench) -> None:
    first = await said(bench, "one")
    last = await said(bench, "two")
    await bench.clock.advance(MONTHS_S)
    await tidy(bench)
    assert await host_messages.find(bench.store, first.seq) is None
    assert (await said(bench, "three")).seq > last.seq
    assert await rows(bench, f"delivery_attempts WHERE session_id = '{HOST}' AND seq = {first.seq}") == []
    assert await bench.verify() == []


async def test_what_the_host_said_is_there_for_thirty_days_however_little_is_kept(bench: Bench) -> None:
    await said(bench, "one")
    await said(bench, "two")
    await bench.clock.advance(29 * 86400)
    await tidy(bench, keep_days=1)
    assert len(await rows(bench, f"deliveries WHERE session_id = '{HOST}'")) == 2


@pytest.mark.parametrize("status", ["pending", "sending", "unknown"])
async def test_a_message_stays_while_something_in_its_chat_is_on_its_way_that_may_change_it(
    bench: Bench, status: str
) -> None:
    first = await said(bench, "one")
    edit = await said(bench, "changed", about=first.seq, settled=False)
    await said(bench, "two")
    bench.central(f"UPDATE deliveries SET status = '{status}' WHERE session_id = '{HOST}' AND seq = {edit.seq}")
    await bench.clock.advance(MONTHS_S)
    await tidy(bench)
    assert await host_messages.find(bench.store, first.seq) is not None


async def test_a_rule_goes_when_it_has_ended_long_ago_and_its_number_is_no_other_rules(bench: Bench) -> None:
    made = []
    for _ in range(3):
        async with bench.store.transaction() as tx:
            rule = await rules.add(
                tx,
                kind="sender",
                effect=RuleEffect.DENY,
                agent_group=None,
                subject=None,
                created_by="fake:owner",
                expires_at=None,
                now=bench.clock.now(),
            )
            made.append(rule.id)
            if len(made) != 1:
                await rules.end(tx, rule.id, by="fake:owner", now=bench.clock.now())
    await bench.clock.advance(MONTHS_S)
    await tidy(bench)
    assert [row["id"] for row in await rows(bench, "rules")] == [made[0], made[2]]


async def test_the_audit_log_is_kept_for_a_year_at_least(bench: Bench) -> None:
    for what in ("roles.create", "roles.delete"):
        async with bench.store.transaction() as tx:
            await audit.record(tx, who="host", what=what, outcome=AuditOutcome.DONE, now=bench.clock.now())
    await bench.clock.advance(365 * 86400)
    await tidy(bench)
    assert len(await rows(bench, "audit_log")) == 2
    await bench.clock.advance(2 * 86400)
    await tidy(bench, keep_days=400)
    assert len(await rows(bench, "audit_log")) == 2
    await tidy(bench)
    assert [row["what"] for row in await rows(bench, "audit_log")] == ["roles.delete"], "the latest stays"


async def test_counts_of_what_was_dropped_go_when_nothing_was_added_for_long(bench: Bench) -> None:
    chat = ChatKey("fake", "default", "c")
    async with bench.store.transaction() as tx:
        for number in range(450):
            await dropped.count(tx, chat, f"fake:{number}", "why", now=bench.clock.now())
    await bench.clock.advance(MONTHS_S)
    async with bench.store.transaction() as tx:
        await dropped.count(tx, chat, "fake:7", "why", now=bench.clock.now())
    await tidy(bench)
    assert [(row["user_id"], row["count"]) for row in await rows(bench, "dropped_messages")] == [("fake:7", 2)]


async def test_codes_and_guesses_go_after_a_day_also_when_nobody_asks_for_another_one(bench: Bench) -> None:
    now = bench.clock.now()
    async with bench.store.transaction() as tx:
        await codes.add(
            tx,
            hash="h",
            purpose=Purpose.OWNER,
            channel_type=None,
            user_id=None,
            created_by="local:me",
            expires_at=now + timedelta(minutes=15),
            now=now,
        )
        await codes.count_guess(tx, "fake:x", now=now, silence=timedelta(hours=1))
    await bench.clock.advance(86400 / 2)
    await tidy(bench)
    assert (len(await rows(bench, "codes")), len(await rows(bench, "code_guesses"))) == (1, 1)
    await bench.clock.advance(86400)
    await tidy(bench)
    assert (await rows(bench, "codes"), await rows(bench, "code_guesses")) == ([], [])


async def test_a_question_that_is_open_keeps_its_message(bench: Bench) -> None:
    [row] = await rows(bench, f"deliveries WHERE session_id = '{bench.rest.id}'")
    bench.central(
        "INSERT INTO questions (session_id, seq, out_id, channel_type, instance, platform_id, asked_at)"
        " SELECT session_id, seq, out_id, channel_type, instance, platform_id, changed_at FROM deliveries"
        f" WHERE session_id = '{bench.rest.id}'"
    )
    await bench.clock.advance(3 * 86400)
    await tidy(bench, keep_days=1)
    assert await questions.find(bench.store, bench.rest.id, row["seq"]) is not None
    assert len(await rows(bench, f"deliveries WHERE session_id = '{bench.rest.id}'")) == 1
    await bench.clock.advance(5 * 86400)
    await tidy(bench, keep_days=1)
    assert await questions.find(bench.store, bench.rest.id, row["seq"]) is None
    assert await rows(bench, f"deliveries WHERE session_id = '{bench.rest.id}'") == []

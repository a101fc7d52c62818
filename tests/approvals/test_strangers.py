"""An unknown sender writes, an approver is asked, and the decision takes effect once."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from nanohost.approvals.engine import MAX_UNKNOWN_SENDER_CARDS
from nanohost.approvals.kinds.sender import KIND as SENDER
from nanohost.approvals.requests import EVICTED_REASON, MAX_OPEN_PER_SENDER
from nanohost.channel_api import Sender
from nanohost.db import approvals, dropped, roles, rules, users
from nanohost.db.audit import latest
from nanohost.model import ApprovalId, Role, UnknownSender
from nanohost.testing.full_channel import FullFeatureChannel
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.rows import Origin
from tests.approvals.harness import BOB, CARL, OLGA, OLGA_DM, ApprovalsTestHost, make_press_event, run_approvals_host
from tests.support.flow import run_host
from tests.support.invariants import wait_until


@pytest.mark.behaviour("AP-01", "AP-02", "AP-04", "AP-10")
async def test_an_approved_sender_becomes_a_member_and_all_held_messages_are_answered(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello there")
        card = await here.card()
        assert card.address.platform_id == OLGA_DM
        for shown in ("Bob", "fake:bob", "hello there", "main", "/approve", "Until"):
            assert shown in card.text
        assert [one.label for one in card.buttons] == ["Let them in", "Refuse"]
        await here.write_message(BOB, "are you there?")
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_text("c1", "hello there")
        await here.wait_for_text("c1", "are you there?")
        await wait_until(lambda: len(here.fake.edits) == 1)
        [said] = [text for _, text in here.fake.edits]
        assert "Approved by `Olga`" in said
        assert not here.cards(), "the buttons are gone"
        grants = await roles.list_for_user(here.host.host.store, "fake:bob")
        assert [one.role for one in grants] == [Role.MEMBER]
        audits = {one.action for one in await latest(here.host.host.store.reports, limit=50)}
        assert {"approval.asked", "approval.approved", "roles.create"} <= audits


@pytest.mark.behaviour("AP-10", "AP-04")
async def test_a_denied_sender_stays_denied_and_nobody_is_asked_again(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        await here.press_button(OLGA, await here.card(), "Refuse")
        await here.wait_for_statuses("denied")
        for text in ("why not?", "hello?"):
            await here.write_message(BOB, text)
        await here.grant(CARL, Role.MEMBER)
        await here.write_message(CARL, "I may")
        await here.wait_for_text("c1", "I may")
        await here.wait_until_routed()
        assert len(await here.approvals()) == 1
        [rule] = await rules.list_all(here.host.host.store.reports, limit=10)
        assert (rule.effect, rule.subject, rule.uses) == ("deny", "fake:bob", 2)
        assert (
            sum(one.count for one in await dropped.latest(here.host.host.store.reports, limit=9, user="fake:bob")) == 3
        )
        assert "Denied by `Olga`" in here.fake.edits[0][1]


@pytest.mark.behaviour("AP-10")
async def test_a_denial_counts_for_every_linked_identity(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        await here.press_button(OLGA, await here.card(), "Refuse")
        await here.wait_for_statuses("denied")
        store = here.host.host.store
        async with store.transaction() as tx:
            await users.record_seen(tx, "fake:rob", name="Rob", now=here.host.host.clock.now())
            await users.link(tx, "fake:bob", "fake:rob")
        await here.write_message(Sender(handle="rob", name="Rob"), "it is me again")
        await here.grant(CARL, Role.MEMBER)
        await here.write_message(CARL, "and me")
        await here.wait_for_text("c1", "and me")
        assert len(await here.approvals()) == 1


@pytest.mark.behaviour("AP-10")
async def test_a_flood_of_one_sender_makes_one_card_holds_ten_messages_and_is_counted(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        for number in range(25):
            await here.write_message(BOB, f"message {number}")
        card = await here.card()
        await here.wait_until_routed()
        [row] = await here.host.host.store.fetch_all("SELECT count(*) AS held FROM routes WHERE outcome = 'held'")
        assert row["held"] == 10
        assert len(here.cards()) == len(await here.approvals()) == 1
        counted = await dropped.latest(here.host.host.store.reports, limit=9, user="fake:bob")
        assert sum(one.count for one in counted) == 15
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_text("c1", "message 9")


@pytest.mark.behaviour("AP-03")
async def test_a_press_of_somebody_who_may_not_decide_changes_nothing_and_is_answered_once(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
        for _ in range(3):
            await here.press_button(CARL, card, "Let them in")
        await here.wait_for_text(OLGA_DM, "not yours to decide")
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_text("c1", "hello")
        assert sum("not yours" in text for text in here.host.texts()) == 1
        [row] = await here.host.host.store.fetch_all("SELECT user_id, count FROM unauthorized_decisions")
        assert tuple(row) == ("fake:carl", 3)


@pytest.mark.behaviour("AP-03", "AP-05")
async def test_a_press_after_losing_the_role_decides_nothing(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
        await here.grant(CARL)
        await here.revoke(OLGA)
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_text(OLGA_DM, "not yours to decide")
        await here.wait_for_statuses("pending")


@pytest.mark.behaviour("AP-03", "AP-04")
async def test_a_press_refused_before_and_then_too_late_is_answered_once_as_too_late(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
        await here.grant(CARL)
        await here.revoke(OLGA)
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_text(OLGA_DM, "not yours to decide")
        await here.grant(OLGA)
        await here.press_button(CARL, card, "Refuse")
        await here.wait_for_statuses("denied")
        for _ in range(3):
            await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_text(OLGA_DM, "Denied already")
        await here.wait_until_routed()
        assert sum("Denied already" in text for text in here.host.texts(OLGA_DM)) == 1


@pytest.mark.behaviour("AP-04")
async def test_two_simultaneous_presses_have_one_effect_and_the_second_gets_the_decision(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.grant(CARL)
        await here.write_message(BOB, "hello")
        card = await here.card()
        await asyncio.gather(here.press_button(OLGA, card, "Let them in"), here.press_button(CARL, card, "Refuse"))
        said = await here.wait_for_text(card.address.platform_id, "already by")
        [approval] = await here.approvals()
        winner = {"fake:olga": "Olga", "fake:carl": "Carl"}[approval.decided_by or ""]
        assert f"`{winner}`" in said.text
        decisions = [
            one for one in await latest(here.host.host.store.reports, limit=50) if one.action.startswith("approval.")
        ]
        assert len(decisions) == 2, "it was asked, and decided once"


@pytest.mark.behaviour("AP-04")
async def test_a_repeated_press_has_no_second_effect(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
        for _ in range(3):
            await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_text("c1", "hello")
        await here.wait_for_text(OLGA_DM, "Approved already by")
        await wait_until(lambda: len(here.fake.edits) == 1)
        assert sum("already" in text for text in here.host.texts(OLGA_DM)) == 1
        assert sum("hello" in text for text in here.host.texts("c1")) == 1


@pytest.mark.behaviour("AP-03", "AP-04")
async def test_a_forged_press_or_one_from_another_chat_does_nothing(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
        value = card.buttons[0].value
        await here.fake.emit_event(make_press_event(value, chat="c1", who=OLGA))
        await here.fake.emit_event(make_press_event(value[:-1] + "9", chat=OLGA_DM, who=OLGA, number=2))
        await here.fake.emit_event(make_press_event("q:aaaaaaaaaaaaaaaaaaaa:1", chat=OLGA_DM, who=OLGA, number=3))
        await here.write_message(OLGA, "are you there?")
        await here.wait_for_text("c1", "are you there?")
        await here.wait_for_statuses("pending")
        [counted] = await dropped.latest(here.host.host.store.reports, limit=9, user="fake:olga")
        assert counted.reason == "the button is on a card of another chat"


@pytest.mark.behaviour("AP-08", "AP-04")
async def test_a_card_stays_valid_after_a_restart_and_is_not_sent_twice(tmp_path: Path) -> None:
    fake = FullFeatureChannel()
    async with run_approvals_host(tmp_path, fake=fake) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
    async with run_approvals_host(tmp_path, fake=fake) as here:
        await here.write_message(BOB, "hello again")
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_text("c1", "hello again")
        await here.wait_for_text("c1", "hello")
        await here.wait_for_statuses("approved")
        assert sum("talk to main?" in text for text in here.host.texts()) == 1


@pytest.mark.behaviour("AP-04")
async def test_the_decision_is_sent_as_a_message_where_cards_cannot_be_edited(tmp_path: Path) -> None:
    fake = FullFeatureChannel()
    fake.should_refuse_edits = True
    async with run_approvals_host(tmp_path, fake=fake) as here:
        await here.write_message(BOB, "hello")
        await here.press_button(OLGA, await here.card(), "Let them in")
        await here.wait_for_text(OLGA_DM, "Approved by `Olga`")
        await here.wait_for_text("c1", "echo: hello")


@pytest.mark.behaviour("AP-02", "AP-03", "AP-04")
async def test_without_buttons_and_edits_every_step_works_by_typing(tmp_path: Path) -> None:
    """A platform without buttons and edits, on which the bot opens no direct chat."""
    async with run_host(tmp_path) as flow:
        fake, store, now = flow.fake, flow.host.store, flow.host.clock.now()
        await flow.wire("c1", unknown=UnknownSender.REQUEST_APPROVAL)
        async with store.transaction() as tx:
            await roles.grant(tx, user_id="fake:olga", role=Role.OWNER, agent_group=None, now=now)
            here = Origin(channel_type="fake", instance="default", platform_id="dm")
            await users.save_dm(tx, "fake:olga", here, now)
        await fake.person_writes("hello", chat="c1", sender=BOB)
        await wait_until(lambda: bool(flow.texts("dm")))
        [card] = flow.texts("dm")
        typed = re.search(r"/approve \w{6}", card)
        assert typed is not None
        assert "1. Let them in" in card
        await fake.person_writes(typed[0], chat="c1", sender=BOB)
        await fake.person_writes(typed[0].upper(), chat="dm", sender=OLGA)
        await wait_until(lambda: "echo: hello" in flow.texts("c1"))
        await wait_until(lambda: any("Approved by `Olga`" in text for text in flow.texts("dm")[1:]))
        assert not any("echo: /approve" in text for text in flow.texts())


@pytest.mark.behaviour("AP-05")
async def test_a_request_that_differs_from_its_card_is_not_carried_out(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
        async with here.host.host.store.transaction() as tx:
            await tx.execute("UPDATE approvals SET payload = replace(payload, 'fake:bob', 'fake:eve')")
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_statuses("failed")
        await wait_until(lambda: len(here.fake.edits) == 1)
        assert "is not what was shown" in here.fake.edits[0][1]
        assert not await roles.list_for_user(here.host.host.store, "fake:eve")
        await here.wait_for_text("c1", "Nobody could let you in")


@pytest.mark.behaviour("AP-05")
async def test_a_denial_rule_made_later_overrides_an_older_card(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
        await here.deny_by_rule(BOB)
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_statuses("failed")
        assert not await roles.list_for_user(here.host.host.store, "fake:bob")


@pytest.mark.behaviour("AP-06", "AP-10")
async def test_a_sender_may_ask_again_once_the_cause_of_a_failed_approval_is_gone(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
        store, now = here.host.host.store, here.host.host.clock.now()
        rule = await here.deny_by_rule(BOB)
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_statuses("failed")
        async with store.transaction() as tx:
            await rules.end(tx, rule.id, ended_by="local:test", now=now)
        await here.write_message(BOB, "and now?")
        await here.wait_for_statuses("failed", "pending")
        await here.press_button(OLGA, await here.card(), "Let them in")
        await here.wait_for_text("c1", "echo: and now?")


@pytest.mark.behaviour("AP-10", "AP-06")
async def test_a_flood_of_unknown_senders_makes_a_limited_number_of_cards(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        for number in range(20):
            await here.write_message(Sender(handle=f"s{number}", name=f"S{number}"), "hello")
        await here.card(MAX_UNKNOWN_SENDER_CARDS)
        await here.wait_for_text(OLGA_DM, "More people wrote")
        await here.write_message(BOB, "I am no flood")
        await here.wait_until_routed()
        assert len(await here.approvals()) == 21, "each has a place"
        assert len(here.cards()) == MAX_UNKNOWN_SENDER_CARDS
        assert sum("More people wrote" in text for text in here.host.texts(OLGA_DM)) == 1
        [first, *_] = here.cards()
        assert "S0" in first.text
        await here.press_button(OLGA, first, "Refuse")
        await wait_until(lambda: any("S5" in one.text for one in here.cards()))
        assert len(here.cards()) == MAX_UNKNOWN_SENDER_CARDS, "the next one is shown when one is decided"


@pytest.mark.behaviour("AP-10", "AP-06")
async def test_when_the_limit_is_reached_the_oldest_request_without_a_card_is_evicted_with_notice(
    tmp_path: Path,
) -> None:
    most = SENDER.max_open
    assert most is not None
    async with run_approvals_host(tmp_path) as here:
        for number in range(most):
            await here.write_message(Sender(handle=f"s{number}", name=f"S{number}"), "hello", chat="c1")
        await here.card(MAX_UNKNOWN_SENDER_CARDS)
        await here.write_message(BOB, "hello")
        await here.write_message(CARL, "hello")
        await here.wait_until_routed()
        rows = await here.host.host.store.fetch_all("SELECT status, requested_by, reason FROM approvals ORDER BY rowid")
        ended = {row["requested_by"]: row["reason"] for row in rows if row["status"] == "expired"}
        assert ended == {
            f"fake:s{MAX_UNKNOWN_SENDER_CARDS}": EVICTED_REASON,
            f"fake:s{MAX_UNKNOWN_SENDER_CARDS + 1}": EVICTED_REASON,
        }
        assert [row["requested_by"] for row in rows[-2:]] == ["fake:bob", "fake:carl"]
        assert sum(row["status"] == "pending" for row in rows) == most
        await here.wait_for_text("c1", "Nobody could let you in", times=2)
        counted = await dropped.latest(here.host.host.store.reports, limit=50)
        assert {(one.user_id, one.reason) for one in counted} == {(user, EVICTED_REASON) for user in ended}


@pytest.mark.behaviour("AP-10")
async def test_a_sender_at_their_own_limit_evicts_no_request_of_others(tmp_path: Path) -> None:
    most = SENDER.max_open
    assert most is not None
    async with run_approvals_host(tmp_path) as here:
        for number in range(MAX_OPEN_PER_SENDER):
            await here.host.ensure_group(f"g{number}")
            await here.host.wire(f"c{number + 2}", f"g{number}", unknown=UnknownSender.REQUEST_APPROVAL)
            await here.write_message(BOB, "hello", chat=f"c{number + 2}")
        for number in range(most - MAX_OPEN_PER_SENDER):
            await here.write_message(Sender(handle=f"s{number}", name=f"S{number}"), "hello")
        await here.write_message(BOB, "hello")
        await here.wait_until_routed()
        rows = await here.host.host.store.fetch_all("SELECT status FROM approvals")
        assert [row["status"] for row in rows] == ["pending"] * most


@pytest.mark.behaviour("AP-10")
async def test_answers_to_the_owner_do_not_queue_behind_approval_cards(tmp_path: Path) -> None:
    fake = FullFeatureChannel()
    async with run_approvals_host(tmp_path, fake=fake) as here:
        fake.hold()
        for number in range(MAX_UNKNOWN_SENDER_CARDS):
            await here.write_message(Sender(handle=f"s{number}", name=f"S{number}"), "hello")
        for one in await here.wait_for_statuses(*["pending"] * MAX_UNKNOWN_SENDER_CARDS):
            await is_entered(here, one.id)
        await here.write_message(OLGA, "/pair fake", chat=OLGA_DM)
        await here.wait_until_routed()
        fake.release()
        await here.card(MAX_UNKNOWN_SENDER_CARDS)
        await here.wait_for_text(OLGA_DM, "It works once")
        texts = here.host.texts(OLGA_DM)
        assert [number for number, text in enumerate(texts) if "It works once" in text] in ([0], [1])


async def is_entered(here: ApprovalsTestHost, approval: ApprovalId) -> None:
    """Wait until its card is in the ledger."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while not await approvals.list_cards(here.host.host.store, approval):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)

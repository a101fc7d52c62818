"""Delivering the card: the next approver if it does not arrive, a reason if nobody is left."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from nanohost.approvals import unknown_kind
from nanohost.approvals.decision import ApprovalDecision, decide
from nanohost.approvals.engine import CARD_SEND_TIMEOUT, EXPIRED_REASON, RETRY_INTERVAL_S
from nanohost.approvals.held_messages import APPROVAL_REQUESTED_TEXT, NO_APPROVER_REACHED, NO_APPROVER_TEXT
from nanohost.approvals.requests import RETRY_AFTER
from nanohost.channel_api import Address, ChannelDown, EventKind, InboundEvent, Refused, Sender
from nanohost.chat_commands.host_command import Actor
from nanohost.db import approvals, dropped, roles, users
from nanohost.db.approvals import ApprovalStatus
from nanohost.db.domain_events import ApprovalChanged
from nanohost.model import ApprovalId, Role, UnknownSender
from nanohost.testing.full_channel import FULL_CAPABILITIES, FullFeatureChannel
from nanohost.testing.manual_clock import ManualClock
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.times import to_text
from tests.approvals.harness import BOB, CARL, OLGA, OLGA_DM, ApprovalsTestHost, run_approvals_host
from tests.support.flow import scripted_settings
from tests.support.invariants import wait_until

CARLS = "dm-carl"


class NoDms(FullFeatureChannel):
    """A platform on which the bot can start a direct chat with the named users only."""

    def __init__(self, *reachable: str) -> None:
        super().__init__()
        self.reachable = set(reachable)

    async def open_dm(self, handle: str) -> Address:
        if handle not in self.reachable:
            raise Refused("they have never written to the bot")
        return await super().open_dm(handle)


class UnresponsiveChannel(FullFeatureChannel):
    """A platform that does not answer when a direct chat with a named user is opened."""

    def __init__(self, *unanswered: str) -> None:
        super().__init__()
        self.unanswered = set(unanswered)
        self.asked: list[str] = []

    async def open_dm(self, handle: str) -> Address:
        self.asked.append(handle)
        if handle in self.unanswered:
            raise ChannelDown("no connection")
        return await super().open_dm(handle)


class BlockedChatChannel(FullFeatureChannel):
    """A platform on which the bot is blocked in one chat."""

    def __init__(self, chat: str) -> None:
        super().__init__()
        self.chat = chat

    def _raise_configured_error(self, address: Address) -> None:
        if address.platform_id == self.chat:
            raise Refused("they have blocked the bot")
        super()._raise_configured_error(address)


class SlowToOpen(FullFeatureChannel):
    """A platform on which opening a direct chat takes time."""

    def __init__(self) -> None:
        super().__init__()
        self.opening, self.may_open = asyncio.Event(), asyncio.Event()

    async def open_dm(self, handle: str) -> Address:
        self.opening.set()
        await self.may_open.wait()
        return await super().open_dm(handle)


async def advance_in_steps(here: ApprovalsTestHost, clock: ManualClock, seconds: float) -> None:
    """Advance the clock in steps, with time for the database in between."""
    for _ in range(20):
        await clock.advance(seconds / 20)
        await asyncio.sleep(0.01)


async def let_approval_expire_soon(here: ApprovalsTestHost) -> None:
    """Let the open approval expire in half a minute."""
    [approval] = await here.wait_for_statuses("pending")
    end = here.host.host.clock.now() + timedelta(seconds=30)
    async with here.host.host.store.transaction() as tx:
        await tx.execute("UPDATE approvals SET expires_at = ?", (to_text(end),))
    here.host.host.store.bus.publish(ApprovalChanged(approval.id))


@pytest.mark.behaviour("AP-06", "AP-01")
async def test_an_approver_who_cannot_be_messaged_is_skipped(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, fake=NoDms("olga")) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.write_message(BOB, "hello")
        card = await here.card()
        assert card.address.platform_id == OLGA_DM
        [approval] = await here.approvals()
        first, second = await approvals.list_cards(here.host.host.store, approval.id)
        assert (first.user_id, first.seq) == ("fake:carl", None)
        assert "never written" in (first.problem or "")
        assert (second.user_id, second.problem) == ("fake:olga", None)


@pytest.mark.behaviour("AP-06")
async def test_a_card_not_sent_within_a_minute_is_reissued_to_the_next_approver_and_both_are_edited(
    tmp_path: Path,
) -> None:
    clock, fake = ManualClock(), FullFeatureChannel()
    fake.limited_chats = {CARLS: 90.0}
    async with run_approvals_host(tmp_path, fake=fake, clock=clock) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.write_message(BOB, "hello")
        await wait_until(lambda: fake.attempts.total() >= 2)  # Bob is told that somebody is asked
        await advance_in_steps(here, clock, CARD_SEND_TIMEOUT.total_seconds() + 5)
        card = await here.card()
        assert card.address.platform_id == OLGA_DM
        fake.limited_chats = {}
        await advance_in_steps(here, clock, 60)
        await here.card(2)
        await here.press_button(OLGA, card, "Let them in")
        await advance_in_steps(here, clock, 5)
        await wait_until(lambda: len(fake.edits) == 2)
        assert not here.cards(), "the buttons of both are gone"


@pytest.mark.behaviour("AP-06")
async def test_a_card_that_the_platform_refuses_is_reissued_to_the_next_approver(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, fake=BlockedChatChannel(CARLS)) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.write_message(BOB, "hello")
        card = await here.card()
        assert card.address.platform_id == OLGA_DM


@pytest.mark.behaviour("AP-06", "DL-16")
async def test_a_late_failure_of_a_card_reissues_it_to_the_next_approver_at_once(tmp_path: Path) -> None:
    clock, fake = ManualClock(), FullFeatureChannel(capabilities=replace(FULL_CAPABILITIES, fails_later=True))
    async with run_approvals_host(tmp_path, fake=fake, clock=clock) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.write_message(BOB, "hello")
        first = await here.card()
        await advance_in_steps(here, clock, 10)  # it is known by now that the card was sent
        id = f"fake-{first.order}"
        reason = "outside of the window"
        await here.host.host.delivery.record_late_failure(
            ("fake", "default"), key=first.key, platform_message_id=id, reason=reason
        )
        second = await here.card(2)
        assert {first.address.platform_id, second.address.platform_id} == {OLGA_DM, CARLS}


@pytest.mark.behaviour("AP-06", "AP-01", "AC-01")
async def test_an_approver_unreachable_at_one_address_is_asked_at_another_when_nobody_else_is_left(
    tmp_path: Path,
) -> None:
    async with run_approvals_host(tmp_path, fake=BlockedChatChannel(OLGA_DM)) as here:
        store, now = here.host.host.store, here.host.host.clock.now()
        async with store.transaction() as tx:
            await users.record_seen(tx, "fake:olga", name="Olga", now=now)
            await users.record_seen(tx, "fake:olga-at-work", name="Olga", now=now - timedelta(days=1))
            await users.link(tx, "fake:olga", "fake:olga-at-work")
        await here.write_message(BOB, "hello")
        card = await here.card()
        assert card.address.platform_id == "dm-olga-at-work"
        [approval] = await here.approvals()
        assert [one.user_id for one in await approvals.list_cards(store, approval.id)] == [
            "fake:olga",
            "fake:olga-at-work",
        ]
        await here.press_button(Sender(handle="olga-at-work", name="Olga"), card, "Let them in")
        await here.wait_for_text("c1", "echo: hello")


@pytest.mark.behaviour("AP-06", "AP-10")
async def test_a_request_fails_with_a_reason_when_no_approver_is_reachable_and_may_be_repeated_later(
    tmp_path: Path,
) -> None:
    clock, fake = ManualClock(), NoDms()
    async with run_approvals_host(tmp_path, fake=fake, clock=clock) as here:
        await here.write_message(BOB, "hello")
        [failed] = await here.wait_for_statuses("failed")
        assert failed.reason == NO_APPROVER_REACHED
        await advance_in_steps(here, clock, 5)
        await here.wait_for_text("c1", NO_APPROVER_TEXT)
        assert here.host.texts("c1") == [NO_APPROVER_TEXT], "nobody was asked, and nothing else was said"
        await here.write_message(BOB, "hello?")
        await here.wait_until_routed()
        assert len(await here.approvals()) == 1, "not at once"
        counted = await dropped.latest(here.host.host.store.reports, limit=5, user="fake:bob")
        assert {one.reason for one in counted} == {NO_APPROVER_REACHED}
        fake.reachable = {"olga"}
        async with here.host.host.store.transaction() as tx:
            long_ago = here.host.host.clock.now() - RETRY_AFTER
            await tx.execute("UPDATE approvals SET decided_at = ?", (to_text(long_ago),))
        await here.write_message(BOB, "and now?")
        await here.card()


@pytest.mark.behaviour("AC-04", "RT-03")
async def test_an_unknown_sender_to_two_agents_is_notified_once_of_the_request(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.host.ensure_group("work")
        await here.host.wire("c1", folder="work", unknown=UnknownSender.REQUEST_APPROVAL)
        await here.write_message(BOB, "hello")
        await here.card(2)
        await here.write_message(BOB, "hello?")
        await here.wait_until_routed()
        await here.press_button(OLGA, await here.card(1), "Refuse")
        await here.wait_for_text(OLGA_DM, "may not talk")
        assert here.host.texts("c1") == [APPROVAL_REQUESTED_TEXT]


@pytest.mark.behaviour("AC-04")
async def test_an_unknown_sender_who_deletes_the_first_message_is_not_notified_again(tmp_path: Path) -> None:
    clock, fake = ManualClock(), FullFeatureChannel()
    fake.limited_chats = {CARLS: 90.0}
    async with run_approvals_host(tmp_path, fake=fake, clock=clock) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.write_message(BOB, "hello")
        await here.wait_for_text("c1", APPROVAL_REQUESTED_TEXT)
        await here.write_message(BOB, "hello?")
        await here.wait_until_routed()
        await fake.emit_event(
            InboundEvent(
                kind=EventKind.DELETION,
                platform_id="c1",
                platform_message_id="m1",
                refers_to="m1",
                sender=BOB,
                text="",
                sent_at=clock.now(),
            )
        )
        await here.wait_until_routed()
        [approval] = await here.wait_for_statuses("pending")
        assert await approvals.count_held_messages(here.host.host.store, approval.id) == 1
        await advance_in_steps(here, clock, CARD_SEND_TIMEOUT.total_seconds() + 5)
        await here.card()  # the next one is asked, and who waits for it might be told so
        await advance_in_steps(here, clock, 5)
        assert here.host.texts("c1") == [APPROVAL_REQUESTED_TEXT]


@pytest.mark.behaviour("AP-06")
async def test_no_request_is_made_without_an_owner_or_an_admin(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, has_owner=False) as here:
        await here.write_message(BOB, "hello")
        await here.wait_for_text("c1", "Nobody is set up yet")
        assert not await here.approvals()


@pytest.mark.behaviour("AP-06", "AP-04")
async def test_an_undecided_request_expires_its_card_says_so_and_it_may_be_asked_again(tmp_path: Path) -> None:
    clock = ManualClock()
    async with run_approvals_host(tmp_path, clock=clock) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
        await let_approval_expire_soon(here)
        while [str(one.status) for one in await here.approvals()] != ["expired"]:
            await advance_in_steps(here, clock, 31)  # again, where the host began to wait after time had gone by
        [expired] = await here.wait_for_statuses("expired")
        assert expired.reason == EXPIRED_REASON
        await advance_in_steps(here, clock, 5)
        await wait_until(lambda: len(here.fake.edits) == 1)
        await here.press_button(OLGA, card, "Let them in")
        await advance_in_steps(here, clock, 5)
        await here.wait_for_text(OLGA_DM, "Expired already")
        await here.wait_for_text("c1", "Nobody could let you in")
        await here.write_message(BOB, "hello again")
        await here.wait_for_statuses("expired", "pending")


@pytest.mark.behaviour("AP-06", "AP-08")
async def test_a_request_that_expired_while_the_host_was_down_is_closed_at_the_next_start(tmp_path: Path) -> None:
    clock, fake = ManualClock(), FullFeatureChannel()
    async with run_approvals_host(tmp_path, fake=fake, clock=clock) as here:
        await here.write_message(BOB, "hello")
        await here.card()
        await let_approval_expire_soon(here)
    await clock.advance(31)
    async with run_approvals_host(tmp_path, fake=fake, clock=clock) as here:
        await here.wait_for_statuses("expired")


@pytest.mark.behaviour("AP-04")
async def test_a_request_decided_on_the_command_line_before_its_card_is_sent_sends_no_card(tmp_path: Path) -> None:
    fake = FullFeatureChannel()
    async with run_approvals_host(tmp_path, fake=fake) as here:
        fake.hold()
        await here.write_message(Sender(handle="eve", name="Eve"), "first")
        await wait_until(lambda: fake.attempts.total() >= 2)
        await here.write_message(BOB, "second")
        *_, second = await here.wait_for_statuses("pending", "pending")
        store, host = here.host.host.store, here.host.host
        await _until_entered(here, second.id)
        async with store.transaction() as tx:
            await decide(
                tx,
                second.id,
                actor=Actor(id="local:olga", name="olga", is_local=True),
                decision=ApprovalDecision.DENY,
                now=host.clock.now(),
                zone=UTC,
            )
        fake.release()
        await here.card()
        await here.write_message(BOB, "third")
        await here.wait_until_routed()
        assert len(here.cards()) == 1


async def _until_entered(here: ApprovalsTestHost, approval: ApprovalId) -> None:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            if await approvals.list_cards(here.host.host.store, approval):
                return
            await asyncio.sleep(0.01)  # the database tells nobody


@pytest.mark.behaviour("AP-06", "AP-10")
async def test_a_clock_set_back_does_not_extend_the_wait_after_a_failed_request(tmp_path: Path) -> None:
    fake = NoDms()
    async with run_approvals_host(tmp_path, fake=fake) as here:
        await here.write_message(BOB, "hello")
        await here.wait_for_statuses("failed")
        fake.reachable = {"olga"}
        ahead = here.host.host.clock.now() + timedelta(days=30)
        async with here.host.host.store.transaction() as tx:
            await tx.execute("UPDATE approvals SET decided_at = ?", (to_text(ahead),))
        await here.write_message(BOB, "and now?")
        await here.card()


@pytest.mark.behaviour("AP-06")
async def test_a_card_requested_in_the_future_is_reissued_to_the_next_approver(tmp_path: Path) -> None:
    fake = FullFeatureChannel()
    fake.limited_chats = {CARLS: 90.0}
    async with run_approvals_host(tmp_path, fake=fake) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.write_message(BOB, "hello")
        [approval] = await here.wait_for_statuses("pending")
        await _until_entered(here, approval.id)
        ahead = here.host.host.clock.now() + timedelta(days=1)
        async with here.host.host.store.transaction() as tx:
            await tx.execute("UPDATE approval_cards SET asked_at = ?", (to_text(ahead),))
        here.host.host.store.bus.publish(ApprovalChanged(approval.id))
        card = await here.card()
        assert card.address.platform_id == OLGA_DM


@pytest.mark.behaviour("AP-06")
async def test_an_unresponsive_platform_is_tried_again_and_the_request_stays_pending(tmp_path: Path) -> None:
    clock, fake = ManualClock(), UnresponsiveChannel("olga")
    async with run_approvals_host(tmp_path, fake=fake, clock=clock) as here:
        await here.write_message(BOB, "hello")
        await wait_until(lambda: "olga" in fake.asked)
        await advance_in_steps(here, clock, 2)
        await here.wait_for_statuses("pending")
        fake.unanswered = set()
        await advance_in_steps(here, clock, RETRY_INTERVAL_S + 1)
        card = await here.card()
        await here.press_button(OLGA, card, "Let them in")
        await advance_in_steps(here, clock, 2)
        await here.wait_for_text("c1", "echo: hello")


@pytest.mark.behaviour("AP-06", "AP-01")
async def test_the_next_approver_is_asked_while_a_platform_does_not_answer(tmp_path: Path) -> None:
    fake = UnresponsiveChannel("carl")
    async with run_approvals_host(tmp_path, fake=fake) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.write_message(BOB, "hello")
        card = await here.card()
        assert card.address.platform_id == OLGA_DM


@pytest.mark.behaviour("AP-04", "AP-01")
async def test_a_request_decided_while_a_direct_chat_is_opened_sends_no_card(tmp_path: Path) -> None:
    fake = SlowToOpen()
    async with run_approvals_host(tmp_path, fake=fake) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.write_message(BOB, "hello")
        await asyncio.wait_for(fake.opening.wait(), scaled_timeout(HANG_TIMEOUT_S))
        [approval] = await here.wait_for_statuses("pending")
        async with here.host.host.store.transaction() as tx:
            await approvals.close(
                tx,
                approval.id,
                ApprovalStatus.DENIED,
                decided_by=None,
                choice=None,
                reason=None,
                now=approval.created_at,
            )
        fake.may_open.set()
        await wait_until(lambda: not here.host.host.approval_engine._workers.active_count())
        assert here.cards() == []


@pytest.mark.behaviour("AP-03", "AP-01")
async def test_an_approver_who_loses_the_role_while_their_chat_is_opened_gets_no_card(tmp_path: Path) -> None:
    fake = SlowToOpen()
    async with run_approvals_host(tmp_path, fake=fake) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.write_message(BOB, "hello")
        await asyncio.wait_for(fake.opening.wait(), scaled_timeout(HANG_TIMEOUT_S))
        await here.revoke(CARL)
        fake.may_open.set()
        card = await here.card()
        assert card.address.platform_id == OLGA_DM
        assert not here.host.texts(CARLS)


@pytest.mark.behaviour("AP-06", "DL-05")
async def test_an_unconfirmed_card_is_reissued_to_the_next_approver_and_stays_valid_if_there_is_none(
    tmp_path: Path,
) -> None:
    fake = FullFeatureChannel()
    fake.ambiguous_after_effect = 1
    async with run_approvals_host(tmp_path, fake=fake, settings=scripted_settings(ambiguous="ask")) as here:
        await here.write_message(BOB, "hello", chat="g1", group=True)
        first = await here.card()
        [approval] = await here.wait_for_statuses("pending")
        await _until_passed_over(here, approval.id)
        await here.wait_for_statuses("pending")
        await here.press_button(OLGA, first, "Make a new agent")
        await here.wait_for_text("g1", "echo: hello")


async def _until_passed_over(here: ApprovalsTestHost, approval: ApprovalId) -> None:
    """The engine knows that the arrival of the card is unconfirmed."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            if any(card.problem for card in await approvals.list_cards(here.host.host.store, approval)):
                return
            await asyncio.sleep(0.01)  # the database tells nobody


@pytest.mark.behaviour("AP-06", "AP-01")
async def test_an_approver_granted_a_role_just_before_the_request_fails_is_asked(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        store = here.host.host.store
        await here.write_message(BOB, "hello")
        await here.card()
        [approval] = await here.approvals()
        await here.revoke(OLGA)
        async with store.transaction() as tx:
            await roles.grant(
                tx, user_id="fake:carl", role=Role.OWNER, agent_group=None, now=here.host.host.clock.now()
            )
            here.host.host.store.bus.publish(ApprovalChanged(approval.id))
            for _ in range(200):  # it reads that there is nobody, and waits for its turn to write
                await store.fetch_one("SELECT 1")
        second = await here.card(2)
        assert second.address.platform_id == CARLS
        await here.press_button(CARL, second, "Let them in")
        await here.wait_for_text("c1", "echo: hello")


@pytest.mark.behaviour("AP-06", "AP-08")
async def test_a_request_of_an_unknown_kind_fails_on_record_and_everyone_involved_is_notified(tmp_path: Path) -> None:
    fake = FullFeatureChannel()
    async with run_approvals_host(tmp_path, fake=fake) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
        async with here.host.host.store.transaction() as tx:
            await tx.execute("UPDATE approvals SET kind = 'of-a-file-that-was-taken-away'")
    async with run_approvals_host(tmp_path, fake=fake) as here:
        [failed] = await here.wait_for_statuses("failed")
        assert failed.reason == unknown_kind.UNKNOWN_KIND
        await here.wait_for_text("c1", "Nobody could let you in")
        await wait_until(lambda: len(fake.edits) == 1)
        assert not here.cards(), "its buttons are gone"
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_until_routed()
        counted = await dropped.latest(here.host.host.store.reports, limit=5, user="fake:bob")
        assert [one.reason for one in counted] == [unknown_kind.UNKNOWN_KIND]

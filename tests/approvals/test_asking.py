"""Bringing the card to somebody: the next one when it does not arrive, words when there is nobody left."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from nanohost.approvals import gone
from nanohost.approvals.decide import Verdict, decide
from nanohost.approvals.engine import LATE_LOOK_S, NO_ANSWER, SENT_WITHIN
from nanohost.approvals.held import ASKED, NOBODY_LEFT, NOT_REACHED
from nanohost.approvals.requests import AGAIN_AFTER
from nanohost.channel_api import Address, ChannelDown, EventKind, InboundEvent, Refused, Sender
from nanohost.chat_commands.host_command import Actor
from nanohost.model import ApprovalId, Role, UnknownSender
from nanohost.store import approvals, dropped, roles, users
from nanohost.store.approvals import ApprovalStatus
from nanohost.store.domain_events import ApprovalChanged
from nanohost.testing.able_channel import ABLE, AbleChannel
from nanohost.testing.limits import HANG_S, seconds
from nanohost.testing.manual_clock import ManualClock
from nanohost_protocol.times import to_text
from tests.approvals.hall import BOB, CARL, OLGA, OLGAS, Hall, hall
from tests.support.flow import scripted_settings
from tests.support.invariants import until

CARLS = "dm-carl"


class NoDms(AbleChannel):
    """A platform that lets us write to nobody first, but to those who are named."""

    def __init__(self, *reachable: str) -> None:
        super().__init__()
        self.reachable = set(reachable)

    async def open_dm(self, handle: str) -> Address:
        if handle not in self.reachable:
            raise Refused("they have never written to the bot")
        return await super().open_dm(handle)


class Away(AbleChannel):
    """A platform that does not answer when a direct chat is to be opened with those who are named."""

    def __init__(self, *unanswered: str) -> None:
        super().__init__()
        self.unanswered = set(unanswered)
        self.asked: list[str] = []

    async def open_dm(self, handle: str) -> Address:
        self.asked.append(handle)
        if handle in self.unanswered:
            raise ChannelDown("no connection")
        return await super().open_dm(handle)


class Blocked(AbleChannel):
    """A platform where somebody does not want to hear from the bot in this chat."""

    def __init__(self, chat: str) -> None:
        super().__init__()
        self.chat = chat

    def _refuse_by_mood(self, address: Address) -> None:
        if address.platform_id == self.chat:
            raise Refused("they have blocked the bot")
        super()._refuse_by_mood(address)


class SlowToOpen(AbleChannel):
    """A platform that takes its time to open a direct chat."""

    def __init__(self) -> None:
        super().__init__()
        self.opening, self.may_open = asyncio.Event(), asyncio.Event()

    async def open_dm(self, handle: str) -> Address:
        self.opening.set()
        await self.may_open.wait()
        return await super().open_dm(handle)


async def advanced(here: Hall, clock: ManualClock, seconds: float) -> None:
    """Time goes by in steps, and the database gets its turns."""
    for _ in range(20):
        await clock.advance(seconds / 20)
        await asyncio.sleep(0.01)


async def almost_over(here: Hall) -> None:
    """The open approval expires in half a minute."""
    [approval] = await here.statuses("pending")
    end = here.flow.host.clock.now() + timedelta(seconds=30)
    async with here.flow.host.store.transaction() as tx:
        await tx.run("UPDATE approvals SET expires_at = ?", (to_text(end),))
    here.flow.host.store.bus.publish(ApprovalChanged(approval.id))


@pytest.mark.behaviour("AP-06", "AP-01")
async def test_somebody_who_cannot_be_written_to_is_passed_over(tmp_path: Path) -> None:
    async with hall(tmp_path, fake=NoDms("olga")) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.writes(BOB, "hello")
        card = await here.card()
        assert card.address.platform_id == OLGAS
        [approval] = await here.approvals()
        first, second = await approvals.cards(here.flow.host.store, approval.id)
        assert (first.user_id, first.seq) == ("fake:carl", None)
        assert "never written" in (first.problem or "")
        assert (second.user_id, second.problem) == ("fake:olga", None)


@pytest.mark.behaviour("AP-06")
async def test_a_card_that_is_not_sent_within_a_minute_goes_to_the_next_one_too_and_both_are_edited(
    tmp_path: Path,
) -> None:
    clock, fake = ManualClock(), AbleChannel()
    fake.limited_chats = {CARLS: 90.0}
    async with hall(tmp_path, fake=fake, clock=clock) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.writes(BOB, "hello")
        await until(lambda: fake.attempts.total() >= 2)  # Bob is told that somebody is asked
        await advanced(here, clock, SENT_WITHIN.total_seconds() + 5)
        card = await here.card()
        assert card.address.platform_id == OLGAS
        fake.limited_chats = {}
        await advanced(here, clock, 60)
        await here.card(2)
        await here.presses(OLGA, card, "Let them in")
        await advanced(here, clock, 5)
        await until(lambda: len(fake.edits) == 2)
        assert not here.cards(), "the buttons of both are gone"


@pytest.mark.behaviour("AP-06")
async def test_a_card_that_the_platform_refuses_goes_to_the_next_one(tmp_path: Path) -> None:
    async with hall(tmp_path, fake=Blocked(CARLS)) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.writes(BOB, "hello")
        card = await here.card()
        assert card.address.platform_id == OLGAS


@pytest.mark.behaviour("AP-06", "DL-16")
async def test_a_card_that_the_platform_took_and_gave_up_on_goes_to_the_next_one_at_once(tmp_path: Path) -> None:
    clock, fake = ManualClock(), AbleChannel(capabilities=replace(ABLE, fails_later=True))
    async with hall(tmp_path, fake=fake, clock=clock) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.writes(BOB, "hello")
        first = await here.card()
        await advanced(here, clock, 10)  # it is known by now that the card was sent
        id = f"fake-{first.order}"
        reason = "outside of the window"
        await here.flow.host.delivery.failed_later(
            ("fake", "default"), key=first.key, platform_message_id=id, reason=reason
        )
        second = await here.card(2)
        assert {first.address.platform_id, second.address.platform_id} == {OLGAS, CARLS}


@pytest.mark.behaviour("AP-06", "AP-01", "AC-01")
async def test_who_cannot_be_reached_in_one_place_is_asked_in_another_where_there_is_nobody_else(
    tmp_path: Path,
) -> None:
    async with hall(tmp_path, fake=Blocked(OLGAS)) as here:
        store, now = here.flow.host.store, here.flow.host.clock.now()
        async with store.transaction() as tx:
            await users.seen(tx, "fake:olga", name="Olga", now=now)
            await users.seen(tx, "fake:olga-at-work", name="Olga", now=now - timedelta(days=1))
            await users.link(tx, "fake:olga", "fake:olga-at-work")
        await here.writes(BOB, "hello")
        card = await here.card()
        assert card.address.platform_id == "dm-olga-at-work"
        [approval] = await here.approvals()
        assert [one.user_id for one in await approvals.cards(store, approval.id)] == ["fake:olga", "fake:olga-at-work"]
        await here.presses(Sender(handle="olga-at-work", name="Olga"), card, "Let them in")
        await here.reads("c1", "echo: hello")


@pytest.mark.behaviour("AP-06", "AP-10")
async def test_nobody_reachable_fails_with_words_and_may_be_asked_again_after_a_while(tmp_path: Path) -> None:
    clock, fake = ManualClock(), NoDms()
    async with hall(tmp_path, fake=fake, clock=clock) as here:
        await here.writes(BOB, "hello")
        [failed] = await here.statuses("failed")
        assert failed.reason == NOBODY_LEFT
        await advanced(here, clock, 5)
        await here.reads("c1", NOT_REACHED)
        assert here.flow.texts("c1") == [NOT_REACHED], "nobody was asked, and nothing else was said"
        await here.writes(BOB, "hello?")
        await here.routed()
        assert len(await here.approvals()) == 1, "not at once"
        counted = await dropped.latest(here.flow.host.store.reports, limit=5, user="fake:bob")
        assert {one.reason for one in counted} == {NOBODY_LEFT}
        fake.reachable = {"olga"}
        async with here.flow.host.store.transaction() as tx:
            long_ago = here.flow.host.clock.now() - AGAIN_AFTER
            await tx.run("UPDATE approvals SET decided_at = ?", (to_text(long_ago),))
        await here.writes(BOB, "and now?")
        await here.card()


@pytest.mark.behaviour("AC-04", "RT-03")
async def test_a_stranger_whom_two_agents_would_hear_is_told_once_that_somebody_is_asked(tmp_path: Path) -> None:
    async with hall(tmp_path) as here:
        await here.flow.group("work")
        await here.flow.wire("c1", folder="work", unknown=UnknownSender.REQUEST_APPROVAL)
        await here.writes(BOB, "hello")
        await here.card(2)
        await here.writes(BOB, "hello?")
        await here.routed()
        await here.presses(OLGA, await here.card(1), "Refuse")
        await here.reads(OLGAS, "may not talk")
        assert here.flow.texts("c1") == [ASKED]


@pytest.mark.behaviour("AC-04")
async def test_a_stranger_who_deletes_what_was_asked_about_first_is_not_told_again(tmp_path: Path) -> None:
    clock, fake = ManualClock(), AbleChannel()
    fake.limited_chats = {CARLS: 90.0}
    async with hall(tmp_path, fake=fake, clock=clock) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.writes(BOB, "hello")
        await here.reads("c1", ASKED)
        await here.writes(BOB, "hello?")
        await here.routed()
        await fake.happens(
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
        await here.routed()
        [approval] = await here.statuses("pending")
        assert await approvals.held(here.flow.host.store, approval.id) == 1
        await advanced(here, clock, SENT_WITHIN.total_seconds() + 5)
        await here.card()  # the next one is asked, and who waits for it might be told so
        await advanced(here, clock, 5)
        assert here.flow.texts("c1") == [ASKED]


@pytest.mark.behaviour("AP-06")
async def test_without_an_owner_or_an_admin_nothing_is_asked(tmp_path: Path) -> None:
    async with hall(tmp_path, owner=False) as here:
        await here.writes(BOB, "hello")
        await here.reads("c1", "Nobody is set up yet")
        assert not await here.approvals()


@pytest.mark.behaviour("AP-06", "AP-04")
async def test_what_nobody_decides_expires_the_card_says_so_and_it_may_be_asked_again(tmp_path: Path) -> None:
    clock = ManualClock()
    async with hall(tmp_path, clock=clock) as here:
        await here.writes(BOB, "hello")
        card = await here.card()
        await almost_over(here)
        while [str(one.status) for one in await here.approvals()] != ["expired"]:
            await advanced(here, clock, 31)  # again, where the host began to wait after time had gone by
        [expired] = await here.statuses("expired")
        assert expired.reason == NO_ANSWER
        await advanced(here, clock, 5)
        await until(lambda: len(here.fake.edits) == 1)
        await here.presses(OLGA, card, "Let them in")
        await advanced(here, clock, 5)
        await here.reads(OLGAS, "Expired already")
        await here.reads("c1", "Nobody could let you in")
        await here.writes(BOB, "hello again")
        await here.statuses("expired", "pending")


@pytest.mark.behaviour("AP-06", "AP-08")
async def test_what_expired_while_no_host_ran_is_ended_at_the_next_start(tmp_path: Path) -> None:
    clock, fake = ManualClock(), AbleChannel()
    async with hall(tmp_path, fake=fake, clock=clock) as here:
        await here.writes(BOB, "hello")
        await here.card()
        await almost_over(here)
    await clock.advance(31)
    async with hall(tmp_path, fake=fake, clock=clock) as here:
        await here.statuses("expired")


@pytest.mark.behaviour("AP-04")
async def test_what_is_decided_at_the_machine_before_the_card_is_sent_is_not_sent_any_more(tmp_path: Path) -> None:
    fake = AbleChannel()
    async with hall(tmp_path, fake=fake) as here:
        fake.hold()
        await here.writes(Sender(handle="eve", name="Eve"), "first")
        await until(lambda: fake.attempts.total() >= 2)
        await here.writes(BOB, "second")
        *_, second = await here.statuses("pending", "pending")
        store, host = here.flow.host.store, here.flow.host
        await _until_entered(here, second.id)
        async with store.transaction() as tx:
            await decide(
                tx,
                second.id,
                actor=Actor(who="local:olga", name="olga", is_local=True),
                verdict=Verdict.DENY,
                now=host.clock.now(),
                zone=UTC,
            )
        fake.release()
        await here.card()
        await here.writes(BOB, "third")
        await here.routed()
        assert len(here.cards()) == 1


async def _until_entered(here: Hall, approval: ApprovalId) -> None:
    async with asyncio.timeout(seconds(HANG_S)):
        while True:
            if await approvals.cards(here.flow.host.store, approval):
                return
            await asyncio.sleep(0.01)  # the database tells nobody


@pytest.mark.behaviour("AP-06", "AP-10")
async def test_a_clock_that_was_set_back_makes_nobody_wait_for_what_is_long_over(tmp_path: Path) -> None:
    fake = NoDms()
    async with hall(tmp_path, fake=fake) as here:
        await here.writes(BOB, "hello")
        await here.statuses("failed")
        fake.reachable = {"olga"}
        ahead = here.flow.host.clock.now() + timedelta(days=30)
        async with here.flow.host.store.transaction() as tx:
            await tx.run("UPDATE approvals SET decided_at = ?", (to_text(ahead),))
        await here.writes(BOB, "and now?")
        await here.card()


@pytest.mark.behaviour("AP-06")
async def test_a_card_that_was_asked_for_in_the_future_goes_to_the_next_one_as_well(tmp_path: Path) -> None:
    fake = AbleChannel()
    fake.limited_chats = {CARLS: 90.0}
    async with hall(tmp_path, fake=fake) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.writes(BOB, "hello")
        [approval] = await here.statuses("pending")
        await _until_entered(here, approval.id)
        ahead = here.flow.host.clock.now() + timedelta(days=1)
        async with here.flow.host.store.transaction() as tx:
            await tx.run("UPDATE approval_cards SET asked_at = ?", (to_text(ahead),))
        here.flow.host.store.bus.publish(ApprovalChanged(approval.id))
        card = await here.card()
        assert card.address.platform_id == OLGAS


@pytest.mark.behaviour("AP-06")
async def test_a_platform_that_does_not_answer_now_is_asked_again_and_nothing_fails_by_it(tmp_path: Path) -> None:
    clock, fake = ManualClock(), Away("olga")
    async with hall(tmp_path, fake=fake, clock=clock) as here:
        await here.writes(BOB, "hello")
        await until(lambda: "olga" in fake.asked)
        await advanced(here, clock, 2)
        await here.statuses("pending")
        fake.unanswered = set()
        await advanced(here, clock, LATE_LOOK_S + 1)
        card = await here.card()
        await here.presses(OLGA, card, "Let them in")
        await advanced(here, clock, 2)
        await here.reads("c1", "echo: hello")


@pytest.mark.behaviour("AP-06", "AP-01")
async def test_while_one_platform_does_not_answer_the_next_one_is_asked(tmp_path: Path) -> None:
    fake = Away("carl")
    async with hall(tmp_path, fake=fake) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.writes(BOB, "hello")
        card = await here.card()
        assert card.address.platform_id == OLGAS


@pytest.mark.behaviour("AP-04", "AP-01")
async def test_what_is_decided_while_a_chat_is_being_opened_is_asked_nobody_more(tmp_path: Path) -> None:
    fake = SlowToOpen()
    async with hall(tmp_path, fake=fake) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.writes(BOB, "hello")
        await asyncio.wait_for(fake.opening.wait(), seconds(HANG_S))
        [approval] = await here.statuses("pending")
        async with here.flow.host.store.transaction() as tx:
            await approvals.close(
                tx, approval.id, ApprovalStatus.DENIED, by=None, choice=None, reason=None, now=approval.created_at
            )
        fake.may_open.set()
        await until(lambda: not here.flow.host.approvals._lanes.busy())
        assert here.cards() == []


@pytest.mark.behaviour("AP-03", "AP-01")
async def test_who_loses_the_role_while_their_chat_is_being_opened_gets_no_card(tmp_path: Path) -> None:
    fake = SlowToOpen()
    async with hall(tmp_path, fake=fake) as here:
        await here.grant(CARL, Role.ADMIN)
        await here.writes(BOB, "hello")
        await asyncio.wait_for(fake.opening.wait(), seconds(HANG_S))
        await here.take_away(CARL)
        fake.may_open.set()
        card = await here.card()
        assert card.address.platform_id == OLGAS
        assert not here.flow.texts(CARLS)


@pytest.mark.behaviour("AP-06", "DL-05")
async def test_a_card_of_which_nobody_knows_whether_it_arrived_goes_to_the_next_one_and_is_good_where_there_is_none(
    tmp_path: Path,
) -> None:
    fake = AbleChannel()
    fake.ambiguous_after_effect = 1
    async with hall(tmp_path, fake=fake, settings=scripted_settings(ambiguous="ask")) as here:
        await here.writes(BOB, "hello", chat="g1", group=True)
        first = await here.card()
        [approval] = await here.statuses("pending")
        await _until_passed_over(here, approval.id)
        await here.statuses("pending")
        await here.presses(OLGA, first, "Make a new agent")
        await here.reads("g1", "echo: hello")


async def _until_passed_over(here: Hall, approval: ApprovalId) -> None:
    """The engine has seen that the card is not known to have arrived."""
    async with asyncio.timeout(seconds(HANG_S)):
        while True:
            if any(card.problem for card in await approvals.cards(here.flow.host.store, approval)):
                return
            await asyncio.sleep(0.01)  # the database tells nobody


@pytest.mark.behaviour("AP-06", "AP-01")
async def test_who_is_given_a_role_in_the_moment_that_it_would_fail_is_asked(tmp_path: Path) -> None:
    async with hall(tmp_path) as here:
        store = here.flow.host.store
        await here.writes(BOB, "hello")
        await here.card()
        [approval] = await here.approvals()
        await here.take_away(OLGA)
        async with store.transaction() as tx:
            await roles.grant(
                tx, user_id="fake:carl", role=Role.OWNER, agent_group=None, now=here.flow.host.clock.now()
            )
            here.flow.host.store.bus.publish(ApprovalChanged(approval.id))
            for _ in range(200):  # it reads that there is nobody, and waits for its turn to write
                await store.one("SELECT 1")
        second = await here.card(2)
        assert second.address.platform_id == CARLS
        await here.presses(CARL, second, "Let them in")
        await here.reads("c1", "echo: hello")


@pytest.mark.behaviour("AP-06", "AP-08")
async def test_what_this_host_does_not_know_any_more_ends_on_record_and_all_are_told(tmp_path: Path) -> None:
    fake = AbleChannel()
    async with hall(tmp_path, fake=fake) as here:
        await here.writes(BOB, "hello")
        card = await here.card()
        async with here.flow.host.store.transaction() as tx:
            await tx.run("UPDATE approvals SET kind = 'of-a-file-that-was-taken-away'")
    async with hall(tmp_path, fake=fake) as here:
        [failed] = await here.statuses("failed")
        assert failed.reason == gone.REASON
        await here.reads("c1", "Nobody could let you in")
        await until(lambda: len(fake.edits) == 1)
        assert not here.cards(), "its buttons are gone"
        await here.presses(OLGA, card, "Let them in")
        await here.routed()
        counted = await dropped.latest(here.flow.host.store.reports, limit=5, user="fake:bob")
        assert [one.reason for one in counted] == [gone.REASON]

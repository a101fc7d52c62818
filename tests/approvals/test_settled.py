"""What somebody was asked about may need no decision any more: it is settled by itself, and says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.app import opened_store
from nanohost.approvals.held import NOT_NOW
from nanohost.approvals.kind import Lapsed
from nanohost.approvals.registry import kinds
from nanohost.approvals.requests import MOST_OF_ONE
from nanohost.channel_api import Attachment, InboundEvent
from nanohost.clock import SystemClock
from nanohost.commands.context import CommandContext
from nanohost.commands.registry import find
from nanohost.commands.wirings import UNWIRED
from nanohost.store import audit, dropped, routes, users, wirings
from nanohost.store.audit import AuditOutcome
from nanohost.testing.able_channel import AbleChannel
from tests.approvals.hall import BOB, CARL, OLGA, OLGAS, Hall, hall
from tests.support.flow import scripted_settings
from tests.support.invariants import assert_clean, until


async def at_the_machine(here: Hall, words: str, **arguments: object) -> str:
    """What the terminal shows."""
    host = here.flow.host
    context = CommandContext(
        home=here.flow.home, settings=scripted_settings(), clock=host.clock, store=host.store, live=host
    )
    command = find(words)
    return command.render(await command.call(context, arguments))


@pytest.mark.behaviour("AP-05", "AP-10")
@pytest.mark.parametrize("words", ["roles create", "members create"])
async def test_somebody_who_is_given_a_role_meanwhile_needs_no_yes_any_more(tmp_path: Path, words: str) -> None:
    async with hall(tmp_path) as here:
        await here.writes(BOB, "one")
        await here.writes(BOB, "two")
        card = await here.card()
        role = {"role": "member"} if words == "roles create" else {}
        await at_the_machine(here, words, user="fake:bob", group="main", **role)
        await here.statuses("withdrawn")
        await here.reads("c1", "two")
        assert here.flow.texts("c1")[-2:] == ["echo: one", "echo: two"]
        await until(lambda: len(here.fake.edits) == 1)
        assert "Settled" in here.fake.edits[0][1]
        assert "may talk to main without it by now" in here.fake.edits[0][1]
        await here.presses(OLGA, card, "Let them in")
        await here.reads(OLGAS, "Settled already")
        [record] = await audit.latest(here.flow.host.store.reports, limit=9, what="approval.withdrawn")
        assert record.outcome is AuditOutcome.DONE
        await assert_clean(here.flow)


@pytest.mark.behaviour("AP-10")
async def test_a_role_for_another_agent_settles_nothing(tmp_path: Path) -> None:
    async with hall(tmp_path) as here:
        await here.flow.group("other")
        await here.writes(BOB, "hello")
        await here.card()
        await at_the_machine(here, "members create", user="fake:bob", group="other")
        await here.statuses("pending")


@pytest.mark.behaviour("AP-10")
async def test_a_chat_that_is_opened_to_everybody_asks_about_nobody_any_more(tmp_path: Path) -> None:
    async with hall(tmp_path) as here:
        await here.writes(BOB, "hello")
        await here.card()
        await at_the_machine(here, "messaging-groups update", id=1, unknown="public")
        await here.statuses("withdrawn")
        await here.reads("c1", "echo: hello")


@pytest.mark.behaviour("AP-10")
async def test_two_who_turn_out_to_be_one_human_need_no_yes(tmp_path: Path) -> None:
    async with hall(tmp_path) as here:
        store, now = here.flow.host.store, here.flow.host.clock.now()
        async with store.transaction() as tx:
            await users.seen(tx, "fake:olga", name="Olga", now=now)
        await here.writes(BOB, "hello")
        await here.card()
        await at_the_machine(here, "users link", user="fake:bob", other="fake:olga")
        await here.statuses("withdrawn")
        await here.reads("c1", "echo: hello")


@pytest.mark.behaviour("AP-10", "RT-08")
async def test_a_chat_that_is_wired_at_the_machine_needs_no_yes_but_its_people_do(tmp_path: Path) -> None:
    async with hall(tmp_path, wired=False) as here:
        await here.writes(BOB, "hello", chat="new")
        await here.card()
        await at_the_machine(here, "wirings create", channel="fake", chat="new", group="main")
        await here.statuses("withdrawn", "pending")
        card = await here.card_that_offers("Let them in")
        assert "talk to" in card.text
        await here.presses(OLGA, card, "Let them in")
        await here.reads("new", "echo: hello")


@pytest.mark.behaviour("AP-10", "RT-08")
async def test_a_chat_that_is_forgotten_at_the_machine_is_asked_about_no_more(tmp_path: Path) -> None:
    async with hall(tmp_path, wired=False) as here:
        await here.writes(BOB, "hello", chat="new")
        await here.card()
        await at_the_machine(here, "messaging-groups delete", id=1)
        await here.statuses("withdrawn")
        assert await here.flow.host.store.all("SELECT 1 FROM inbound_events WHERE status = 'held'") == []
        await here.reads("new", NOT_NOW)


@pytest.mark.behaviour("AP-10", "RT-10")
async def test_a_wiring_that_is_deleted_takes_the_question_with_it_and_what_waited_is_on_record(tmp_path: Path) -> None:
    async with hall(tmp_path) as here:
        await here.writes(BOB, "hello")
        card = await here.card()
        [wiring] = await wirings.every(here.flow.host.store)
        await at_the_machine(here, "wirings delete", id=wiring.id)
        await here.statuses("withdrawn")
        await here.presses(OLGA, card, "Let them in")
        await here.reads(OLGAS, "Settled already")
        found = await here.flow.host.store.all("SELECT * FROM roles WHERE user_id = 'fake:bob'")
        assert found == []
        await here.reads("c1", NOT_NOW)
        [lost] = await dropped.latest(here.flow.host.store.reports, limit=9)
        assert (lost.user_id, lost.reason, lost.agent_group, lost.count) == ("fake:bob", UNWIRED, "main", 1)
        await assert_clean(here.flow)


@pytest.mark.behaviour("AP-10")
async def test_another_yes_settles_what_is_open_about_the_same_human(tmp_path: Path) -> None:
    async with hall(tmp_path) as here:
        await here.writes(BOB, "first")
        await here.card()
        await here.writes(BOB, "second", chat="new")
        await here.statuses("pending", "pending")
        store = here.flow.host.store
        [about_bob, about_chat] = (await here.approvals())[::-1]
        assert (about_bob.kind, about_chat.kind) == ("sender", "chat")
        await here.presses(OLGA, await here.card(2), "Connect to main")
        await here.statuses("withdrawn", "approved")
        await here.reads("c1", "echo: first")
        await here.reads("new", "echo: second")
        assert await routes.held(store, about_bob.id) == []
        await assert_clean(here.flow)


@pytest.mark.behaviour("AP-10")
async def test_files_of_held_messages_are_fetched_and_their_order_is_kept(tmp_path: Path) -> None:
    async with hall(tmp_path) as here:
        here.fake.files["f1"] = b"the plan"
        file = Attachment(ref="f1", name="plan.txt", media_type="text/plain", size=8)
        for number in range(3):
            await here.fake.happens(
                InboundEvent(
                    platform_id="c1",
                    platform_message_id=f"held{number}",
                    sender=BOB,
                    text=f"n{number}",
                    sent_at=datetime.now(UTC),
                    attachments=(file,) if number == 1 else (),
                )
            )
        await here.presses(OLGA, await here.card(), "Let them in")
        await here.writes(BOB, "n3")
        await here.reads("c1", "echo: n3")
        said = [text[:8] for text in here.flow.texts("c1") if text.startswith("echo")]
        assert said == [f"echo: n{number}" for number in range(4)]
        session = await here.flow.session()
        folder = here.flow.layout(session).root
        assert [one.read_bytes() for one in folder.rglob("plan.txt")] == [b"the plan"]


@pytest.mark.behaviour("AP-01", "AP-03")
async def test_when_who_was_asked_may_not_decide_any_more_the_next_one_is_asked(tmp_path: Path) -> None:
    async with hall(tmp_path) as here:
        await here.writes(BOB, "hello")
        card = await here.card()
        assert card.address.platform_id == OLGAS
        await at_the_machine(here, "roles create", user="fake:carl", role="owner")
        await at_the_machine(here, "roles delete", user="fake:olga", role="owner")
        second = await here.card(2)
        assert second.address.platform_id == "dm-carl"
        await here.presses(OLGA, card, "Let them in")
        await here.reads(OLGAS, "not yours to decide")
        await here.presses(CARL, second, "Let them in")
        await here.reads("c1", "echo: hello")


@pytest.mark.behaviour("AP-10")
async def test_a_stranger_in_many_groups_leaves_room_for_others(tmp_path: Path) -> None:
    async with hall(tmp_path, wired=False) as here:
        for number in range(25):
            await here.writes(BOB, "hey", chat=f"group{number}", group=True)
        await here.writes(CARL, "may I?", chat="carls")
        await here.statuses(*["pending"] * (MOST_OF_ONE + 1))
        assert (await here.approvals())[0].requested_by == "fake:carl"


@pytest.mark.behaviour("OP-01", "AP-01")
async def test_status_shows_what_waits_for_a_yes_who_was_asked_and_what_to_type(tmp_path: Path) -> None:
    async with hall(tmp_path) as here:
        await here.writes(BOB, "hello")
        await here.card()
        [one] = await here.approvals()
        shown = await at_the_machine(here, "status")
        assert f"nanohost approvals get {one.id} shows it; then approve {one.id}" in shown
        [line] = [line for line in shown.splitlines() if line.strip().startswith(one.id)]
        for said in ("sender", "fake:bob", "fake:olga"):
            assert said in line
        assert re.search(r"in [23] d", line), "until when"
        assert "approvals open: 1" in shown


@pytest.mark.behaviour("AP-01", "SE-12")
async def test_people_are_asked_and_decide_during_a_pause_and_what_they_let_in_is_answered_after_it(
    tmp_path: Path,
) -> None:
    async with hall(tmp_path) as here:
        await at_the_machine(here, "pause")
        await here.writes(BOB, "hello")
        await here.presses(OLGA, await here.card(), "Let them in")
        await here.statuses("approved")
        await until(lambda: len(here.fake.edits) == 1)
        assert not any("echo" in text for text in here.flow.texts())
        await at_the_machine(here, "resume")
        await here.reads("c1", "echo: hello")


@pytest.mark.behaviour("AC-01", "AP-10")
async def test_a_stranger_who_becomes_an_owner_by_a_code_needs_no_yes(tmp_path: Path) -> None:
    async with hall(tmp_path, wired=False) as here:
        await here.writes(BOB, "hello", chat="bobs")
        await here.card()
        shown = await at_the_machine(here, "pair", channel="fake")
        found = re.search(r"[A-Z0-9]{4}-[A-Z0-9]{4}", shown)
        assert found is not None
        await here.writes(BOB, found[0], chat="bobs")
        await here.statuses("withdrawn")
        await here.reads("bobs", "echo: hello")
        await assert_clean(here.flow)


@pytest.mark.behaviour("AP-04", "AP-06")
async def test_a_press_on_an_old_card_decides_nothing_of_a_newer_request_about_the_same(tmp_path: Path) -> None:
    async with hall(tmp_path) as here:
        await here.writes(BOB, "hello")
        old = await here.card()
        await at_the_machine(here, "approvals deny", id=(await here.approvals())[0].id)
        await at_the_machine(here, "rules delete", id=1)
        await here.writes(BOB, "please?")
        await here.statuses("denied", "pending")
        await here.presses(OLGA, old, "Let them in")
        await here.reads(OLGAS, "Denied already")
        await here.statuses("denied", "pending")
        await here.presses(OLGA, await here.card(), "Let them in")
        await here.reads("c1", "echo: please?")


@pytest.mark.behaviour("AP-08", "AP-10")
async def test_what_is_settled_while_no_host_runs_goes_on_when_one_does(tmp_path: Path) -> None:
    fake = AbleChannel()
    async with hall(tmp_path, fake=fake) as here:
        await here.writes(BOB, "hello")
        await here.card()
        home = here.flow.home
    async with opened_store(home, durable=False) as store:
        context = CommandContext(home=home, settings=scripted_settings(), clock=SystemClock(), store=store)
        await find("members create").call(context, {"user": "fake:bob", "group": "main"})
    async with hall(tmp_path, fake=fake) as here:
        await here.statuses("withdrawn")
        await here.reads("c1", "echo: hello")
        await until(lambda: len(fake.edits) == 1)
        await assert_clean(here.flow)


@pytest.fixture
def broken_sender() -> Iterator[None]:
    """A kind whose look at what is settled writes half of something, and falls over."""

    async def falls_over(lapsed: Lapsed) -> str | None:
        await users.seen(lapsed.tx, "fake:half", name="Half", now=lapsed.now)
        raise LookupError("a mistake in an extension")

    whole = kinds()["sender"]
    kinds()["sender"] = replace(whole, settled=falls_over)
    yield
    kinds()["sender"] = whole


@pytest.mark.usefixtures("broken_sender")
@pytest.mark.behaviour("AP-10")
async def test_a_kind_that_falls_over_keeps_nobody_from_deciding_about_another(tmp_path: Path) -> None:
    async with hall(tmp_path) as here:
        await here.writes(BOB, "hello")
        await here.card()
        await here.writes(CARL, "hello", chat="g1", group=True)
        await here.presses(OLGA, await here.card(2), "Connect to main")
        await here.reads("g1", "echo: hello")
        await here.statuses("pending", "approved")
        assert await users.find(here.flow.host.store, "fake:half") is None
        await assert_clean(here.flow)

"""Requests that no longer need a decision: they are withdrawn, and the card says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nanohost.approvals.held_messages import NOT_APPROVED_TEXT
from nanohost.approvals.kind import ExpiryContext
from nanohost.approvals.registry import approval_kinds
from nanohost.approvals.requests import MAX_OPEN_PER_SENDER
from nanohost.channel_api import Attachment, InboundEvent
from nanohost.clock import SystemClock
from nanohost.commands.context import CommandContext
from nanohost.commands.registry import find_command
from nanohost.commands.wirings import UNWIRED_REASON
from nanohost.db import audit, dropped, routes, users, wirings
from nanohost.db.audit import AuditOutcome
from nanohost.db.open import open_home_store
from nanohost.testing.full_channel import FullFeatureChannel
from tests.approvals.harness import BOB, CARL, OLGA, OLGA_DM, ApprovalsTestHost, run_approvals_host
from tests.support.flow import scripted_settings
from tests.support.invariants import assert_clean, wait_until


async def run_operator_command(here: ApprovalsTestHost, words: str, **arguments: object) -> str:
    """The output of an operator command."""
    host = here.host.host
    context = CommandContext(
        home=here.host.home, settings=scripted_settings(), clock=host.clock, store=host.store, host=host
    )
    command = find_command(words)
    return command.render(await command.execute(context, arguments))


@pytest.mark.behaviour("AP-05", "AP-10")
async def test_an_unknown_sender_who_is_given_a_role_needs_no_approval(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "one")
        await here.write_message(BOB, "two")
        card = await here.card()
        await run_operator_command(here, "roles create", user="fake:bob", role="member", group="main")
        await here.wait_for_statuses("withdrawn")
        await here.wait_for_text("c1", "two")
        assert here.host.texts("c1")[-2:] == ["echo: one", "echo: two"]
        await wait_until(lambda: len(here.fake.edits) == 1)
        assert "Settled" in here.fake.edits[0][1]
        assert "may talk to main already, without an approval" in here.fake.edits[0][1]
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_text(OLGA_DM, "Settled already")
        [record] = await audit.latest(here.host.host.store.reports, limit=9, action="approval.withdrawn")
        assert record.outcome is AuditOutcome.DONE
        await assert_clean(here.host)


@pytest.mark.behaviour("AP-10")
async def test_a_role_for_another_agent_withdraws_no_request(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.host.ensure_group("other")
        await here.write_message(BOB, "hello")
        await here.card()
        await run_operator_command(here, "roles create", user="fake:bob", role="member", group="other")
        await here.wait_for_statuses("pending")


@pytest.mark.behaviour("AP-10")
async def test_making_a_chat_public_withdraws_requests_about_its_senders(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        await here.card()
        await run_operator_command(here, "chats update", id=1, unknown="public")
        await here.wait_for_statuses("withdrawn")
        await here.wait_for_text("c1", "echo: hello")


@pytest.mark.behaviour("AP-10")
async def test_linking_an_unknown_sender_to_an_owner_withdraws_the_request(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        store, now = here.host.host.store, here.host.host.clock.now()
        async with store.transaction() as tx:
            await users.record_seen(tx, "fake:olga", name="Olga", now=now)
        await here.write_message(BOB, "hello")
        await here.card()
        await run_operator_command(here, "users link", user="fake:bob", other="fake:olga")
        await here.wait_for_statuses("withdrawn")
        await here.wait_for_text("c1", "echo: hello")


@pytest.mark.behaviour("AP-10", "RT-08")
async def test_wiring_a_chat_withdraws_its_request_and_asks_about_its_senders(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        await here.write_message(BOB, "hello", chat="new")
        await here.card()
        await run_operator_command(here, "wirings create", channel="fake", chat="new", group="main")
        await here.wait_for_statuses("withdrawn", "pending")
        card = await here.card_with_button("Let them in")
        assert "talk to" in card.text
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_text("new", "echo: hello")


@pytest.mark.behaviour("AP-10", "RT-08")
async def test_deleting_an_unknown_chat_withdraws_its_request(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        await here.write_message(BOB, "hello", chat="new")
        await here.card()
        await run_operator_command(here, "chats delete", id=1)
        await here.wait_for_statuses("withdrawn")
        assert await here.host.host.store.fetch_all("SELECT 1 FROM inbound_events WHERE status = 'held'") == []
        await here.wait_for_text("new", NOT_APPROVED_TEXT)


@pytest.mark.behaviour("AP-10", "RT-10")
async def test_deleting_a_wiring_withdraws_its_requests_and_records_the_held_messages(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
        [wiring] = await wirings.list_all(here.host.host.store)
        await run_operator_command(here, "wirings delete", id=wiring.id)
        await here.wait_for_statuses("withdrawn")
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_text(OLGA_DM, "Settled already")
        found = await here.host.host.store.fetch_all("SELECT * FROM roles WHERE user_id = 'fake:bob'")
        assert found == []
        await here.wait_for_text("c1", NOT_APPROVED_TEXT)
        [lost] = await dropped.latest(here.host.host.store.reports, limit=9)
        assert (lost.user_id, lost.reason, lost.agent_group, lost.count) == ("fake:bob", UNWIRED_REASON, "main", 1)
        await assert_clean(here.host)


@pytest.mark.behaviour("AP-10")
async def test_an_approval_withdraws_other_requests_about_the_same_person(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "first")
        await here.card()
        await here.write_message(BOB, "second", chat="new")
        await here.wait_for_statuses("pending", "pending")
        store = here.host.host.store
        [about_bob, about_chat] = (await here.approvals())[::-1]
        assert (about_bob.kind, about_chat.kind) == ("sender", "chat")
        await here.press_button(OLGA, await here.card(2), "Connect to main")
        await here.wait_for_statuses("withdrawn", "approved")
        await here.wait_for_text("c1", "echo: first")
        await here.wait_for_text("new", "echo: second")
        assert await routes.list_held(store, about_bob.id) == []
        await assert_clean(here.host)


@pytest.mark.behaviour("AP-10")
async def test_attachments_of_held_messages_are_fetched_and_order_is_kept(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        here.fake.files["f1"] = b"the plan"
        file = Attachment(ref="f1", name="plan.txt", media_type="text/plain", size=8)
        for number in range(3):
            await here.fake.emit_event(
                InboundEvent(
                    platform_id="c1",
                    platform_message_id=f"held{number}",
                    sender=BOB,
                    text=f"n{number}",
                    sent_at=datetime.now(UTC),
                    attachments=(file,) if number == 1 else (),
                )
            )
        await here.press_button(OLGA, await here.card(), "Let them in")
        await here.write_message(BOB, "n3")
        await here.wait_for_text("c1", "echo: n3")
        said = [text[:8] for text in here.host.texts("c1") if text.startswith("echo")]
        assert said == [f"echo: n{number}" for number in range(4)]
        session = await here.host.session()
        folder = here.host.layout(session).root
        assert [one.read_bytes() for one in folder.rglob("plan.txt")] == [b"the plan"]


@pytest.mark.behaviour("AP-01", "AP-03")
async def test_when_the_approver_loses_the_role_the_next_one_is_asked(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        card = await here.card()
        assert card.address.platform_id == OLGA_DM
        await run_operator_command(here, "roles create", user="fake:carl", role="owner")
        await run_operator_command(here, "roles delete", user="fake:olga", role="owner")
        second = await here.card(2)
        assert second.address.platform_id == "dm-carl"
        await here.press_button(OLGA, card, "Let them in")
        await here.wait_for_text(OLGA_DM, "not yours to decide")
        await here.press_button(CARL, second, "Let them in")
        await here.wait_for_text("c1", "echo: hello")


@pytest.mark.behaviour("AP-10")
async def test_an_unknown_sender_in_many_groups_leaves_room_for_requests_of_others(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        for number in range(25):
            await here.write_message(BOB, "hey", chat=f"group{number}", group=True)
        await here.write_message(CARL, "may I?", chat="carls")
        await here.wait_for_statuses(*["pending"] * (MAX_OPEN_PER_SENDER + 1))
        assert (await here.approvals())[0].requested_by == "fake:carl"


@pytest.mark.behaviour("OP-01", "AP-01")
async def test_status_lists_pending_approvals_with_the_approver_and_the_command_to_type(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        await here.card()
        [one] = await here.approvals()
        shown = await run_operator_command(here, "status")
        assert f"nanohost approvals get {one.id} shows it; then approve {one.id}" in shown
        [line] = [line for line in shown.splitlines() if line.strip().startswith(one.id)]
        for said in ("sender", "fake:bob", "fake:olga"):
            assert said in line
        assert re.search(r"in [23] d", line), "until when"
        assert "approvals open: 1" in shown


@pytest.mark.behaviour("AP-01", "SE-12")
async def test_requests_are_decided_during_a_pause_and_approved_messages_are_answered_after_it(
    tmp_path: Path,
) -> None:
    async with run_approvals_host(tmp_path) as here:
        await run_operator_command(here, "pause")
        await here.write_message(BOB, "hello")
        await here.press_button(OLGA, await here.card(), "Let them in")
        await here.wait_for_statuses("approved")
        await wait_until(lambda: len(here.fake.edits) == 1)
        assert not any("echo" in text for text in here.host.texts())
        await run_operator_command(here, "resume")
        await here.wait_for_text("c1", "echo: hello")


@pytest.mark.behaviour("AC-01", "AP-10")
async def test_an_unknown_sender_who_becomes_owner_by_a_code_needs_no_approval(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path, is_wired=False) as here:
        await here.write_message(BOB, "hello", chat="bobs")
        await here.card()
        shown = await run_operator_command(here, "pair", channel="fake")
        found = re.search(r"[A-Z0-9]{4}-[A-Z0-9]{4}", shown)
        assert found is not None
        await here.write_message(BOB, found[0], chat="bobs")
        await here.wait_for_statuses("withdrawn")
        await here.wait_for_text("bobs", "echo: hello")
        await assert_clean(here.host)


@pytest.mark.behaviour("AP-04", "AP-06")
async def test_a_press_on_an_old_card_does_not_decide_a_newer_request_about_the_same_sender(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        old = await here.card()
        await run_operator_command(here, "approvals deny", id=(await here.approvals())[0].id)
        await run_operator_command(here, "rules delete", id=1)
        await here.write_message(BOB, "please?")
        await here.wait_for_statuses("denied", "pending")
        await here.press_button(OLGA, old, "Let them in")
        await here.wait_for_text(OLGA_DM, "Denied already")
        await here.wait_for_statuses("denied", "pending")
        await here.press_button(OLGA, await here.card(), "Let them in")
        await here.wait_for_text("c1", "echo: please?")


@pytest.mark.behaviour("AP-08", "AP-10")
async def test_a_request_settled_while_the_host_was_down_continues_at_the_next_start(tmp_path: Path) -> None:
    fake = FullFeatureChannel()
    async with run_approvals_host(tmp_path, fake=fake) as here:
        await here.write_message(BOB, "hello")
        await here.card()
        home = here.host.home
    async with open_home_store(home, durable=False) as store:
        context = CommandContext(home=home, settings=scripted_settings(), clock=SystemClock(), store=store)
        await find_command("roles create").execute(context, {"user": "fake:bob", "role": "member", "group": "main"})
    async with run_approvals_host(tmp_path, fake=fake) as here:
        await here.wait_for_statuses("withdrawn")
        await here.wait_for_text("c1", "echo: hello")
        await wait_until(lambda: len(fake.edits) == 1)
        await assert_clean(here.host)


@pytest.fixture
def broken_sender() -> Iterator[None]:
    """A kind that writes half of its changes when it looks for settled requests, and then raises."""

    async def falls_over(lapsed: ExpiryContext) -> str | None:
        await users.record_seen(lapsed.tx, "fake:half", name="Half", now=lapsed.now)
        raise LookupError("a mistake in an extension")

    whole = approval_kinds()["sender"]
    approval_kinds()["sender"] = replace(whole, resolve_obsolete=falls_over)
    yield
    approval_kinds()["sender"] = whole


@pytest.mark.usefixtures("broken_sender")
@pytest.mark.behaviour("AP-10")
async def test_a_kind_that_raises_does_not_block_decisions_of_another_kind(tmp_path: Path) -> None:
    async with run_approvals_host(tmp_path) as here:
        await here.write_message(BOB, "hello")
        await here.card()
        await here.write_message(CARL, "hello", chat="g1", group=True)
        await here.press_button(OLGA, await here.card(2), "Connect to main")
        await here.wait_for_text("g1", "echo: hello")
        await here.wait_for_statuses("pending", "approved")
        assert await users.find(here.host.host.store, "fake:half") is None
        await assert_clean(here.host)

"""/approve and /deny: decisions without a button."""

from __future__ import annotations

import pytest

from nanohost.approvals.requests import PendingApproval, request_sender_approval
from nanohost.channel_api import InboundEvent, Sender
from nanohost.commands.setup import ensure_chat, parse_chat_address
from nanohost.db import agent_groups, approvals, roles
from nanohost.db.approvals import ApprovalStatus
from nanohost.db.events import ChatKey, StoredEvent
from nanohost.model import ApprovalId, EventId, Role
from tests.access.harness import AccessTestHost

ADA, BOB, EVE = "telegram:ada", "telegram:bob", "telegram:eve"


@pytest.mark.parametrize("typed", ["/approve k3f7qd", "/deny k3f7qd not now"])
async def test_only_admins_can_type_decisions_and_unknown_senders_get_no_reply(
    host: AccessTestHost, typed: str
) -> None:
    await host.run_command("roles create", user=BOB, role="member")
    assert await host.receive_message(BOB, typed)
    assert await host.host_messages_to(BOB) == [f"Only an admin may use {typed.split()[0]}."]
    assert not await host.receive_message(EVE, typed)
    assert await host.host_messages_to(EVE) == []


async def test_a_missing_approval_id_is_asked_for_with_an_example(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    await host.receive_message(ADA, "/approve")
    await host.receive_message(ADA, "/deny")
    assert await host.host_messages_to(ADA) == [
        "/approve needs the id that is on the card.\nTry: /approve k3f7qd",
        "/deny needs the id that is on the card.\nTry: /deny k3f7qd not before Monday",
    ]


async def asked_about_eve(hall: AccessTestHost) -> str:
    """The id of a pending approval: whether Eve may talk to main."""
    await hall.make_group("main")
    now = hall.clock.now()
    sender = Sender(handle="eve", name="Eve")
    event = InboundEvent(platform_id="eve", platform_message_id="1", sender=sender, text="hello", sent_at=now)
    stored = StoredEvent(
        id=EventId(1), chat=ChatKey("telegram", "default", "eve"), event=event, received_at=event.sent_at
    )
    agent = await agent_groups.find(hall.store, "main")
    assert agent is not None
    async with hall.store.transaction() as tx:
        chat = await ensure_chat(tx, parse_chat_address("telegram", "eve"), unknown=None, now=now)
        held = await request_sender_approval(tx, stored=stored, group=chat, agent_group=agent, now=now)
    assert isinstance(held, PendingApproval)
    return held.id


async def test_a_typed_approval_approves(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    id = await asked_about_eve(host)
    await host.receive_message(ADA, f"/approve {id.upper()}")
    assert {grant.role for grant in await roles.list_for_user(host.store, EVE)} == {Role.MEMBER}
    await host.receive_message(ADA, f"/deny {id} too late")
    [yes, no] = await host.host_messages_to(ADA)
    assert "Approved by `Ada`" in yes, yes
    assert "already" in no, no
    found = await approvals.find(host.store, ApprovalId(id))
    assert found is not None
    assert (found.status, found.decided_by) == (ApprovalStatus.APPROVED, ADA)


async def test_a_typed_denial_takes_the_rest_of_the_line_as_its_reason(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    id = await asked_about_eve(host)
    await host.receive_message(ADA, f"/deny {id} we do not  know her")
    found = await approvals.find(host.store, ApprovalId(id))
    assert found is not None
    assert (found.status, found.reason) == (ApprovalStatus.DENIED, "we do not  know her")
    assert await roles.list_for_user(host.store, EVE) == []


async def test_somebody_without_the_right_to_decide_gets_the_same_reply_as_for_an_unknown_id(
    host: AccessTestHost,
) -> None:
    await host.make_owner(ADA)
    id = await asked_about_eve(host)
    await host.make_group("work")
    await host.run_command("roles create", user=BOB, role="admin", group="work")
    await host.receive_message(BOB, f"/approve {id}")
    await host.receive_message(BOB, "/approve zzzzzz")
    [theirs, none] = await host.host_messages_to(BOB)
    assert theirs.replace(id, "zzzzzz") == none
    assert await roles.list_for_user(host.store, EVE) == []


async def test_a_decision_can_be_typed_only_in_a_direct_message(host: AccessTestHost) -> None:
    await host.make_owner(ADA)
    id = await asked_about_eve(host)
    await host.receive_message(ADA, f"/approve {id}", group="family", mentions=True)
    [said] = await host.host_messages_to("telegram:family")
    assert "direct message" in said
    assert await roles.list_for_user(host.store, EVE) == []

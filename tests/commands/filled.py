"""An install in which every resource has a row."""

from __future__ import annotations

import json
from datetime import timedelta

from nanohost.approvals.card import compute_digest
from nanohost.approvals.kinds import sender
from nanohost.channel_api import InboundEvent, Sender
from nanohost.db import agent_groups, approvals, dropped, events, users
from nanohost.db.approvals import Approval
from nanohost.db.events import ChatKey
from nanohost.model import ApprovalId
from nanohost_protocol.rows import Origin
from tests.commands.conftest import Operator

ANN, ANN_AT_WORK, EVE = "telegram:1", "slack:U1", "telegram:666"


async def fill_resources(operator: Operator) -> None:
    """Ann has two identities, Eve was denied, an agent has a destination, and an approval is pending."""
    await operator.run("agents create", folder="main")
    await operator.run("wirings create", channel="telegram", chat="1", group="main")
    await operator.run("roles create", user=ANN, role="owner")
    await operator.run("roles create", user="discord:9", role="member", group="main")
    await operator.run("destinations create", group="main", name="family", channel="slack:two", chat="C1")
    await operator.run("rules create", kind="sender", effect="deny", subject="telegram:13", group="main", until="30d")
    await _record_contacts(operator)
    await _request_approval(operator)
    await _write(operator)


async def _write(operator: Operator) -> None:
    now = operator.context.clock.now()
    event = InboundEvent(
        platform_id="1", platform_message_id="m1", sender=Sender(handle="1", name="Ann"), text="hello", sent_at=now
    )
    async with operator.context.store.transaction() as tx:
        await events.add(tx, ChatKey("telegram", "default", "1"), event, now=now)


async def _record_contacts(operator: Operator) -> None:
    now = operator.context.clock.now()
    async with operator.context.store.transaction() as tx:
        for user, name in ((ANN, "Ann"), (ANN_AT_WORK, "ann.b"), (EVE, "Eve")):
            await users.record_seen(tx, user, name=name, now=now)
        await users.save_dm(tx, ANN, Origin(channel_type="telegram", instance="default", platform_id="1"), now)
        for _ in range(3):
            await dropped.record(tx, ChatKey("telegram", "default", "1"), EVE, "no role", now=now, agent_group="main")


async def _request_approval(operator: Operator) -> None:
    now = operator.context.clock.now()
    main = await agent_groups.find(operator.context.store, "main")
    assert main is not None
    shown, payload = "Eve wants to talk to main", json.dumps({"user": EVE, "name": "Eve", "agent_group": "main"})
    asked = Approval(
        id=ApprovalId("k3f7qd"),
        kind="sender",
        subject=f"{EVE} main",
        agent_group_id=main.id,
        rendered_text=shown,
        options=(sender.APPROVE_LABEL, sender.REFUSE_LABEL),
        payload=payload,
        requested_by=EVE,
        origin=Origin(channel_type="telegram", instance="default", platform_id="1"),
        session_id=None,
        seq=None,
        created_at=now,
        expires_at=now + timedelta(days=1),
        digest=compute_digest(shown, payload),
    )
    async with operator.context.store.transaction() as tx:
        assert await approvals.add(tx, asked)
        await approvals.add_card(tx, asked.id, ANN, seq=None, problem="nobody knows where to write to them", now=now)

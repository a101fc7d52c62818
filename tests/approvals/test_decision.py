"""The decision itself, in one transaction: who may make it, and until when."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import partial
from pathlib import Path

import pytest

from nanohost.approvals.card import compute_digest
from nanohost.approvals.decision import (
    ApprovalDecision,
    ApprovalNotFound,
    decide,
    decide_by_button,
    find_approval_problem,
)
from nanohost.chat_commands.host_command import Actor
from nanohost.db import roles
from nanohost.db.actions import ActionRow
from nanohost.db.approvals import Approval, ApprovalStatus
from nanohost.db.roles import RoleGrant
from nanohost.errors import UsageError
from nanohost.model import AgentGroupId, ApprovalId, Role, SessionId
from nanohost.testing.manual_clock import START
from tests.approvals.harness import BOB, ApprovalsTestHost, run_approvals_host

YES = "Let them in"
OTHER = AgentGroupId(99)


def _grant(role: Role, group: AgentGroupId | None = None) -> RoleGrant:
    return RoleGrant(user_id="fake:carl", role=role, agent_group_id=group, granted_at=START)


def _actor(*grants: RoleGrant) -> Actor:
    return Actor(id="fake:carl", name="Carl", grants=grants)


async def _pending_approval(here: ApprovalsTestHost) -> Approval:
    await here.write_message(BOB, "hello")
    await here.card()
    [approval] = await here.wait_for_statuses("pending")
    return approval


class Way(Enum):
    PRESS_YES = auto()
    PRESS_NO = auto()
    TYPE_YES = auto()
    TYPE_NO = auto()


async def _decide(here: ApprovalsTestHost, way: Way, approval: Approval, actor: Actor, now: datetime) -> str:
    async with here.host.host.store.transaction() as tx:
        by = partial(decide_by_button, tx, approval.id, actor=actor, now=now, zone=UTC)
        typed = partial(decide, tx, approval.id, actor=actor, now=now, zone=UTC)
        match way:
            case Way.PRESS_YES:
                return await by(number=1)
            case Way.PRESS_NO:
                return await by(number=len(approval.options))
            case Way.TYPE_YES:
                return await typed(decision=ApprovalDecision.APPROVE, choice=YES)
            case Way.TYPE_NO:
                return await typed(decision=ApprovalDecision.DENY)


@pytest.mark.behaviour("AP-03")
@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("grants", [(), (_grant(Role.MEMBER),), (_grant(Role.ADMIN, OTHER),)])
async def test_nobody_without_a_suitable_role_can_decide(
    tmp_path: Path, way: Way, grants: tuple[RoleGrant, ...]
) -> None:
    async with run_approvals_host(tmp_path) as here:
        approval = await _pending_approval(here)
        with pytest.raises(ApprovalNotFound):
            await _decide(here, way, approval, _actor(*grants), approval.created_at)
        assert [one.status for one in await here.approvals()] == [ApprovalStatus.PENDING]
        assert not await roles.list_for_user(here.host.host.store, "fake:bob")


@pytest.mark.behaviour("AP-06")
@pytest.mark.parametrize("way", Way)
async def test_nothing_can_be_decided_from_the_expiry_time_on(tmp_path: Path, way: Way) -> None:
    """Closing an expired approval may be late; the card is no longer valid nevertheless."""
    async with run_approvals_host(tmp_path) as here:
        approval, owner = await _pending_approval(here), _actor(_grant(Role.OWNER))
        with pytest.raises(UsageError, match="expired"):
            await _decide(here, way, approval, owner, approval.expires_at)
        assert [one.status for one in await here.approvals()] == [ApprovalStatus.PENDING]
        await _decide(here, way, approval, owner, approval.expires_at - timedelta(seconds=1))
        assert [one.status for one in await here.approvals()] != [ApprovalStatus.PENDING]


ROW = ActionRow(
    session_id=SessionId("s1"),
    seq=3,
    out_id="o1",
    name="tasks.create",
    arguments='{"prompt":"look"}',
    origin=None,
    requested_at=START,
    created_at=START,
)
PAYLOAD = json.dumps({"action": ROW.name, "arguments": ROW.arguments})
YES_TO_IT = Approval(
    id=ApprovalId("a1"),
    kind="action",
    subject="o1",
    agent_group_id=AgentGroupId(1),
    rendered_text="It wants to look.",
    options=("Allow", "Deny"),
    payload=PAYLOAD,
    requested_by="agent:s1",
    origin=None,
    session_id=ROW.session_id,
    seq=ROW.seq,
    created_at=START,
    expires_at=START + timedelta(days=1),
    digest=compute_digest("It wants to look.", PAYLOAD),
    status=ApprovalStatus.APPROVED,
)


@pytest.mark.behaviour("AP-05")
def test_an_approval_of_exactly_this_request_lets_it_run() -> None:
    assert find_approval_problem(YES_TO_IT, ROW) is None


@pytest.mark.behaviour("AP-05")
@pytest.mark.parametrize("status", [one for one in ApprovalStatus if one is not ApprovalStatus.APPROVED])
def test_a_request_that_is_not_approved_does_not_run_whatever_its_status(status: ApprovalStatus) -> None:
    assert find_approval_problem(replace(YES_TO_IT, status=status), ROW) == "nobody has approved it"


@pytest.mark.behaviour("AP-05")
@pytest.mark.parametrize(
    ("approval", "row"),
    [
        (None, ROW),
        (YES_TO_IT, replace(ROW, session_id=SessionId("s2"))),
        (YES_TO_IT, replace(ROW, seq=5)),
        (YES_TO_IT, replace(ROW, name="tasks.cancel")),
        (YES_TO_IT, replace(ROW, arguments='{"prompt":"look "}')),
        (replace(YES_TO_IT, rendered_text="It wants to listen."), ROW),
        (replace(YES_TO_IT, payload=PAYLOAD + " "), ROW),
    ],
)
def test_an_approval_of_another_request_does_not_count(approval: Approval | None, row: ActionRow) -> None:
    assert find_approval_problem(approval, row) is not None

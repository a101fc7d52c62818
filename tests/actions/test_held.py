"""Requests that need approval: held, decided, checked again, carried out once and reported."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, timedelta

import pytest

from nanohost.actions import registry
from nanohost.actions.approval_requests import MAX_OPEN_REQUESTS, MAX_UNSUCCESSFUL, UNSUCCESSFUL_WINDOW
from nanohost.actions.registry import Action, ActionRequest, Arguments
from nanohost.approvals import unknown_kind
from nanohost.approvals.decision import ApprovalDecision, ApprovalNotFound, decide, decide_by_button
from nanohost.approvals.obsolete import withdraw_obsolete
from nanohost.approvals.requests import NO_APPROVERS
from nanohost.approvals.result import ApprovalResult, close_undecided
from nanohost.chat_commands.host_command import Actor
from nanohost.db import agent_groups, approvals, audit, destinations, messaging_groups, paused, roles, rules, wirings
from nanohost.db.approvals import ApprovalStatus
from nanohost.db.database import Transaction
from nanohost.db.rules import RuleEffect
from nanohost.errors import UsageError
from nanohost.guard.guard import Guard, Permission
from nanohost.model import ApprovalId, EngageMode, MessagingGroupId, Role, SessionMode, UnknownSender
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost_protocol.times import to_text
from tests.actions.conftest import ActionsHarness
from tests.support.requests import list_requests

ALLOW, ONCE, MONTH = "Allow", "Allow once", "Allow for 30 days"
OWNER = Actor(id="fake:owner", name="Olga", is_local=True)


class Wish(Arguments):
    word: str


async def _grant(tx: Transaction, request: ActionRequest, wish: Wish) -> None:
    del request
    if wish.word == "impossible":
        raise UsageError("it cannot be")
    await tx.execute("UPDATE agent_groups SET name = name || ? WHERE folder = 'main'", (f" {wish.word}",))


@pytest.fixture(autouse=True)
def wish() -> Iterator[None]:
    """One more registered action, which needs approval."""
    registry.registered_actions()["wish"] = Action(
        name="wish", title="Make a wish come true", arguments=Wish, effect=_grant, default_permission=Permission.HOLD
    )
    yield
    registry.registered_actions.cache_clear()


@pytest.fixture(autouse=True)
async def owner(harness: ActionsHarness) -> None:
    """Add an owner, who may decide."""
    async with harness.store.transaction() as tx:
        await roles.grant(tx, user_id="fake:owner", role=Role.OWNER, agent_group=None, now=harness.clock.now())


def wish_arguments(word: str) -> str:
    return json.dumps({"word": word})


async def granted_wishes(bench: ActionsHarness) -> list[str]:
    """The wishes that were carried out."""
    [row] = await bench.store.fetch_all("SELECT name FROM agent_groups WHERE folder = 'main'")
    return str(row["name"]).split()[1:]


async def request_wish(bench: ActionsHarness, word: str = "gold") -> ApprovalId:
    """Request a wish that is held; returns its approval."""
    await bench.request_action("wish", wish_arguments(word))
    await bench.run_all()
    return bench.notified_approvals[-1]


async def decide_approval(
    bench: ActionsHarness, approval: ApprovalId, choice: str | None, *, reason: str = "", actor: Actor = OWNER
) -> None:
    """Decide an approval: with one of the choices, or None to deny."""
    async with bench.store.transaction() as tx:
        await decide(
            tx,
            approval,
            actor=actor,
            decision=ApprovalDecision.APPROVE if choice else ApprovalDecision.DENY,
            choice=choice,
            reason=reason,
            now=bench.clock.now(),
            zone=UTC,
        )


async def outcomes(bench: ActionsHarness) -> list[str]:
    """The audit outcomes of the wishes, oldest first."""
    found = await audit.latest(bench.store.reports, limit=100, action="wish")
    return [str(one.outcome) for one in reversed(found)]


@pytest.mark.behaviour("AP-05", "AP-07")
async def test_a_held_request_blocks_nothing_and_runs_when_approved(
    harness: ActionsHarness,
) -> None:
    approval = await request_wish(harness)
    await harness.request_action("tasks.cancel", '{"id": "j1"}')
    await harness.run_all()
    assert (await harness.statuses(), await granted_wishes(harness)) == (["held", "refused"], [])
    await decide_approval(harness, approval, ONCE)
    assert harness.requesting_sessions == [harness.session.id]
    assert (await harness.statuses(), await granted_wishes(harness)) == (["pending", "refused"], [])
    await harness.run_all()
    await harness.run_all()
    assert (await harness.statuses(), await granted_wishes(harness)) == (["done", "refused"], ["gold"])
    assert harness.agent_messages()[-1] == "Your request wish was approved and is done."
    assert harness.notices()[-1].trigger is True
    assert await outcomes(harness) == ["held", "done"]
    [held, done] = reversed(await audit.latest(harness.store.reports, limit=10, action="wish"))
    assert {held.target, done.target} == {approval}
    assert done.actor == f"agent:{harness.session.id}"
    assert (done.origin, done.details["arguments"]) == ("fake:c1", wish_arguments("gold"))


@pytest.mark.behaviour("AP-07")
async def test_a_denial_is_reported_with_its_reason_and_wakes_the_agent(harness: ActionsHarness) -> None:
    await decide_approval(harness, await request_wish(harness), None, reason="gold is dear")
    await harness.run_all()
    assert (await harness.statuses(), await granted_wishes(harness)) == (["refused"], [])
    assert harness.agent_messages() == [
        "Your request wish was refused: a person denied it: gold is dear. Nothing was changed."
    ]
    assert harness.woken_sessions == [harness.session.id]


@pytest.mark.behaviour("AP-07")
async def test_nobody_is_asked_about_an_impossible_request(harness: ActionsHarness) -> None:
    await harness.request_action("wish", wish_arguments("impossible"))
    await harness.request_action("wish", '{"wish": 1}')
    await harness.run_all()
    assert (await harness.statuses(), harness.notified_approvals) == (["refused", "refused"], [])
    assert "it cannot be" in harness.agent_messages()[0]
    assert await outcomes(harness) == ["refused", "refused"]


@pytest.mark.behaviour("AP-05")
@pytest.mark.parametrize("column", ["arguments", "name"])
async def test_a_request_that_differs_from_its_card_is_refused_and_audited(
    harness: ActionsHarness, column: str
) -> None:
    approval = await request_wish(harness)
    await decide_approval(harness, approval, ONCE)
    other = {"arguments": '{"word":  "gold"}', "name": "tasks.pause"}[column]
    async with harness.store.transaction() as tx:
        await tx.execute(f"UPDATE actions SET {column} = ?", (other,))
        if column == "name":
            await tx.execute("UPDATE actions SET arguments = ?", ('{"id": "j1"}',))
    await harness.run_all()
    assert (await harness.statuses(), await granted_wishes(harness)) == (["refused"], [])
    [latest] = await audit.latest(harness.store.reports, limit=1, target=approval)
    assert (latest.outcome, latest.action) == ("refused", "wish" if column == "arguments" else "tasks.pause")
    assert "was refused" in harness.agent_messages()[-1]


@pytest.mark.behaviour("AP-05")
async def test_a_request_changed_before_its_approval_does_not_run(harness: ActionsHarness) -> None:
    approval = await request_wish(harness)
    async with harness.store.transaction() as tx:
        await tx.execute("UPDATE actions SET arguments = ?", (wish_arguments("lead"),))
    await decide_approval(harness, approval, ONCE)
    found = await approvals.find(harness.store, approval)
    await harness.run_all()
    assert found is not None
    assert found.status is ApprovalStatus.FAILED
    assert (await harness.statuses(), await granted_wishes(harness)) == (["refused"], [])


GONE = {
    "it was settled meanwhile": "UPDATE actions SET status = 'refused', reason = 'no', notified = 1",
    "it waits for another approval": "UPDATE actions SET approval_id = 'other'",
    "it is not there any more": "DELETE FROM actions",
}
"""What may have happened to a request before it is approved."""


@pytest.mark.behaviour("AP-05")
@pytest.mark.parametrize("became", GONE)
async def test_approving_a_request_that_no_longer_waits_fails_with_a_reason(
    harness: ActionsHarness, became: str
) -> None:
    approval = await request_wish(harness)
    found = await approvals.find(harness.store, approval)
    assert found is not None
    async with harness.store.transaction() as tx:
        await approvals.add(tx, replace(found, id=ApprovalId("other"), subject="something else"))
        await tx.execute(GONE[became])
    await decide_approval(harness, approval, ONCE)
    await harness.run_all()
    found = await approvals.find(harness.store, approval)
    assert found is not None
    assert (found.status, found.reason) == (ApprovalStatus.FAILED, "the request does not wait any more")
    assert await granted_wishes(harness) == []


@pytest.mark.behaviour("AP-05")
async def test_approving_a_request_of_a_deleted_agent_fails_with_a_reason(harness: ActionsHarness) -> None:
    approval = await request_wish(harness)
    async with harness.store.transaction() as tx:
        await tx.execute("UPDATE approvals SET agent_group_id = NULL")
    await decide_approval(harness, approval, ONCE)
    await harness.run_all()
    found = await approvals.find(harness.store, approval)
    assert found is not None
    assert (found.status, found.reason) == (ApprovalStatus.FAILED, "the agent that asked is gone")
    assert await granted_wishes(harness) == []


@pytest.mark.behaviour("AP-05")
async def test_approving_a_request_that_was_changed_fails_before_any_effect(
    harness: ActionsHarness,
) -> None:
    approval = await request_wish(harness)
    async with harness.store.transaction() as tx:
        await tx.execute("UPDATE actions SET arguments = ?", (wish_arguments("silver"),))
    await decide_approval(harness, approval, MONTH)
    found = await approvals.find(harness.store, approval)
    assert found is not None
    assert (found.status, found.reason) == (ApprovalStatus.FAILED, "it is not what was asked about")
    assert await rules.list_all(harness.store.reports, limit=9) == [], "no permission for thirty days, either"


@pytest.mark.behaviour("AP-05")
async def test_a_deny_policy_set_after_an_approval_wins(harness: ActionsHarness) -> None:
    await decide_approval(harness, await request_wish(harness), ONCE)
    await harness.run_all(guard=Guard(policy={"wish": Permission.DENY}))
    assert (await harness.statuses(), await granted_wishes(harness)) == (["refused"], [])
    assert await outcomes(harness) == ["held", "denied"]


@pytest.mark.behaviour("AP-05")
async def test_a_denial_rule_made_after_an_approval_wins(harness: ActionsHarness) -> None:
    await decide_approval(harness, await request_wish(harness), ONCE)
    async with harness.store.transaction() as tx:
        await rules.add(
            tx,
            kind="wish",
            effect=RuleEffect.DENY,
            agent_group=None,
            subject=None,
            created_by="local:root",
            expires_at=None,
            now=harness.clock.now(),
        )
    await harness.run_all()
    assert (await harness.statuses(), await granted_wishes(harness)) == (["refused"], [])


async def rule(bench: ActionsHarness, effect: RuleEffect, *, subject: str | None = None) -> int:
    """Create a rule on the command line; returns its number."""
    now = bench.clock.now()
    async with bench.store.transaction() as tx:
        made = await rules.add(
            tx,
            kind="wish",
            effect=effect,
            agent_group=None,
            subject=subject,
            created_by="local:root",
            expires_at=None,
            now=now,
        )
        await withdraw_obsolete(tx, now=now, zone=UTC)
    return made.id


@pytest.mark.behaviour("AP-05")
async def test_a_denial_by_a_rule_is_counted_and_recorded_with_the_rule(harness: ActionsHarness) -> None:
    number = await rule(harness, RuleEffect.DENY)
    await harness.request_action("wish", wish_arguments("gold"))
    await harness.run_all()
    found = await rules.find(harness.store, number)
    assert found is not None
    assert (await harness.statuses(), found.uses, found.last_used_at) == (["refused"], 1, harness.clock.now())
    [refused] = await audit.latest(harness.store.reports, limit=1, action="wish")
    assert (refused.outcome, refused.details["rule"]) == ("denied", number)


@pytest.mark.behaviour("AP-05", "AP-07")
async def test_a_new_allow_rule_releases_waiting_requests_without_another_card(
    harness: ActionsHarness,
) -> None:
    first, second = await request_wish(harness, "gold"), await request_wish(harness, "silver")
    await decide_approval(harness, first, MONTH)
    found = await approvals.find(harness.store, second)
    assert found is not None
    assert (found.status, found.outcome) == (ApprovalStatus.WITHDRAWN, "main may do it now: there is a rule.")
    await harness.run_all()
    assert (await harness.statuses(), await granted_wishes(harness)) == (["done", "done"], ["gold", "silver"])
    assert len(harness.agent_messages()) == 2, "both had waited"
    [allowed] = await rules.list_all(harness.store.reports, limit=9)
    assert allowed.uses == 1


@pytest.mark.behaviour("AP-05", "AP-07")
async def test_a_new_denial_rule_withdraws_waiting_requests(
    harness: ActionsHarness,
) -> None:
    approval = await request_wish(harness)
    await rule(harness, RuleEffect.DENY)
    found = await approvals.find(harness.store, approval)
    assert found is not None
    assert (found.status, found.outcome) == (ApprovalStatus.WITHDRAWN, "main may not do it now: there is a rule.")
    await harness.run_all()
    assert (await harness.statuses(), await granted_wishes(harness)) == (["refused"], [])
    assert "was refused" in harness.agent_messages()[0]
    assert await outcomes(harness) == ["held", "denied"]


@pytest.mark.behaviour("AP-05")
async def test_a_rule_about_another_subject_has_no_effect(harness: ActionsHarness) -> None:
    approval = await request_wish(harness)
    await rule(harness, RuleEffect.ALLOW, subject="something else")
    found = await approvals.find(harness.store, approval)
    assert found is not None
    assert (found.status, await harness.statuses()) == (ApprovalStatus.PENDING, ["held"])


@pytest.mark.behaviour("AP-05", "AP-08")
async def test_a_rule_revoked_before_its_use_makes_the_request_ask_again(
    harness: ActionsHarness,
) -> None:
    approval = await request_wish(harness)
    number = await rule(harness, RuleEffect.ALLOW)
    async with harness.store.transaction() as tx:
        await rules.end(tx, number, ended_by="local:root", now=harness.clock.now())
    await harness.run_all()
    assert (await harness.statuses(), await granted_wishes(harness)) == (["held"], [])
    [row] = await list_requests(harness.store, harness.session.id)
    assert row.approval_id not in (None, approval)


@pytest.mark.behaviour("AP-05")
async def test_a_removed_action_is_refused_after_its_approval(harness: ActionsHarness) -> None:
    await decide_approval(harness, await request_wish(harness), ONCE)
    del registry.registered_actions()["wish"]
    await harness.run_all()
    assert "there is no action 'wish'" in harness.agent_messages()[0]
    assert await outcomes(harness) == ["held", "refused"]


@pytest.mark.behaviour("AP-05")
async def test_a_request_that_became_impossible_after_its_approval_is_refused_with_the_reason(
    harness: ActionsHarness,
) -> None:
    bench_chat = await chat(harness, "c9", "Family")
    await harness.request_action("destinations.add", '{"name": "family", "chat": "Family"}')
    await harness.run_all()
    await decide_approval(harness, harness.notified_approvals[-1], ALLOW)
    async with harness.store.transaction() as tx:
        await messaging_groups.update_from_platform(tx, bench_chat, is_group=True, name="Work")
    await chat(harness, "c10", "Family")
    await harness.run_all()
    assert await harness.statuses() == ["refused"]
    assert "what it names is something else now than what was approved" in harness.agent_messages()[0]
    assert await destinations.list_for_group(harness.store, harness.session.agent_group_id) == []


async def chat(bench: ActionsHarness, platform_id: str, name: str, *, instance: str = "default") -> MessagingGroupId:
    async with bench.store.transaction() as tx:
        made = await messaging_groups.add(
            tx,
            channel_type="fake",
            instance=instance,
            platform_id=platform_id,
            is_group=True,
            name=name,
            unknown_sender=UnknownSender.STRICT,
            now=bench.clock.now(),
        )
    return made.id


async def admin_decides(bench: ActionsHarness, approval: ApprovalId) -> bool:
    """Whether an admin of only the requesting agent group can approve."""
    group = bench.session.agent_group_id
    async with bench.store.transaction() as tx:
        await roles.grant(tx, user_id="fake:adam", role=Role.ADMIN, agent_group=group, now=bench.clock.now())
        grants = await roles.list_for_user(tx, "fake:adam")
    adam = Actor(id="fake:adam", name="Adam", grants=grants)
    try:
        await decide_approval(bench, approval, "1", actor=adam)
    except ApprovalNotFound:
        return False
    return True


@pytest.mark.behaviour("AP-01", "AP-03")
@pytest.mark.parametrize(("wired", "theirs"), [("main", True), ("other", False), (None, False)])
async def test_an_admin_of_an_agent_group_decides_about_its_own_chats_only(
    harness: ActionsHarness, wired: str | None, theirs: bool
) -> None:
    chat_id = await chat(harness, "c9", "Family")
    async with harness.store.transaction() as tx:
        if wired is not None:
            group = await agent_groups.find(tx, wired)
            assert group is not None
            await wirings.add(
                tx,
                messaging_group=chat_id,
                agent_group=group.id,
                engage_mode=EngageMode.MENTION,
                engage_pattern="",
                session_mode=SessionMode.SHARED,
                priority=0,
                now=harness.clock.now(),
            )
    await harness.request_action("destinations.add", '{"name": "family", "chat": "c9"}')
    await harness.run_all()
    assert await admin_decides(harness, harness.notified_approvals[-1]) is theirs


@pytest.mark.behaviour("AP-01", "AP-03")
async def test_an_admin_of_an_agent_group_decides_requests_about_that_agent(harness: ActionsHarness) -> None:
    assert await admin_decides(harness, await request_wish(harness))


@pytest.mark.behaviour("AP-06", "AP-10")
async def test_nobody_is_asked_about_another_agents_chat_if_only_an_agent_groups_admin_exists(
    harness: ActionsHarness,
) -> None:
    await chat(harness, "c9", "Family")
    async with harness.store.transaction() as tx:
        await roles.revoke_all(tx, "fake:owner")
        group = harness.session.agent_group_id
        await roles.grant(tx, user_id="fake:adam", role=Role.ADMIN, agent_group=group, now=harness.clock.now())
    await harness.request_action("destinations.add", '{"name": "family", "chat": "c9"}')
    await harness.run_all()
    assert (await harness.statuses(), harness.notified_approvals) == (["refused"], [])
    assert NO_APPROVERS in harness.agent_messages()[0]


@pytest.mark.behaviour("AP-02")
async def test_the_card_says_when_a_relative_time_was_requested(harness: ActionsHarness) -> None:
    await harness.request_action("tasks.create", '{"prompt": "water", "due": "in 1 hour"}')
    await harness.clock.advance(600)
    await harness.run_all(Guard(policy={"tasks.create": Permission.HOLD}))
    found = await approvals.find(harness.store, harness.notified_approvals[-1])
    assert found is not None
    assert "**`due`:** `“in 1 hour”`" in found.rendered_text
    assert "**Asked at:** Thu 01 Jan 2026, 13:00 (Europe/Berlin)" in found.rendered_text


@pytest.mark.behaviour("AP-06", "AP-08")
async def test_a_held_request_of_an_unknown_kind_is_refused(
    harness: ActionsHarness,
) -> None:
    approval = await request_wish(harness)
    found = await approvals.find(harness.store, approval)
    assert found is not None
    async with harness.store.transaction() as tx:
        end = ApprovalResult(
            status=ApprovalStatus.FAILED, outcome=f"{unknown_kind.UNKNOWN_KIND}.", reason=unknown_kind.UNKNOWN_KIND
        )
        await close_undecided(tx, found, unknown_kind.expire_unknown_kind, end, now=harness.clock.now(), zone=UTC)
    assert harness.requesting_sessions == [harness.session.id]
    await harness.run_all()
    assert await harness.statuses() == ["refused"]
    assert unknown_kind.UNKNOWN_KIND in harness.agent_messages()[0]


async def test_an_approved_destination_can_be_used_and_the_agent_is_told(harness: ActionsHarness) -> None:
    chat_id = await chat(harness, "c9", "Family")
    await harness.request_action("destinations.add", '{"name": "family", "chat": "c9"}')
    await harness.run_all()
    assert await destinations.list_for_group(harness.store, harness.session.agent_group_id) == []
    await decide_approval(harness, harness.notified_approvals[-1], ALLOW)
    await harness.run_all()
    [made] = await destinations.list_for_group(harness.store, harness.session.agent_group_id)
    assert (made.name, made.messaging_group_id, made.created_by) == ("family", chat_id, "fake:owner")
    assert harness.agent_messages() == [
        "Your request destinations.add was approved and is done. You can send to family now."
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"name": "x", "chat": "nowhere"}', "the host knows no chat 'nowhere'"),
        ('{"name": "Family!", "chat": "c9"}', "is no name for a destination"),
        ('{"name": "x", "chat": "Twin"}', "there are 2 chats 'Twin'"),
    ],
)
async def test_an_impossible_destination_is_refused_before_anybody_is_asked(
    harness: ActionsHarness, arguments: str, reason: str
) -> None:
    for platform_id, name in (("c9", "Family"), ("c10", "Twin"), ("c11", "Twin")):
        await chat(harness, platform_id, name)
    await harness.request_action("destinations.add", arguments)
    await harness.run_all()
    assert (await harness.statuses(), harness.notified_approvals) == (["refused"], [])
    assert reason in harness.agent_messages()[0]


@pytest.mark.behaviour("AP-05")
async def test_a_repeated_message_to_a_chat_removed_before_the_approval_is_refused(
    harness: ActionsHarness,
) -> None:
    guard = Guard(policy={"messages.repeat": Permission.HOLD})
    content = json.dumps({"kind": "chat", "content": '{"text": "hi"}', "recurrence": "0 9 * * *"})
    await harness.request_action("messages.repeat", content)
    await harness.run_all(guard=guard)
    await decide_approval(harness, harness.notified_approvals[-1], ONCE)
    async with harness.store.transaction() as tx:
        await tx.execute("UPDATE sessions SET messaging_group_id = NULL")
    await harness.run_all(guard=guard)
    assert await harness.statuses() == ["refused"]
    assert "cannot send to that chat any more" in harness.agent_messages()[0]
    assert await harness.store.fetch_all("SELECT 1 FROM tasks") == []


async def test_an_approved_model_becomes_the_agent_groups(harness: ActionsHarness) -> None:
    await harness.request_action("model.change", '{"model": "opus"}')
    await harness.run_all()
    await decide_approval(harness, harness.notified_approvals[-1], ONCE)
    await harness.run_all()
    [row] = await harness.store.fetch_all("SELECT model FROM agent_groups WHERE folder = 'main'")
    assert row["model"] == "opus"
    assert harness.agent_messages()[0].endswith("From the next start of your container you think with opus.")


async def test_an_approval_for_thirty_days_needs_no_card_until_it_ends(harness: ActionsHarness) -> None:
    await decide_approval(harness, await request_wish(harness), MONTH)
    await harness.run_all()
    await harness.request_action("wish", wish_arguments("silver"))
    await harness.run_all()
    assert (await granted_wishes(harness), len(set(harness.notified_approvals))) == (["gold", "silver"], 1)
    [rule] = await rules.list_all(harness.store.reports, limit=10)
    assert (rule.kind, rule.uses, rule.last_used_at) == ("wish", 1, harness.clock.now())
    [spared] = await audit.latest(harness.store.reports, limit=1, action="wish")
    assert (spared.outcome, spared.details["rule"]) == ("done", rule.id)
    await harness.clock.advance(timedelta(days=30).total_seconds())
    await harness.request_action("wish", wish_arguments("copper"))
    await harness.run_all()
    assert (await harness.statuses())[-1] == "held"


@pytest.mark.behaviour("AP-05")
async def test_an_equal_open_request_makes_no_second_card_and_runs_once(harness: ActionsHarness) -> None:
    approval = await request_wish(harness)
    await harness.request_action("wish", wish_arguments("gold"))
    await harness.run_all()
    assert (await harness.statuses(), harness.notified_approvals) == (["held", "refused"], [approval])
    assert "you have asked for just this before" in harness.agent_messages()[0]
    await decide_approval(harness, approval, ONCE)
    await harness.run_all()
    assert await granted_wishes(harness) == ["gold"]


async def test_an_agent_denied_repeatedly_is_refused_without_a_card_for_a_while(
    harness: ActionsHarness,
) -> None:
    for _ in range(MAX_UNSUCCESSFUL):
        await decide_approval(harness, await request_wish(harness), None)
        await harness.run_all()
    await harness.request_action("wish", wish_arguments("gold"))
    await harness.run_all()
    assert len(set(harness.notified_approvals)) == MAX_UNSUCCESSFUL
    assert "nothing came of it" in harness.agent_messages()[-1]
    await harness.clock.advance(UNSUCCESSFUL_WINDOW.total_seconds() + 1)
    await request_wish(harness)
    assert len(set(harness.notified_approvals)) == MAX_UNSUCCESSFUL + 1


async def test_refusals_dated_in_the_future_do_not_suppress_cards(
    harness: ActionsHarness,
) -> None:
    for _ in range(MAX_UNSUCCESSFUL):
        await decide_approval(harness, await request_wish(harness), None)
        await harness.run_all()
    async with harness.store.transaction() as tx:
        await tx.execute("UPDATE actions SET done_at = ?", (to_text(harness.clock.now() + timedelta(days=30)),))
    await request_wish(harness)
    assert (await harness.statuses())[-1] == "held"


@pytest.mark.behaviour("AP-02", "AP-05")
async def test_a_permanent_permission_is_not_offered_for_thirty_days(harness: ActionsHarness) -> None:
    await chat(harness, "c9", "Family")
    await harness.request_action("destinations.add", '{"name": "family", "chat": "c9"}')
    await harness.run_all()
    approval = harness.notified_approvals[-1]
    found = await approvals.find(harness.store, approval)
    assert found is not None
    assert found.options == (ALLOW, "Deny")
    assert "Send to the group `Family` on fake, chat `c9`, from now on" in found.rendered_text
    await decide_approval(harness, approval, ALLOW)
    decided = await approvals.find(harness.store, approval)
    assert decided is not None
    assert decided.outcome == "main may do it."


@pytest.mark.behaviour("AP-02")
async def test_the_card_names_the_bot_instance_if_there_are_several(harness: ActionsHarness) -> None:
    await chat(harness, "c9", "Family", instance="second")
    await harness.request_action("destinations.add", '{"name": "family", "chat": "c9"}')
    await harness.run_all()
    found = await approvals.find(harness.store, harness.notified_approvals[-1])
    assert found is not None
    assert "Send to the group `Family` on fake:second, chat `c9`" in found.rendered_text


@pytest.mark.behaviour("AP-04")
@pytest.mark.parametrize("choice", ["9" * 5_000, "0", "3", "٣", "²"])
async def test_an_invalid_choice_of_a_card_decides_nothing(harness: ActionsHarness, choice: str) -> None:
    approval = await request_wish(harness)
    with pytest.raises(UsageError, match="there is no such choice"):
        await decide_approval(harness, approval, choice)
    found = await approvals.find(harness.store, approval)
    assert found is not None
    assert found.status is ApprovalStatus.PENDING


@pytest.mark.behaviour("AP-04", "AP-08")
async def test_a_denial_option_of_an_older_versions_card_still_denies(harness: ActionsHarness) -> None:
    approval = await request_wish(harness)
    async with harness.store.transaction() as tx:
        await tx.execute("UPDATE approvals SET options = ?", (json.dumps([ONCE, "Turn down"]),))
        await decide_by_button(
            tx,
            approval,
            actor=OWNER,
            number=2,
            now=harness.clock.now(),
            zone=UTC,
        )
    await harness.run_all()
    assert (await harness.statuses(), await granted_wishes(harness)) == (["refused"], [])


async def test_a_limited_number_of_an_agents_requests_may_wait(harness: ActionsHarness) -> None:
    for number in range(MAX_OPEN_REQUESTS + 1):
        await harness.request_action("wish", wish_arguments(str(number)))
    await harness.run_all()
    assert await harness.statuses() == ["held"] * MAX_OPEN_REQUESTS + ["refused"]


@pytest.mark.parametrize("name", ["approvals.approve", "approve", "/approve", "rules.create", "roles.create"])
async def test_no_action_lets_an_agent_decide_an_approval(harness: ActionsHarness, name: str) -> None:
    approval = await request_wish(harness)
    await harness.request_action(name, json.dumps({"id": approval}))
    await harness.run_all()
    assert (await harness.statuses(), await granted_wishes(harness)) == (["held", "refused"], [])


async def test_a_request_approved_during_a_pause_runs_after_it(harness: ActionsHarness) -> None:
    await decide_approval(harness, await request_wish(harness), ONCE)
    async with harness.store.transaction() as tx:
        await paused.begin(tx, by="fake:owner", at=harness.clock.now(), place=None)
    await harness.run_all()
    assert (await harness.statuses(), await granted_wishes(harness)) == (["pending"], [])
    stage = harness.make_executor()
    async with stage.opened():
        await harness.clock.wait_for_sleeper()
        async with harness.store.transaction() as tx:
            await paused.end(tx)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while await harness.statuses() != ["done"]:  # noqa: ASYNC110 - nobody else hears of it
                await asyncio.sleep(0.01)
    assert (await harness.statuses(), await granted_wishes(harness)) == (["done"], ["gold"])


async def test_an_action_held_by_policy_is_held_whatever_its_default(harness: ActionsHarness) -> None:
    guard = Guard(policy={"tasks.create": Permission.HOLD})
    await harness.request_action("tasks.create", '{"prompt": "p", "due": "in 1 hour"}')
    await harness.run_all(guard=guard)
    assert await harness.statuses() == ["held"]
    await decide_approval(harness, harness.notified_approvals[-1], ONCE)
    await harness.run_all(guard=guard)
    assert await harness.statuses() == ["done"]
    assert len(await harness.store.fetch_all("SELECT 1 FROM tasks")) == 1


async def test_waiting_requests_are_recorded_unchanged(harness: ActionsHarness) -> None:
    approval = await request_wish(harness)
    [row] = await list_requests(harness.store, harness.session.id)
    assert (row.status, row.approval_id, row.arguments) == ("held", approval, wish_arguments("gold"))

"""Requests that need a person's yes: held, decided, checked anew, done once, and told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, timedelta

import pytest

from nanohost.actions import registry
from nanohost.actions.asking import MOST_IN_VAIN, MOST_OPEN, WITHIN
from nanohost.actions.registry import Action, Arguments, Request
from nanohost.approvals import gone
from nanohost.approvals.decide import NotTheirs, Verdict, decide, press
from nanohost.approvals.ending import End, lapse
from nanohost.approvals.requests import NOBODY
from nanohost.approvals.settled import settle
from nanohost.chat_commands.host_command import Actor
from nanohost.errors import UsageError
from nanohost.guard.guard import Guard
from nanohost.guard.ruling import Ruling
from nanohost.model import ApprovalId, EngageMode, MessagingGroupId, Role, SessionMode, UnknownSender
from nanohost.store import (
    agent_groups,
    approvals,
    audit,
    destinations,
    messaging_groups,
    paused,
    roles,
    rules,
    wirings,
)
from nanohost.store.approvals import ApprovalStatus
from nanohost.store.database import Transaction
from nanohost.store.rules import RuleEffect
from nanohost.testing.limits import HANG_S, seconds
from nanohost_protocol.times import to_text
from tests.actions.conftest import Bench
from tests.support.requests import requests_of

ALLOW, ONCE, MONTH = "Allow", "Allow once", "Allow for 30 days"
OWNER = Actor(who="fake:owner", name="Olga", is_local=True)


class Wish(Arguments):
    word: str


async def _grant(tx: Transaction, request: Request, wish: Wish) -> None:
    del request
    if wish.word == "impossible":
        raise UsageError("it cannot be")
    await tx.run("UPDATE agent_groups SET name = name || ? WHERE folder = 'main'", (f" {wish.word}",))


@pytest.fixture(autouse=True)
def wish() -> Iterator[None]:
    """One more action in the registry, that needs a yes."""
    registry.registered()["wish"] = Action(
        name="wish", title="Make a wish come true", arguments=Wish, effect=_grant, usual=Ruling.HOLD
    )
    yield
    registry.registered.cache_clear()


@pytest.fixture(autouse=True)
async def owner(bench: Bench) -> None:
    """Somebody who may decide."""
    async with bench.store.transaction() as tx:
        await roles.grant(tx, user_id="fake:owner", role=Role.OWNER, agent_group=None, now=bench.clock.now())


def wanted(word: str) -> str:
    return json.dumps({"word": word})


async def granted(bench: Bench) -> list[str]:
    """The wishes that came true."""
    [row] = await bench.store.all("SELECT name FROM agent_groups WHERE folder = 'main'")
    return str(row["name"]).split()[1:]


async def asked(bench: Bench, word: str = "gold") -> ApprovalId:
    """A wish that is held; its approval."""
    await bench.ask("wish", wanted(word))
    await bench.settle()
    return bench.asked_about[-1]


async def say(
    bench: Bench, approval: ApprovalId, choice: str | None, *, reason: str = "", actor: Actor = OWNER
) -> None:
    """A person decides: one of the choices, or None for a no."""
    async with bench.store.transaction() as tx:
        await decide(
            tx,
            approval,
            actor=actor,
            verdict=Verdict.APPROVE if choice else Verdict.DENY,
            choice=choice,
            reason=reason,
            now=bench.clock.now(),
            zone=UTC,
        )


async def outcomes(bench: Bench) -> list[str]:
    """What is on record of the wishes, oldest first."""
    found = await audit.latest(bench.store.reports, limit=100, what="wish")
    return [str(one.outcome) for one in reversed(found)]


@pytest.mark.behaviour("AP-05", "AP-07")
async def test_a_request_that_needs_a_yes_waits_holds_up_nothing_and_is_done_when_it_has_it(bench: Bench) -> None:
    approval = await asked(bench)
    await bench.ask("tasks.cancel", '{"id": "j1"}')
    await bench.settle()
    assert (await bench.statuses(), await granted(bench)) == (["held", "refused"], [])
    await say(bench, approval, ONCE)
    assert bench.requests == [bench.session.id]
    assert (await bench.statuses(), await granted(bench)) == (["pending", "refused"], [])
    await bench.settle()
    await bench.settle()
    assert (await bench.statuses(), await granted(bench)) == (["done", "refused"], ["gold"])
    assert bench.told()[-1] == "Your request wish was approved and is done."
    assert bench.notices()[-1].trigger is True
    assert await outcomes(bench) == ["held", "done"]
    [held, done] = reversed(await audit.latest(bench.store.reports, limit=10, what="wish"))
    assert {held.about, done.about} == {approval}
    assert done.who == f"agent:{bench.session.id}"
    assert (done.origin, done.details["arguments"]) == ("fake:c1", wanted("gold"))


@pytest.mark.behaviour("AP-07")
async def test_a_no_is_told_with_its_reason_and_wakes_the_agent(bench: Bench) -> None:
    await say(bench, await asked(bench), None, reason="gold is dear")
    await bench.settle()
    assert (await bench.statuses(), await granted(bench)) == (["refused"], [])
    assert bench.told() == ["Your request wish was refused: a person said no: gold is dear. Nothing was changed."]
    assert bench.woken == [bench.session.id]


@pytest.mark.behaviour("AP-07")
async def test_nobody_is_asked_about_what_could_not_be_done(bench: Bench) -> None:
    await bench.ask("wish", wanted("impossible"))
    await bench.ask("wish", '{"wish": 1}')
    await bench.settle()
    assert (await bench.statuses(), bench.asked_about) == (["refused", "refused"], [])
    assert "it cannot be" in bench.told()[0]
    assert await outcomes(bench) == ["refused", "refused"]


@pytest.mark.behaviour("AP-05")
@pytest.mark.parametrize("column", ["arguments", "name"])
async def test_a_request_that_is_not_byte_for_byte_what_was_shown_is_refused_and_audited(
    bench: Bench, column: str
) -> None:
    approval = await asked(bench)
    await say(bench, approval, ONCE)
    other = {"arguments": '{"word":  "gold"}', "name": "tasks.pause"}[column]
    async with bench.store.transaction() as tx:
        await tx.run(f"UPDATE actions SET {column} = ?", (other,))
        if column == "name":
            await tx.run("UPDATE actions SET arguments = ?", ('{"id": "j1"}',))
    await bench.settle()
    assert (await bench.statuses(), await granted(bench)) == (["refused"], [])
    [latest] = await audit.latest(bench.store.reports, limit=1, about=approval)
    assert (latest.outcome, latest.what) == ("refused", "wish" if column == "arguments" else "tasks.pause")
    assert "was refused" in bench.told()[-1]


@pytest.mark.behaviour("AP-05")
async def test_what_was_changed_between_asking_and_the_yes_is_not_done(bench: Bench) -> None:
    approval = await asked(bench)
    async with bench.store.transaction() as tx:
        await tx.run("UPDATE actions SET arguments = ?", (wanted("lead"),))
    await say(bench, approval, ONCE)
    found = await approvals.find(bench.store, approval)
    await bench.settle()
    assert found is not None
    assert found.status is ApprovalStatus.FAILED
    assert (await bench.statuses(), await granted(bench)) == (["refused"], [])


GONE = {
    "it was settled meanwhile": "UPDATE actions SET status = 'refused', reason = 'no', told = 1",
    "it waits for another approval": "UPDATE actions SET approval_id = 'other'",
    "it is not there any more": "DELETE FROM actions",
}
"""What may have become of a request by the time somebody says yes to it."""


@pytest.mark.behaviour("AP-05")
@pytest.mark.parametrize("became", GONE)
async def test_a_yes_to_a_request_that_does_not_wait_for_it_any_more_fails_in_words(bench: Bench, became: str) -> None:
    approval = await asked(bench)
    found = await approvals.find(bench.store, approval)
    assert found is not None
    async with bench.store.transaction() as tx:
        await approvals.add(tx, replace(found, id=ApprovalId("other"), subject="something else"))
        await tx.run(GONE[became])
    await say(bench, approval, ONCE)
    await bench.settle()
    found = await approvals.find(bench.store, approval)
    assert found is not None
    assert (found.status, found.reason) == (ApprovalStatus.FAILED, "the request does not wait any more")
    assert await granted(bench) == []


@pytest.mark.behaviour("AP-05")
async def test_a_yes_to_an_agent_that_is_gone_fails_in_words(bench: Bench) -> None:
    approval = await asked(bench)
    async with bench.store.transaction() as tx:
        await tx.run("UPDATE approvals SET agent_group_id = NULL")
    await say(bench, approval, ONCE)
    await bench.settle()
    found = await approvals.find(bench.store, approval)
    assert found is not None
    assert (found.status, found.reason) == (ApprovalStatus.FAILED, "the agent that asked is gone")
    assert await granted(bench) == []


@pytest.mark.behaviour("AP-05")
async def test_a_yes_to_a_request_that_is_not_what_was_asked_about_fails_before_anything_goes_on(bench: Bench) -> None:
    approval = await asked(bench)
    async with bench.store.transaction() as tx:
        await tx.run("UPDATE actions SET arguments = ?", (wanted("silver"),))
    await say(bench, approval, MONTH)
    found = await approvals.find(bench.store, approval)
    assert found is not None
    assert (found.status, found.reason) == (ApprovalStatus.FAILED, "it is not what was asked about")
    assert await rules.every(bench.store.reports, limit=9) == [], "no permission for thirty days, either"


@pytest.mark.behaviour("AP-05")
async def test_the_operators_no_that_comes_after_a_yes_wins(bench: Bench) -> None:
    await say(bench, await asked(bench), ONCE)
    await bench.settle(guard=Guard(policy={"wish": Ruling.DENY}))
    assert (await bench.statuses(), await granted(bench)) == (["refused"], [])
    assert await outcomes(bench) == ["held", "denied"]


@pytest.mark.behaviour("AP-05")
async def test_a_rules_no_that_comes_after_a_yes_wins(bench: Bench) -> None:
    await say(bench, await asked(bench), ONCE)
    async with bench.store.transaction() as tx:
        await rules.add(
            tx,
            kind="wish",
            effect=RuleEffect.DENY,
            agent_group=None,
            subject=None,
            created_by="local:root",
            expires_at=None,
            now=bench.clock.now(),
        )
    await bench.settle()
    assert (await bench.statuses(), await granted(bench)) == (["refused"], [])


async def rule(bench: Bench, effect: RuleEffect, *, subject: str | None = None) -> int:
    """Somebody decides it for next time, at the machine; its number."""
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
        await settle(tx, now=now, zone=UTC)
    return made.id


@pytest.mark.behaviour("AP-05")
async def test_a_rules_no_is_counted_as_used_and_the_record_names_it(bench: Bench) -> None:
    number = await rule(bench, RuleEffect.DENY)
    await bench.ask("wish", wanted("gold"))
    await bench.settle()
    found = await rules.find(bench.store, number)
    assert found is not None
    assert (await bench.statuses(), found.uses, found.last_used_at) == (["refused"], 1, bench.clock.now())
    [refused] = await audit.latest(bench.store.reports, limit=1, what="wish")
    assert (refused.outcome, refused.details["rule"]) == ("denied", number)


@pytest.mark.behaviour("AP-05", "AP-07")
async def test_a_permission_that_is_given_meanwhile_lets_go_on_what_waits_and_no_other_card_is_needed(
    bench: Bench,
) -> None:
    first, second = await asked(bench, "gold"), await asked(bench, "silver")
    await say(bench, first, MONTH)
    found = await approvals.find(bench.store, second)
    assert found is not None
    assert (found.status, found.outcome) == (ApprovalStatus.WITHDRAWN, "main may do it by now: a rule says so.")
    await bench.settle()
    assert (await bench.statuses(), await granted(bench)) == (["done", "done"], ["gold", "silver"])
    assert len(bench.told()) == 2, "both had waited"
    [allowed] = await rules.every(bench.store.reports, limit=9)
    assert allowed.uses == 1


@pytest.mark.behaviour("AP-05", "AP-07")
async def test_a_rules_no_that_is_made_meanwhile_ends_what_waits_so_that_no_card_says_yes_in_vain(
    bench: Bench,
) -> None:
    approval = await asked(bench)
    await rule(bench, RuleEffect.DENY)
    found = await approvals.find(bench.store, approval)
    assert found is not None
    assert (found.status, found.outcome) == (ApprovalStatus.WITHDRAWN, "main may not do it by now: a rule says so.")
    await bench.settle()
    assert (await bench.statuses(), await granted(bench)) == (["refused"], [])
    assert "was refused" in bench.told()[0]
    assert await outcomes(bench) == ["held", "denied"]


@pytest.mark.behaviour("AP-05")
async def test_a_rule_about_something_else_settles_nothing(bench: Bench) -> None:
    approval = await asked(bench)
    await rule(bench, RuleEffect.ALLOW, subject="something else")
    found = await approvals.find(bench.store, approval)
    assert found is not None
    assert (found.status, await bench.statuses()) == (ApprovalStatus.PENDING, ["held"])


@pytest.mark.behaviour("AP-05", "AP-08")
async def test_a_permission_that_is_taken_back_before_it_was_used_leaves_what_waited_to_be_asked_about_anew(
    bench: Bench,
) -> None:
    approval = await asked(bench)
    number = await rule(bench, RuleEffect.ALLOW)
    async with bench.store.transaction() as tx:
        await rules.end(tx, number, by="local:root", now=bench.clock.now())
    await bench.settle()
    assert (await bench.statuses(), await granted(bench)) == (["held"], [])
    [row] = await requests_of(bench.store, bench.session.id)
    assert row.approval_id not in (None, approval)


@pytest.mark.behaviour("AP-05")
async def test_an_action_that_is_no_more_is_refused_after_the_yes(bench: Bench) -> None:
    await say(bench, await asked(bench), ONCE)
    del registry.registered()["wish"]
    await bench.settle()
    assert "there is no action 'wish'" in bench.told()[0]
    assert await outcomes(bench) == ["held", "refused"]


@pytest.mark.behaviour("AP-05")
async def test_what_became_impossible_after_the_yes_is_refused_with_its_reason(bench: Bench) -> None:
    bench_chat = await chat(bench, "c9", "Family")
    await bench.ask("destinations.add", '{"name": "family", "chat": "Family"}')
    await bench.settle()
    await say(bench, bench.asked_about[-1], ALLOW)
    async with bench.store.transaction() as tx:
        await messaging_groups.learn(tx, bench_chat, is_group=True, name="Work")
    await chat(bench, "c10", "Family")
    await bench.settle()
    assert await bench.statuses() == ["refused"]
    assert "what it names is something else now than what was approved" in bench.told()[0]
    assert await destinations.of_group(bench.store, bench.session.agent_group_id) == []


async def chat(bench: Bench, platform_id: str, name: str, *, instance: str = "default") -> MessagingGroupId:
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


async def admin_decides(bench: Bench, approval: ApprovalId) -> bool:
    """Whether somebody who is an admin of the asking agent group alone can say yes."""
    group = bench.session.agent_group_id
    async with bench.store.transaction() as tx:
        await roles.grant(tx, user_id="fake:adam", role=Role.ADMIN, agent_group=group, now=bench.clock.now())
        grants = await roles.of_user(tx, "fake:adam")
    adam = Actor(who="fake:adam", name="Adam", grants=grants)
    try:
        await say(bench, approval, "1", actor=adam)
    except NotTheirs:
        return False
    return True


@pytest.mark.behaviour("AP-01", "AP-03")
@pytest.mark.parametrize(("wired", "theirs"), [("main", True), ("other", False), (None, False)])
async def test_an_agent_groups_admin_decides_about_its_own_chats_alone(
    bench: Bench, wired: str | None, theirs: bool
) -> None:
    chat_id = await chat(bench, "c9", "Family")
    async with bench.store.transaction() as tx:
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
                now=bench.clock.now(),
            )
    await bench.ask("destinations.add", '{"name": "family", "chat": "c9"}')
    await bench.settle()
    assert await admin_decides(bench, bench.asked_about[-1]) is theirs


@pytest.mark.behaviour("AP-01", "AP-03")
async def test_an_agent_groups_admin_decides_what_is_about_that_agent(bench: Bench) -> None:
    assert await admin_decides(bench, await asked(bench))


@pytest.mark.behaviour("AP-06", "AP-10")
async def test_where_only_an_agent_groups_admin_is_there_nobody_is_asked_about_others_chats(bench: Bench) -> None:
    await chat(bench, "c9", "Family")
    async with bench.store.transaction() as tx:
        await roles.revoke_all(tx, "fake:owner")
        group = bench.session.agent_group_id
        await roles.grant(tx, user_id="fake:adam", role=Role.ADMIN, agent_group=group, now=bench.clock.now())
    await bench.ask("destinations.add", '{"name": "family", "chat": "c9"}')
    await bench.settle()
    assert (await bench.statuses(), bench.asked_about) == (["refused"], [])
    assert NOBODY in bench.told()[0]


@pytest.mark.behaviour("AP-02")
async def test_the_card_says_from_when_a_time_counts(bench: Bench) -> None:
    await bench.ask("tasks.create", '{"prompt": "water", "due": "in 1 hour"}')
    await bench.clock.advance(600)
    await bench.settle(Guard(policy={"tasks.create": Ruling.HOLD}))
    found = await approvals.find(bench.store, bench.asked_about[-1])
    assert found is not None
    assert "**`due`:** `“in 1 hour”`" in found.shown
    assert "**Asked at:** Thu 01 Jan 2026, 13:00 (Europe/Berlin)" in found.shown


@pytest.mark.behaviour("AP-06", "AP-08")
async def test_a_request_that_this_host_does_not_know_how_to_ask_about_any_more_is_refused(bench: Bench) -> None:
    approval = await asked(bench)
    found = await approvals.find(bench.store, approval)
    assert found is not None
    async with bench.store.transaction() as tx:
        end = End(status=ApprovalStatus.FAILED, outcome=f"{gone.REASON}.", reason=gone.REASON)
        await lapse(tx, found, gone.lapse, end, now=bench.clock.now(), zone=UTC)
    assert bench.requests == [bench.session.id]
    await bench.settle()
    assert await bench.statuses() == ["refused"]
    assert gone.REASON in bench.told()[0]


async def test_an_approved_destination_can_be_sent_to_and_the_agent_is_told(bench: Bench) -> None:
    chat_id = await chat(bench, "c9", "Family")
    await bench.ask("destinations.add", '{"name": "family", "chat": "c9"}')
    await bench.settle()
    assert await destinations.of_group(bench.store, bench.session.agent_group_id) == []
    await say(bench, bench.asked_about[-1], ALLOW)
    await bench.settle()
    [made] = await destinations.of_group(bench.store, bench.session.agent_group_id)
    assert (made.name, made.messaging_group_id, made.created_by) == ("family", chat_id, "fake:owner")
    assert bench.told() == ["Your request destinations.add was approved and is done. You can send to family now."]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"name": "x", "chat": "nowhere"}', "the host knows no chat 'nowhere'"),
        ('{"name": "Family!", "chat": "c9"}', "is no name for a destination"),
        ('{"name": "x", "chat": "Twin"}', "there are 2 chats 'Twin'"),
    ],
)
async def test_a_destination_that_cannot_be_is_refused_before_anybody_is_asked(
    bench: Bench, arguments: str, reason: str
) -> None:
    for platform_id, name in (("c9", "Family"), ("c10", "Twin"), ("c11", "Twin")):
        await chat(bench, platform_id, name)
    await bench.ask("destinations.add", arguments)
    await bench.settle()
    assert (await bench.statuses(), bench.asked_about) == (["refused"], [])
    assert reason in bench.told()[0]


@pytest.mark.behaviour("AP-05")
async def test_a_message_to_be_repeated_in_a_chat_that_was_taken_away_before_the_yes_is_refused(bench: Bench) -> None:
    guard = Guard(policy={"messages.repeat": Ruling.HOLD})
    content = json.dumps({"kind": "chat", "content": '{"text": "hi"}', "recurrence": "0 9 * * *"})
    await bench.ask("messages.repeat", content)
    await bench.settle(guard=guard)
    await say(bench, bench.asked_about[-1], ONCE)
    async with bench.store.transaction() as tx:
        await tx.run("UPDATE sessions SET messaging_group_id = NULL")
    await bench.settle(guard=guard)
    assert await bench.statuses() == ["refused"]
    assert "cannot send to that chat any more" in bench.told()[0]
    assert await bench.store.all("SELECT 1 FROM tasks") == []


async def test_an_approved_model_is_the_agent_groups(bench: Bench) -> None:
    await bench.ask("model.change", '{"model": "opus"}')
    await bench.settle()
    await say(bench, bench.asked_about[-1], ONCE)
    await bench.settle()
    [row] = await bench.store.all("SELECT model FROM agent_groups WHERE folder = 'main'")
    assert row["model"] == "opus"
    assert bench.told()[0].endswith("From the next start of your container you think with opus.")


async def test_allowed_for_thirty_days_spares_the_question_until_they_are_over(bench: Bench) -> None:
    await say(bench, await asked(bench), MONTH)
    await bench.settle()
    await bench.ask("wish", wanted("silver"))
    await bench.settle()
    assert (await granted(bench), len(set(bench.asked_about))) == (["gold", "silver"], 1)
    [rule] = await rules.every(bench.store.reports, limit=10)
    assert (rule.kind, rule.uses, rule.last_used_at) == ("wish", 1, bench.clock.now())
    [spared] = await audit.latest(bench.store.reports, limit=1, what="wish")
    assert (spared.outcome, spared.details["rule"]) == ("done", rule.id)
    await bench.clock.advance(timedelta(days=30).total_seconds())
    await bench.ask("wish", wanted("copper"))
    await bench.settle()
    assert (await bench.statuses())[-1] == "held"


@pytest.mark.behaviour("AP-05")
async def test_the_same_request_while_it_is_open_makes_no_second_card_and_is_done_once(bench: Bench) -> None:
    approval = await asked(bench)
    await bench.ask("wish", wanted("gold"))
    await bench.settle()
    assert (await bench.statuses(), bench.asked_about) == (["held", "refused"], [approval])
    assert "you have asked for just this before" in bench.told()[0]
    await say(bench, approval, ONCE)
    await bench.settle()
    assert await granted(bench) == ["gold"]


async def test_an_agent_that_is_told_no_again_and_again_is_refused_without_a_card_for_a_while(bench: Bench) -> None:
    for _ in range(MOST_IN_VAIN):
        await say(bench, await asked(bench), None)
        await bench.settle()
    await bench.ask("wish", wanted("gold"))
    await bench.settle()
    assert len(set(bench.asked_about)) == MOST_IN_VAIN
    assert "nothing came of it" in bench.told()[-1]
    await bench.clock.advance(WITHIN.total_seconds() + 1)
    await asked(bench)
    assert len(set(bench.asked_about)) == MOST_IN_VAIN + 1


async def test_what_was_refused_in_the_future_before_the_clock_was_set_back_keeps_nobody_from_being_asked(
    bench: Bench,
) -> None:
    for _ in range(MOST_IN_VAIN):
        await say(bench, await asked(bench), None)
        await bench.settle()
    async with bench.store.transaction() as tx:
        await tx.run("UPDATE actions SET done_at = ?", (to_text(bench.clock.now() + timedelta(days=30)),))
    await asked(bench)
    assert (await bench.statuses())[-1] == "held"


@pytest.mark.behaviour("AP-02", "AP-05")
async def test_what_lasts_until_somebody_takes_it_away_is_not_offered_for_thirty_days(bench: Bench) -> None:
    await chat(bench, "c9", "Family")
    await bench.ask("destinations.add", '{"name": "family", "chat": "c9"}')
    await bench.settle()
    approval = bench.asked_about[-1]
    found = await approvals.find(bench.store, approval)
    assert found is not None
    assert found.options == (ALLOW, "Deny")
    assert "Send to the group `Family` on fake, chat `c9`, from now on" in found.shown
    await say(bench, approval, ALLOW)
    decided = await approvals.find(bench.store, approval)
    assert decided is not None
    assert decided.outcome == "main may do it."


@pytest.mark.behaviour("AP-02")
async def test_the_card_says_by_which_bot_the_agent_would_write_where_there_are_two(bench: Bench) -> None:
    await chat(bench, "c9", "Family", instance="second")
    await bench.ask("destinations.add", '{"name": "family", "chat": "c9"}')
    await bench.settle()
    found = await approvals.find(bench.store, bench.asked_about[-1])
    assert found is not None
    assert "Send to the group `Family` on fake:second, chat `c9`" in found.shown


@pytest.mark.behaviour("AP-04")
@pytest.mark.parametrize("choice", ["9" * 5_000, "0", "3", "٣", "²"])
async def test_a_number_that_is_no_choice_of_the_card_decides_nothing(bench: Bench, choice: str) -> None:
    approval = await asked(bench)
    with pytest.raises(UsageError, match="there is no such choice"):
        await say(bench, approval, choice)
    found = await approvals.find(bench.store, approval)
    assert found is not None
    assert found.status is ApprovalStatus.PENDING


@pytest.mark.behaviour("AP-04", "AP-08")
async def test_the_no_of_a_card_of_an_older_version_is_a_no_whatever_it_is_called_now(bench: Bench) -> None:
    approval = await asked(bench)
    async with bench.store.transaction() as tx:
        await tx.run("UPDATE approvals SET options = ?", (json.dumps([ONCE, "Turn down"]),))
        await press(
            tx,
            approval,
            actor=OWNER,
            label="Turn down",
            now=bench.clock.now(),
            zone=UTC,
        )
    await bench.settle()
    assert (await bench.statuses(), await granted(bench)) == (["refused"], [])


async def test_only_so_many_requests_of_an_agent_wait_at_a_time(bench: Bench) -> None:
    for number in range(MOST_OPEN + 1):
        await bench.ask("wish", wanted(str(number)))
    await bench.settle()
    assert await bench.statuses() == ["held"] * MOST_OPEN + ["refused"]


@pytest.mark.parametrize("name", ["approvals.approve", "approve", "/approve", "rules.create", "roles.create"])
async def test_no_action_lets_an_agent_decide(bench: Bench, name: str) -> None:
    approval = await asked(bench)
    await bench.ask(name, json.dumps({"id": approval}))
    await bench.settle()
    assert (await bench.statuses(), await granted(bench)) == (["held", "refused"], [])


async def test_what_was_approved_during_a_pause_is_done_after_it(bench: Bench) -> None:
    await say(bench, await asked(bench), ONCE)
    async with bench.store.transaction() as tx:
        await paused.begin(tx, by="fake:owner", at=bench.clock.now(), place=None)
    await bench.settle()
    assert (await bench.statuses(), await granted(bench)) == (["pending"], [])
    stage = bench.stage()
    async with stage.opened():
        await bench.clock.somebody_sleeps()
        async with bench.store.transaction() as tx:
            await paused.end(tx)
        async with asyncio.timeout(seconds(HANG_S)):
            while await bench.statuses() != ["done"]:  # noqa: ASYNC110 - nobody else hears of it
                await asyncio.sleep(0.01)
    assert (await bench.statuses(), await granted(bench)) == (["done"], ["gold"])


async def test_what_the_operator_holds_is_held_whatever_the_action_says_of_itself(bench: Bench) -> None:
    guard = Guard(policy={"tasks.create": Ruling.HOLD})
    await bench.ask("tasks.create", '{"prompt": "p", "due": "in 1 hour"}')
    await bench.settle(guard=guard)
    assert await bench.statuses() == ["held"]
    await say(bench, bench.asked_about[-1], ONCE)
    await bench.settle(guard=guard)
    assert await bench.statuses() == ["done"]
    assert len(await bench.store.all("SELECT 1 FROM tasks")) == 1


async def test_requests_that_wait_are_on_record_as_they_were(bench: Bench) -> None:
    approval = await asked(bench)
    [row] = await requests_of(bench.store, bench.session.id)
    assert (row.status, row.approval_id, row.arguments) == ("held", approval, wanted("gold"))

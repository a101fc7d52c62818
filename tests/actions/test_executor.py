"""How a request of an agent is carried out and reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from nanohost.actions import registry
from nanohost.actions.agent_notice import MAX_NOTICES, MAX_WAKES, REJECTION_WINDOW
from nanohost.actions.registry import Action, ActionRequest, Arguments
from nanohost.db import holds, sessions
from nanohost.db.actions import ActionRow, ActionStatus
from nanohost.db.database import Transaction
from nanohost.errors import UsageError
from nanohost.guard.guard import Guard, Permission
from nanohost_protocol.ids import notice_id
from nanohost_protocol.times import to_text
from tests.actions.conftest import HERE, ActionsHarness
from tests.support.requests import list_requests


class Wish(Arguments):
    word: str


async def _grant(tx: Transaction, request: ActionRequest, wish: Wish) -> str | None:
    """Changes a row in the transaction, then behaves as the request says."""
    await tx.execute("UPDATE agent_groups SET name = ? WHERE folder = 'main'", (wish.word,))
    match wish.word:
        case "no":
            raise UsageError("it cannot be", hint="try yes")
        case "command":
            raise UsageError("it cannot be", hint="nanohost wish list")
        case "broken":
            raise ZeroDivisionError("division by zero")
        case "tell":
            return f"granted at {request.asked_at:%H:%M} in {request.timezone}"
    return None


@pytest.fixture(autouse=True)
def wish() -> Iterator[None]:
    """One more action in the registry."""
    registry.registered_actions()["wish"] = Action(
        name="wish", title="Make a wish come true", arguments=Wish, effect=_grant
    )
    yield
    registry.registered_actions.cache_clear()


def wish_arguments(word: str) -> str:
    return json.dumps({"word": word})


async def name_of_main(bench: ActionsHarness) -> str:
    [row] = await bench.store.fetch_all("SELECT name FROM agent_groups WHERE folder = 'main'")
    return str(row["name"])


async def test_a_request_is_carried_out_without_a_report_to_the_agent(harness: ActionsHarness) -> None:
    await harness.request_action("wish", wish_arguments("yes"))
    await harness.run_all()
    assert (await name_of_main(harness), await harness.statuses(), harness.notices()) == ("yes", ["done"], [])
    assert harness.woken_sessions == []


async def test_a_report_of_success_wakes_nobody(harness: ActionsHarness) -> None:
    out_id = await harness.request_action("wish", wish_arguments("tell"))
    await harness.run_all()
    [notice] = harness.notices()
    assert (notice.id, notice.trigger) == (notice_id(session=harness.session.id, request=out_id), False)
    assert harness.agent_messages() == ["granted at 12:00 in Europe/Berlin"]
    assert harness.woken_sessions == []
    assert (await sessions.get(harness.store, harness.session.id)).due_at is None


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("wish", wish_arguments("no"), "it cannot be; try yes"),
        ("wish", wish_arguments("command"), "it cannot be. Nothing"),
        ("telepathy", "{}", "there is no action 'telepathy'"),
        ("", "{}", "there is no action ''"),
        ("wish", "", "arguments are wrong: Invalid JSON"),
        ("wish", "[" * 100_000, "arguments are wrong: Invalid JSON"),
        ("wish", "[]", "arguments are wrong"),
        ("wish", "{}", "arguments are wrong: word: Field required"),
        ("wish", '{"word": 1}', "arguments are wrong: word: Input should be a valid string"),
        ("wish", '{"word": "\\ud800"}', "arguments are wrong"),
        ("wish", '{"word": "a", "more": 1}', "arguments are wrong: more: Extra inputs"),
    ],
)
async def test_an_impossible_request_is_refused_with_a_sentence_and_wakes_the_agent(
    harness: ActionsHarness, name: str, arguments: str, sentence: str
) -> None:
    await harness.request_action(name, arguments)
    await harness.request_action("wish", wish_arguments("next"))
    await harness.run_all()
    assert await harness.statuses() == ["refused", "done"]
    [notice] = harness.notices()
    assert sentence in harness.agent_messages()[0]
    assert "Nothing was changed" in harness.agent_messages()[0]
    assert len(harness.agent_messages()[0]) < 500
    assert (notice.trigger, notice.origin) == (True, HERE)
    assert harness.woken_sessions == [harness.session.id]
    assert (await sessions.get(harness.store, harness.session.id)).due_at == harness.clock.now()
    assert await name_of_main(harness) == "next"


async def test_a_failing_action_is_rolled_back_and_blocks_nothing(harness: ActionsHarness) -> None:
    await harness.request_action("wish", wish_arguments("broken"))
    await harness.run_all()
    assert (await harness.statuses(), await name_of_main(harness)) == (["failed"], "main")
    assert "failed: ZeroDivisionError" in harness.agent_messages()[0]
    assert harness.changed_sessions == []


async def test_the_guard_decides_before_the_effect(harness: ActionsHarness) -> None:
    await harness.request_action("wish", wish_arguments("yes"))
    await harness.run_all(guard=Guard(policy={"wish": Permission.DENY}))
    assert (await harness.statuses(), await name_of_main(harness)) == (["refused"], "main")
    assert "the operator allows no agent to use wish" in harness.agent_messages()[0]


async def test_a_report_lost_in_a_crash_is_sent_once_by_the_next_host(harness: ActionsHarness) -> None:
    await harness.request_action("wish", wish_arguments("no"))
    await harness.run_all()
    for _ in range(2):
        async with harness.store.transaction() as tx:
            await tx.execute("UPDATE actions SET notified = 0")
        await harness.run_all()
    assert len(harness.notices()) == 1
    assert len(harness.woken_sessions) == 3


async def test_an_effect_is_not_repeated_by_the_next_host(harness: ActionsHarness) -> None:
    await harness.request_action("wish", wish_arguments("yes"))
    await harness.run_all()
    async with harness.store.transaction() as tx:
        await tx.execute("UPDATE agent_groups SET name = 'since' WHERE folder = 'main'")
    await harness.run_all()
    assert await name_of_main(harness) == "since"


async def test_an_agent_refused_repeatedly_is_first_no_longer_woken_and_then_not_told(
    harness: ActionsHarness,
) -> None:
    for _ in range(MAX_WAKES + 2):
        await harness.request_action("wish", wish_arguments("no"))
    await harness.run_all()
    assert [notice.trigger for notice in harness.notices()] == [True] * MAX_WAKES + [False] * 2
    assert len(harness.notices()) == MAX_WAKES + 2
    for _ in range(MAX_NOTICES):
        await harness.request_action("wish", wish_arguments("no"))
    await harness.run_all()
    assert (len(harness.notices()), set(await harness.statuses())) == (MAX_NOTICES, {"refused"})
    await harness.clock.advance((REJECTION_WINDOW + timedelta(seconds=1)).total_seconds())
    await harness.request_action("wish", wish_arguments("no"))
    await harness.run_all()
    assert harness.notices()[-1].trigger is True


async def test_refusals_dated_in_the_future_do_not_suppress_reports(
    harness: ActionsHarness,
) -> None:
    for _ in range(MAX_NOTICES):
        await harness.request_action("wish", wish_arguments("no"))
    await harness.run_all()
    async with harness.store.transaction() as tx:
        await tx.execute("UPDATE actions SET done_at = ?", (to_text(harness.clock.now() + timedelta(days=30)),))
    out_id = await harness.request_action("wish", wish_arguments("no"))
    await harness.run_all()
    told = {notice.id: notice for notice in harness.notices()}
    assert told[notice_id(session=harness.session.id, request=out_id)].trigger is True


async def test_a_damaged_mailbox_does_not_delay_requests_of_other_sessions(harness: ActionsHarness) -> None:
    path = harness.mailboxes.layout(harness.session).inbound_db
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 100)
    await harness.request_action("wish", wish_arguments("no"))
    await harness.request_action("wish", wish_arguments("yes"), session=harness.other)
    await harness.run_all()
    assert (await harness.statuses(), await name_of_main(harness)) == (["refused"], "yes")
    path.unlink()
    await harness.run_all()
    assert len(harness.agent_messages()) == 1


async def test_a_recorded_request_is_not_overwritten(harness: ActionsHarness) -> None:
    row = ActionRow(
        session_id=harness.session.id,
        seq=9,
        out_id="o",
        name="wish",
        arguments="{}",
        origin=None,
        requested_at=harness.clock.now(),
        created_at=harness.clock.now(),
        status=ActionStatus.REFUSED,
        reason="never",
        notice_id="a",
        done_at=harness.clock.now(),
    )
    await harness.enter(row)
    await harness.enter(replace(row, name="another"))
    assert await list_requests(harness.store, harness.session.id) == [row]


def test_every_action_has_a_name_with_its_subject() -> None:
    assert {"tasks.create", "tasks.update", "tasks.pause", "tasks.resume", "tasks.cancel", "messages.repeat"} <= set(
        registry.registered_actions()
    )


async def test_requests_of_a_held_session_wait_until_it_is_released(harness: ActionsHarness) -> None:
    async with harness.store.transaction() as tx:
        await holds.hold_session(tx, harness.session.id, by="local:ann", at=harness.clock.now(), reason="too loud")
    await harness.request_action("wish", wish_arguments("yes"))
    await harness.run_all()
    assert (await name_of_main(harness), await harness.statuses()) == ("main", ["pending"])
    async with harness.store.transaction() as tx:
        await holds.release_session(tx, harness.session.id)
    await harness.run_all()
    assert (await name_of_main(harness), await harness.statuses()) == ("yes", ["done"])


async def test_a_refused_request_keeps_only_the_beginning_of_its_arguments(harness: ActionsHarness) -> None:
    await harness.request_action("wish", json.dumps({"word": "no", "more": "x" * 50_000}))
    await harness.request_action("wish", wish_arguments("yes"))
    await harness.run_all()
    refused, done = await list_requests(harness.store, harness.session.id)
    assert (refused.status, len(refused.arguments)) == (ActionStatus.REFUSED, 2_000)
    assert done.arguments == wish_arguments("yes")

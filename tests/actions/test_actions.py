"""How a request of an agent is carried out, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from nanohost.actions import registry
from nanohost.actions.notice import MOST_TOLD, MOST_WAKES, WITHIN
from nanohost.actions.registry import Action, Arguments, Request
from nanohost.errors import UsageError
from nanohost.guard.guard import Guard
from nanohost.guard.ruling import Ruling
from nanohost.store import holds, sessions
from nanohost.store.actions import ActionRow, ActionStatus
from nanohost.store.database import Transaction
from nanohost_protocol.ids import notice_id
from nanohost_protocol.times import to_text
from tests.actions.conftest import HERE, Bench
from tests.support.requests import requests_of


class Wish(Arguments):
    word: str


async def _grant(tx: Transaction, request: Request, wish: Wish) -> str | None:
    """Changes something in the transaction, then behaves as it was asked."""
    await tx.run("UPDATE agent_groups SET name = ? WHERE folder = 'main'", (wish.word,))
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
    registry.registered()["wish"] = Action(name="wish", title="Make a wish come true", arguments=Wish, effect=_grant)
    yield
    registry.registered.cache_clear()


def wanted(word: str) -> str:
    return json.dumps({"word": word})


async def name_of_main(bench: Bench) -> str:
    [row] = await bench.store.all("SELECT name FROM agent_groups WHERE folder = 'main'")
    return str(row["name"])


async def test_what_is_asked_for_is_done_and_the_agent_need_not_know(bench: Bench) -> None:
    await bench.ask("wish", wanted("yes"))
    await bench.settle()
    assert (await name_of_main(bench), await bench.statuses(), bench.notices()) == ("yes", ["done"], [])
    assert bench.woken == []


async def test_what_is_to_be_told_of_a_success_wakes_nobody(bench: Bench) -> None:
    out_id = await bench.ask("wish", wanted("tell"))
    await bench.settle()
    [notice] = bench.notices()
    assert (notice.id, notice.trigger) == (notice_id(session=bench.session.id, request=out_id), False)
    assert bench.told() == ["granted at 12:00 in Europe/Berlin"]
    assert bench.woken == []
    assert (await sessions.get(bench.store, bench.session.id)).due_at is None


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("wish", wanted("no"), "it cannot be; try yes"),
        ("wish", wanted("command"), "it cannot be. Nothing"),
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
async def test_what_cannot_be_is_refused_with_a_sentence_and_wakes_the_agent(
    bench: Bench, name: str, arguments: str, sentence: str
) -> None:
    await bench.ask(name, arguments)
    await bench.ask("wish", wanted("next"))
    await bench.settle()
    assert await bench.statuses() == ["refused", "done"]
    [notice] = bench.notices()
    assert sentence in bench.told()[0]
    assert "Nothing was changed" in bench.told()[0]
    assert len(bench.told()[0]) < 500
    assert (notice.trigger, notice.origin) == (True, HERE)
    assert bench.woken == [bench.session.id]
    assert (await sessions.get(bench.store, bench.session.id)).due_at == bench.clock.now()
    assert await name_of_main(bench) == "next"


async def test_a_request_that_breaks_undoes_itself_and_holds_up_nothing(bench: Bench) -> None:
    await bench.ask("wish", wanted("broken"))
    await bench.settle()
    assert (await bench.statuses(), await name_of_main(bench)) == (["failed"], "main")
    assert "failed: ZeroDivisionError" in bench.told()[0]
    assert bench.changed == []


async def test_the_guard_is_asked_before_the_effect(bench: Bench) -> None:
    await bench.ask("wish", wanted("yes"))
    await bench.settle(guard=Guard(policy={"wish": Ruling.DENY}))
    assert (await bench.statuses(), await name_of_main(bench)) == (["refused"], "main")
    assert "the operator allows no agent to use wish" in bench.told()[0]


async def test_a_host_that_died_before_it_told_does_it_again_once(bench: Bench) -> None:
    await bench.ask("wish", wanted("no"))
    await bench.settle()
    for _ in range(2):
        async with bench.store.transaction() as tx:
            await tx.run("UPDATE actions SET told = 0")
        await bench.settle()
    assert len(bench.notices()) == 1
    assert len(bench.woken) == 3


async def test_an_effect_is_not_repeated_by_a_host_that_comes_after(bench: Bench) -> None:
    await bench.ask("wish", wanted("yes"))
    await bench.settle()
    async with bench.store.transaction() as tx:
        await tx.run("UPDATE agent_groups SET name = 'since' WHERE folder = 'main'")
    await bench.settle()
    assert await name_of_main(bench) == "since"


async def test_an_agent_that_is_refused_again_and_again_is_woken_no_more_and_then_not_even_told(bench: Bench) -> None:
    for _ in range(MOST_WAKES + 2):
        await bench.ask("wish", wanted("no"))
    await bench.settle()
    assert [notice.trigger for notice in bench.notices()] == [True] * MOST_WAKES + [False] * 2
    assert len(bench.notices()) == MOST_WAKES + 2
    for _ in range(MOST_TOLD):
        await bench.ask("wish", wanted("no"))
    await bench.settle()
    assert (len(bench.notices()), set(await bench.statuses())) == (MOST_TOLD, {"refused"})
    await bench.clock.advance((WITHIN + timedelta(seconds=1)).total_seconds())
    await bench.ask("wish", wanted("no"))
    await bench.settle()
    assert bench.notices()[-1].trigger is True


async def test_what_was_refused_in_the_future_before_the_clock_was_set_back_keeps_nothing_from_the_agent(
    bench: Bench,
) -> None:
    for _ in range(MOST_TOLD):
        await bench.ask("wish", wanted("no"))
    await bench.settle()
    async with bench.store.transaction() as tx:
        await tx.run("UPDATE actions SET done_at = ?", (to_text(bench.clock.now() + timedelta(days=30)),))
    out_id = await bench.ask("wish", wanted("no"))
    await bench.settle()
    told = {notice.id: notice for notice in bench.notices()}
    assert told[notice_id(session=bench.session.id, request=out_id)].trigger is True


async def test_one_sessions_mailbox_holds_up_no_other_session(bench: Bench) -> None:
    path = bench.mailboxes.layout(bench.session).inbound_db
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 100)
    await bench.ask("wish", wanted("no"))
    await bench.ask("wish", wanted("yes"), session=bench.other)
    await bench.settle()
    assert (await bench.statuses(), await name_of_main(bench)) == (["refused"], "yes")
    path.unlink()
    await bench.settle()
    assert len(bench.told()) == 1


async def test_a_request_on_record_is_kept_as_it_was(bench: Bench) -> None:
    row = ActionRow(
        session_id=bench.session.id,
        seq=9,
        out_id="o",
        name="wish",
        arguments="{}",
        origin=None,
        asked_at=bench.clock.now(),
        created_at=bench.clock.now(),
        status=ActionStatus.REFUSED,
        reason="never",
        notice_id="a",
        done_at=bench.clock.now(),
    )
    await bench.enter(row)
    await bench.enter(replace(row, name="another"))
    assert await requests_of(bench.store, bench.session.id) == [row]


def test_every_action_has_a_name_of_its_subject() -> None:
    assert {"tasks.create", "tasks.update", "tasks.pause", "tasks.resume", "tasks.cancel", "messages.repeat"} <= set(
        registry.registered()
    )


async def test_nothing_is_done_for_a_session_that_is_held_until_it_is_released(bench: Bench) -> None:
    async with bench.store.transaction() as tx:
        await holds.on_session(tx, bench.session.id, by="local:ann", at=bench.clock.now(), reason="too loud")
    await bench.ask("wish", wanted("yes"))
    await bench.settle()
    assert (await name_of_main(bench), await bench.statuses()) == ("main", ["pending"])
    async with bench.store.transaction() as tx:
        await holds.release_session(tx, bench.session.id)
    await bench.settle()
    assert (await name_of_main(bench), await bench.statuses()) == ("yes", ["done"])


async def test_what_is_refused_keeps_the_beginning_of_what_was_asked_for(bench: Bench) -> None:
    await bench.ask("wish", json.dumps({"word": "no", "more": "x" * 50_000}))
    await bench.ask("wish", wanted("yes"))
    await bench.settle()
    refused, done = await requests_of(bench.store, bench.session.id)
    assert (refused.status, len(refused.arguments)) == (ActionStatus.REFUSED, 2_000)
    assert done.arguments == wanted("yes")

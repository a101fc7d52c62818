"""Why a message was answered or not, as an operator reads it, with everything real."""

from __future__ import annotations

import asyncio
import shlex
from typing import Any

import pytest

from nanohost.cli.main import build_parser
from nanohost.model import UnknownSender
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import RunningHost, Script
from tests.support.invariants import wait_for_claims

COSTS: Script = [{"match": "", "actions": [{"answer": "done"}, {"usage": {"tokens_in": 10, "cost_usd": 0.5}}]}]


async def wait_for_status(flow: RunningHost, status: str, *, id: int = 1) -> Any:
    """The report on a message once it has this status."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            found = {row["id"]: row for row in await flow.run_command("messages list")}
            if id in found and found[id]["status"] == status:
                shown = await flow.run_command("messages get", id)
                if shown["next"]:
                    build_parser().parse_args(shlex.split(shown["next"])[1:])
                return shown
            await asyncio.sleep(0.02)


def step_names(shown: Any) -> list[str]:
    """The first words of each step, which all have a time."""
    assert all(step["at"] for step in shown["steps"])
    return [step["what"].partition(" ")[0] for step in shown["steps"]]


@pytest.mark.behaviour("OP-09")
async def test_an_answered_message_is_shown_with_its_steps_its_turn_and_its_cost(
    host_env: HostTestEnv,
) -> None:
    async with host_env.run_host() as flow:
        await flow.wire(script=COSTS)
        await host_env.fake.person_writes("please do it", message_id="m-1")
        await host_env.fake.wait_for_sent(1)
        shown = await wait_for_status(flow, "answered")
        session = await flow.session()
    assert step_names(shown)[:2] == ["received", "routed"]
    assert {"turn", "sent:"} == set(step_names(shown)[2:])
    assert [shown["chat"], shown["sender"], shown["agent"], shown["session"], shown["cost_usd"]] == [
        "fake c1",
        "Ann",
        "main",
        session.id,
        0.5,
    ]
    assert shown["text"] == "please do it"
    assert [step["what"] for step in shown["steps"] if step["what"].endswith("completed, $0.5000")]
    assert shown["why"] == shown["next"] == ""


@pytest.mark.behaviour("OP-09")
async def test_a_message_in_a_running_turn_is_shown_as_being_worked_on(host_env_with_events: HostTestEnv) -> None:
    slow: Script = [{"match": "", "actions": [{"until_file": "go"}, {"answer": "done"}]}]
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=slow)
        await host_env_with_events.fake.person_writes("please")
        await wait_for_claims(flow)
        shown = await wait_for_status(flow, "working")
        assert step_names(shown) == ["received", "routed", "turn"]
        assert shown["next"] == f"nanohost logs {shown['session']}"
        (flow.home.groups / "main" / "go").touch()
        await wait_for_status(flow, "answered")


@pytest.mark.behaviour("OP-09")
@pytest.mark.parametrize(
    ("does", "status", "why", "do"),
    [
        ([{"error": "auth"}], "failed", "model", "nanohost model set"),
        ([{"error": "permanent"}], "failed", "model", "nanohost logs {session}"),
        ([{"usage": {"tokens_in": 1}}], "silent", "", "nanohost logs {session}"),
    ],
    ids=["refused key", "failed", "silent"],
)
async def test_a_turn_without_an_answer_is_shown_differently_from_a_failed_one(
    host_env_with_events: HostTestEnv, does: list[dict[str, object]], status: str, why: str, do: str
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire(script=[{"match": "", "actions": does}])
        await host_env_with_events.fake.person_writes("hi")
        shown = await wait_for_status(flow, status)
        assert why in shown["why"]
        assert shown["next"] == do.format(session=shown["session"])


@pytest.mark.behaviour("OP-09", "DL-03")
async def test_a_refused_answer_is_shown_with_the_command_that_resends_it(
    host_env_with_events: HostTestEnv,
) -> None:
    host_env_with_events.fake.should_refuse = True
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hi")
        shown = await wait_for_status(flow, "undelivered")
        assert "refused" in shown["why"]
        host_env_with_events.fake.should_refuse = False
        await flow.run_command(*_typed(shown["next"]))
        assert (await wait_for_status(flow, "answered"))["next"] == ""


def _typed(words: str) -> list[Any]:
    """`nanohost NOUN VERB …` as a command and its arguments."""
    _, noun, verb, *rest = words.split()
    return [f"{noun} {verb}", *rest]


@pytest.mark.behaviour("OP-09")
async def test_a_message_that_reached_no_agent_is_shown_with_the_reason_and_the_command_to_type(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire("strict", unknown=UnknownSender.STRICT)
        await flow.wire("pattern", pattern="^hey")
        for chat in ("strict", "pattern"):
            await host_env_with_events.fake.person_writes("hi", chat=chat)
        await host_env_with_events.fake.person_writes("/status", chat="pattern")
        denied = await wait_for_status(flow, "denied", id=1)
        assert denied["why"]
        assert denied["next"] == "nanohost roles create fake:u1 member --group main"
        ignored = await wait_for_status(flow, "ignored", id=2)
        assert ignored["next"] == "nanohost wirings update 2 --engage always"
        [by_chat] = await flow.run_command("messages list", chat="strict")
        assert by_chat["id"] == 1


@pytest.mark.behaviour("OP-09")
async def test_a_command_answered_by_the_host_is_shown_as_answered(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("/status")
        await host_env_with_events.fake.wait_for_sent(1)
        shown = await wait_for_status(flow, "answered")
        assert step_names(shown) == ["received", "routed", "sent:"]
        assert "the host's message" in shown["steps"][-1]["what"]


@pytest.mark.behaviour("OP-09")
async def test_a_waiting_message_is_shown_with_what_it_waits_for(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host(should_verify_clean=False) as flow:
        await flow.wire()
        await flow.run_command("agents hold", "main", reason="not now")
        await host_env_with_events.fake.person_writes("hi")
        shown = await wait_for_status(flow, "waiting")
        assert shown["why"].startswith("its agent has not begun with it; it is on hold")
        [row] = await flow.run_command("messages list")
        assert row["why"] == "its agent has not begun with it; it is on hold"
        await flow.run_command("agents release", "main")
        await wait_for_status(flow, "answered")

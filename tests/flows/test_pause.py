"""/pause and /resume, with real runners: what is interrupted, what waits, what is sent; nothing is lost or repeated."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from nanohost.channel_api import Sender
from nanohost.chat_commands.classify import MENTION_REQUIRED
from nanohost.chat_commands.cost import NO_USAGE_TEXT
from nanohost.chat_commands.pause import NO_TURN_INTERRUPTED, PAUSED_TEXT
from nanohost.chat_commands.resume import NOT_PAUSED
from nanohost.db import paused, roles, turn_costs
from nanohost.model import Role, UnknownSender
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import RunningHost, Script
from tests.support.invariants import wait_for_claims, wait_until

OWNER = Sender(handle="boss", name="Bea")
BEN = Sender(handle="u2", name="Ben")
OFFICE = "office"
WORKS: Script = [{"match": "long", "attempt": 1, "actions": [{"hang": True}]}]
"""The first run of a long one never ends; the second one echoes."""


async def _with_owner(flow: RunningHost) -> None:
    async with flow.host.store.transaction() as tx:
        await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=datetime.now(UTC))


async def _owner_says(stage: HostTestEnv, text: str, *, answers: int = 1) -> Sequence[str]:
    """Returns the answers to the owner, in a chat without an agent."""
    before = len(_office(stage))
    await stage.fake.person_writes(text, chat=OFFICE, sender=OWNER)
    await wait_until(lambda: len(_office(stage)) >= before + answers)
    return _office(stage)[before:]


async def _none_runs(flow: RunningHost) -> None:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while await flow.containers():  # noqa: ASYNC110 - other processes' doing
            await asyncio.sleep(0.01)


def _office(stage: HostTestEnv) -> list[str]:
    return [one.text for one in stage.fake.sent if one.address.platform_id == OFFICE]


@pytest.mark.behaviour("SE-12")
async def test_a_pause_interrupts_the_running_turn_and_everything_resumes_after_it(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await _with_owner(flow)
        await flow.wire(script=WORKS)
        await host_env.fake.person_writes("long one")
        await wait_for_claims(flow)
        answer, cut = await _owner_says(host_env, "/pause", answers=2)
        await _none_runs(flow)
        assert answer.splitlines()[:2] == [
            "Paused: nothing is started or sent until /resume.",
            "1 container is being ended: main.",
        ]
        assert cut.splitlines()[1].startswith("- main, at work since ")
        await host_env.fake.person_writes("another")
        await host_env.fake.person_writes("and another")
        await host_env.fake.person_writes("hello", sender=BEN)

        await wait_until(lambda: flow.texts("c1").count(PAUSED_TEXT) == 2)
        assert flow.texts("c1") == [PAUSED_TEXT, PAUSED_TEXT]
        [again] = await _owner_says(host_env, "/pause")
        assert again.startswith("Everything is paused since ")
        assert "by `Bea`" in again
        assert "- main, at work since " in again
        [resumed] = await _owner_says(host_env, "/resume")
        assert resumed.startswith("Resumed (paused since ")
        assert resumed.endswith(": 1 conversation.")
        await host_env.fake.wait_for_sent(9)
    assert sorted(flow.texts("c1")[2:]) == ["echo: and another", "echo: another", "echo: hello", "echo: long one"]


@pytest.mark.behaviour("SE-12")
async def test_a_pause_also_ends_an_unresponsive_runner(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await _with_owner(flow)
        await flow.wire(script=WORKS)
        await host_env_with_events.fake.person_writes("long one")
        await wait_for_claims(flow)
        [container] = await flow.containers()
        os.kill(int(container.state["pid"]), signal.SIGSTOP)
        await _owner_says(host_env_with_events, "/pause", answers=2)
        await _none_runs(flow)
        await _owner_says(host_env_with_events, "/resume")
        await wait_until(lambda: flow.texts("c1") == ["echo: long one"])


@pytest.mark.behaviour("SE-12")
async def test_a_turn_interrupted_by_a_pause_counts_no_attempt(host_env_with_events: HostTestEnv) -> None:
    """Five pauses in a row are more than the attempts of a message."""
    script: Script = [{"match": "long", "attempt": n, "actions": [{"hang": True}]} for n in range(1, 7)]
    async with host_env_with_events.run_host() as flow:
        await _with_owner(flow)
        await flow.wire(script=script)
        await host_env_with_events.fake.person_writes("long one")
        for _ in range(6):
            await wait_for_claims(flow)
            await _owner_says(host_env_with_events, "/pause", answers=2)
            await _none_runs(flow)
            await _owner_says(host_env_with_events, "/resume")

        await wait_until(lambda: flow.texts("c1") == ["echo: long one"])


@pytest.mark.behaviour("SE-12")
async def test_a_send_in_progress_is_settled_during_a_pause_and_the_rest_is_sent_after_it(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await _with_owner(flow)
        await flow.wire("c1", script=[{"match": "two", "actions": [{"answer": "one"}, {"answer": "two"}]}])
        host_env_with_events.fake.hold()
        await host_env_with_events.fake.person_writes("two")

        await wait_until(lambda: host_env_with_events.fake.attempts.total() == 1)
        await host_env_with_events.fake.person_writes("/pause", chat=OFFICE, sender=OWNER)

        await wait_until(lambda: flow.host.pause_service.current is not None)
        host_env_with_events.fake.release()
        await host_env_with_events.fake.wait_for_sent(3)  # the one in flight, the answer, the interrupted turns
        assert flow.texts("c1") == ["one"]
        [resumed] = await _owner_says(host_env_with_events, "/resume")
        assert resumed.endswith("1 message to send.")
        await host_env_with_events.fake.wait_for_sent(5)
    assert flow.texts("c1") == ["one", "two"]
    assert max(host_env_with_events.fake.attempts.values()) == 1


@pytest.mark.behaviour("SE-12")
async def test_a_pause_survives_a_restart_and_waiting_messages_are_answered_after_it(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host(keep_containers=True, should_verify_clean=False) as flow:
        await _with_owner(flow)
        await flow.wire(script=WORKS)
        await host_env_with_events.fake.person_writes("long one")
        await wait_for_claims(flow)
        async with flow.host.store.transaction() as tx:  # as by a host that is killed right after the commit
            await paused.begin(tx, by="fake:boss", at=datetime.now(UTC), place=None)
    async with host_env_with_events.run_host() as flow:
        await _none_runs(flow)
        pause = await paused.find(flow.host.store)
        assert pause is not None
        assert [one.agent_group for one in pause.interrupted_turns or ()] == ["main"]
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(1)
        assert flow.texts() == [PAUSED_TEXT]
        await _owner_says(host_env_with_events, "/resume")
        await host_env_with_events.fake.wait_for_sent(4)
    assert sorted(flow.texts("c1")) == [PAUSED_TEXT, "echo: hi", "echo: long one"]


@pytest.mark.behaviour("SE-12")
async def test_status_and_stop_are_answered_during_a_pause(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await _with_owner(flow)
        await flow.wire(script=WORKS)
        await _owner_says(host_env_with_events, "/pause")
        await host_env_with_events.fake.person_writes("/status", chat="c1")
        await host_env_with_events.fake.wait_for_sent(2)
        [status] = flow.texts("c1")
        assert status.startswith("Everything is paused since ")
        await _owner_says(host_env_with_events, "/resume")
        assert await _owner_says(host_env_with_events, "/resume") == [NOT_PAUSED]


@pytest.mark.behaviour("SE-12", "AC-06")
async def test_only_an_owner_can_pause(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("/pause")
        await host_env_with_events.fake.wait_for_sent(1)
        assert flow.texts() == ["Only an owner may use /pause."]
        assert await paused.find(flow.host.store) is None


@pytest.mark.behaviour("SE-12")
async def test_a_pause_while_nothing_runs_says_so(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await _with_owner(flow)
        [said] = await _owner_says(host_env_with_events, "/pause")
        assert said.splitlines() == [
            "Paused: nothing is started or sent until /resume.",
            "No container was running.",
        ]
        [again] = await _owner_says(host_env_with_events, "/pause")
        assert again.splitlines()[1] == NO_TURN_INTERRUPTED
        await _owner_says(host_env_with_events, "/resume")


@pytest.mark.behaviour("SE-12", "AC-04")
async def test_a_sender_who_may_not_talk_gets_no_pause_notice(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await _with_owner(flow)
        await flow.wire(unknown=UnknownSender.STRICT)
        await _owner_says(host_env_with_events, "/pause")
        await host_env_with_events.fake.person_writes("hello?", sender=BEN)
        await host_env_with_events.fake.person_writes("hello", sender=OWNER)
        await wait_until(lambda: bool(flow.texts("c1")))
        await _owner_says(host_env_with_events, "/resume")
        await host_env_with_events.fake.wait_for_sent(4)
    assert flow.texts("c1") == [PAUSED_TEXT, "echo: hello"]


@pytest.mark.behaviour("SE-12")
async def test_a_pause_notice_that_could_not_be_sent_before_its_end_is_not_sent_later(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await _with_owner(flow)
        await flow.wire()
        await _owner_says(host_env_with_events, "/pause")
        host_env_with_events.fake.is_down = True
        await host_env_with_events.fake.person_writes("hello")
        await wait_until(
            lambda: any(
                count
                for count in host_env_with_events.fake.attempts.values()
                if host_env_with_events.fake.is_down and count > 0
            )
        )
        await flow.run_command("resume")
        host_env_with_events.fake.is_down = False
        await host_env_with_events.fake.person_writes("again")
        await wait_until(lambda: len(flow.texts("c1")) >= 2)
    assert flow.texts("c1") == ["echo: hello", "echo: again"]


@pytest.mark.behaviour("SE-12")
async def test_help_lists_the_host_commands_that_the_person_may_use(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host() as flow:
        await _with_owner(flow)
        await flow.wire()
        await host_env_with_events.fake.person_writes("/help", sender=OWNER)
        await host_env_with_events.fake.person_writes("/help", sender=BEN)
        await host_env_with_events.fake.wait_for_sent(2)
        of_owner, of_stranger = flow.texts("c1")
    assert "/pause: stop every agent and every message until /resume" in of_owner
    assert "/approve: approve what waits for you, like /approve k3f7qd (in a direct message)" in of_owner
    assert "/pause" not in of_stranger
    assert "/stop" in of_stranger


@pytest.mark.behaviour("AC-06")
async def test_a_host_command_in_a_group_needs_a_mention_and_reaches_no_agent(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await _with_owner(flow)
        await flow.wire()
        await host_env_with_events.fake.person_writes("/cost", sender=OWNER, group=True)
        await host_env_with_events.fake.person_writes("/cost", sender=OWNER, group=True, mentions=True)
        await host_env_with_events.fake.person_writes("/cost", sender=BEN, group=True)
        await host_env_with_events.fake.wait_for_sent(3)
        assert await flow.containers() == []
    assert sorted(flow.texts("c1")) == sorted(
        [MENTION_REQUIRED.format(name="cost"), NO_USAGE_TEXT, "Only an admin may use /cost."]
    )


@pytest.mark.behaviour("SE-12")
async def test_cost_reports_what_turns_have_used(host_env_with_events: HostTestEnv) -> None:
    script: Script = [
        {"match": "go", "actions": [{"usage": {"tokens_in": 10, "tokens_out": 5, "cost_usd": 0.5}}, {"answer": "done"}]}
    ]
    async with host_env_with_events.run_host() as flow:
        await _with_owner(flow)
        await flow.wire(script=script)
        await host_env_with_events.fake.person_writes("go")
        await host_env_with_events.fake.wait_for_sent(1)
        async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
            while await turn_costs.first_at(flow.host.store.reports) is None:  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.01)
        [said] = await _owner_says(host_env_with_events, "/cost")
    assert said.splitlines()[1] == "- today: 1 turn, tokens 10 in, 0 cached, 5 out, about $0.50"

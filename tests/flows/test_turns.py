"""How a turn ends, and what people read: answered, retried, or failed with a notice."""

from __future__ import annotations

import os
import signal

import pytest

from nanohost.mailbox import queries
from nanohost_protocol.rows import AckStatus, ErrorClass
from tests.flows.host_fixture import HostTestEnv
from tests.support.flow import Script
from tests.support.invariants import wait_for_claims

PATIENCE_S = 12.0
CRASHES_AFTER_A_TOOL: Script = [
    {
        "match": "",
        "attempt": 1,
        "actions": [{"tool": "send_message", "arguments": {"text": "looking"}}, {"crash": True}],
    },
    {"match": "", "actions": [{"tool": "send_message", "arguments": {"text": "looking"}}, {"answer": "found"}]},
]


def failing_script(error: str, *, once: bool = False, **more: object) -> Script:
    return [{"match": "", **({"attempt": 1} if once else {}), "actions": [{"error": error, **more}]}]


@pytest.mark.behaviour("RU-02", "RU-03")
async def test_a_message_during_a_turn_joins_it(host_env: HostTestEnv) -> None:
    slow = [{"match": "first", "actions": [{"until_file": "go"}, {"answer": "echo: {text}"}]}]
    async with host_env.run_host() as flow:
        await flow.wire(script=slow)
        await host_env.fake.person_writes("first")
        await wait_for_claims(flow)
        await host_env.fake.person_writes("second")
        await wait_for_claims(flow, 2)
        assert flow.texts() == []
        flow.resume_script()
        await host_env.fake.wait_for_sent(2)
        turns = await flow.host.mailboxes.read_outbound(await flow.session(), queries.turns())
    assert flow.texts() == ["echo: first", "echo: second"]
    assert turns is not None
    assert [len(turn.message_ids) for turn in turns] == [2]


@pytest.mark.behaviour("RU-04")
@pytest.mark.parametrize("error", [ErrorClass.PERMANENT, ErrorClass.AUTH, ErrorClass.BUDGET])
async def test_a_permanent_failure_is_notified_and_the_message_closed(
    host_env_with_events: HostTestEnv, error: ErrorClass
) -> None:
    runtime = host_env_with_events.make_runtime()
    async with host_env_with_events.run_host(runtime=runtime) as flow:
        await flow.wire(script=failing_script(error))
        await host_env_with_events.fake.person_writes("hi", message_id="m-1")
        [told] = await host_env_with_events.fake.wait_for_sent(1)
        [route] = await flow.host.store.fetch_all("SELECT message_id FROM routes")
        message = await flow.host.mailboxes.read_inbound(
            await flow.session(), lambda box: box.find(route["message_id"])
        )
    assert "model" in told.text or "budget" in told.text
    assert told.reply_to == "m-1"
    assert message is not None
    assert (message.status, message.tries) == (AckStatus.FAILED, 0)


@pytest.mark.behaviour("RU-04")
async def test_a_rate_limit_is_notified_once_and_the_message_retried_when_it_ends(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await flow.wire(script=failing_script("rate_limited", once=True, retry_in_s=0.5))
        await host_env.fake.person_writes("hi")
        [told, answer] = await host_env.fake.wait_for_sent(2)
        acks = await flow.host.mailboxes.read_outbound(await flow.session(), queries.acks_after(0))
    assert "limiting" in told.text
    assert answer.text == "echo: hi"
    assert acks is not None
    assert [(ack.status, ack.tries) for ack in acks.acks] == [(AckStatus.COMPLETED, 1)]


@pytest.mark.behaviour("RU-04", "RU-08", "SE-03", "SE-07")
async def test_an_interrupted_turn_is_retried_after_five_seconds_without_repeating_its_answers(
    host_env_with_events: HostTestEnv,
) -> None:
    """One test for every case that waits for the first pause."""
    hangs_once: Script = [{"match": "", "attempt": 1, "actions": [{"hang": True}]}]
    async with host_env_with_events.run_host(should_verify_clean=False, keep_containers=True) as flow:
        await flow.wire("hung", "hung", script=hangs_once)
        await host_env_with_events.fake.person_writes("hi", chat="hung")
        await wait_for_claims(flow, folder="hung")
        [container] = await flow.containers()
    os.kill(int(container.state["pid"]), signal.SIGKILL)
    scripts = {
        "transient": failing_script("transient", once=True),
        "overloaded": failing_script("overloaded", once=True),
    }
    async with host_env_with_events.run_host() as flow:
        for chat, script in {**scripts, "crashed": CRASHES_AFTER_A_TOOL}.items():
            await flow.wire(chat, chat, script=script)
            await host_env_with_events.fake.person_writes("hi", chat=chat)
        await host_env_with_events.fake.wait_for_sent(5, timeout_s=PATIENCE_S)
    assert {chat: flow.texts(chat) for chat in ("hung", *scripts)} == {
        chat: ["echo: hi"] for chat in ("hung", *scripts)
    }
    assert flow.texts("crashed") == ["looking", "found"]

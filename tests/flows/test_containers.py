"""Containers under a host: one a session, adopted after a restart, limited in number, stopped when idle."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from nanohost.config.home import HomeLocked
from nanohost.containers.disk_space import read_disk_space
from nanohost.mailbox import queries
from nanohost.runtimes.runtime_api import Container
from tests.flows.host_fixture import HostTestEnv
from tests.support.fast_clock import AcceleratedClock
from tests.support.flow import RunningHost
from tests.support.invariants import wait_for_claims, wait_until
from tests.support.small_disk import mount_small_disk

SLOW = [{"match": "slow", "actions": [{"until_file": "go"}, {"answer": "done with {text}"}]}]


def pid_of(container: Container) -> int:
    return int(container.state["pid"])


@pytest.mark.behaviour("SE-02")
async def test_a_second_host_on_the_same_home_is_refused_and_the_first_continues(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host() as flow:
        await flow.wire()
        with pytest.raises(HomeLocked, match=f"pid {os.getpid()}"):
            async with host_env_with_events.run_host():
                pass
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(1)


@pytest.mark.behaviour("SE-03", "SE-01")
async def test_a_container_outlives_its_host_and_is_adopted_by_the_next(host_env: HostTestEnv) -> None:
    runtime = host_env.make_runtime()
    async with host_env.run_host(runtime=runtime, keep_containers=True) as flow:
        await flow.wire()
        await host_env.fake.person_writes("one")
        await host_env.fake.wait_for_sent(1)
        [before] = await flow.containers()
    async with host_env.run_host(runtime=host_env.make_runtime()) as flow:
        assert list(await flow.containers()) == [before]
        assert (await flow.session()).lease == before.lease
        await host_env.fake.person_writes("two")
        await host_env.fake.wait_for_sent(2)
        assert list(await flow.containers()) == [before]
        turns = await flow.host.mailboxes.read_outbound(await flow.session(), queries.turns())
    assert turns is not None
    assert {turn.attempt for turn in turns} == {1}
    assert flow.texts() == ["echo: one", "echo: two"]


@pytest.mark.behaviour("SE-06")
async def test_growth_in_the_first_seconds_of_a_host_is_attributed_to_its_agent(tmp_path: Path) -> None:
    """The growth of an adopted container's folder is computed from its size at the start."""
    with mount_small_disk(tmp_path / "home", 40):
        stage = HostTestEnv(tmp_path / "home")
        async with stage.run_host(keep_containers=True) as flow:
            await flow.wire()
            await stage.fake.person_writes("one")
            await stage.fake.wait_for_sent(1)
        async with stage.run_host() as flow:
            hoard = flow.home.groups / "main" / "hoard"
            hoard.write_bytes(b"\1" * (read_disk_space(flow.home.root).free_bytes - 2**20))
            await wait_until(lambda: any(short.largest_growth for short in flow.host.disk_monitor.low_disks()))
            [short] = flow.host.disk_monitor.low_disks()
            assert short.largest_growth.startswith("the workspace folder of the agent main grew by")
            hoard.unlink()
            await wait_until(lambda: not flow.host.disk_monitor.is_low)
        await stage.cleanup()


@pytest.mark.behaviour("SE-03")
async def test_an_answer_written_while_the_host_was_down_is_delivered_once(host_env: HostTestEnv) -> None:
    async with host_env.run_host(should_verify_clean=False, keep_containers=True) as flow:
        await flow.wire(script=SLOW)
        await host_env.fake.person_writes("slow")
        await wait_for_claims(flow)
    flow.resume_script()
    async with host_env.run_host():
        await host_env.fake.wait_for_sent(1)
    assert flow.texts() == ["done with slow"]


@pytest.mark.behaviour("SE-03")
async def test_a_container_that_died_while_the_host_was_down_is_replaced(host_env: HostTestEnv) -> None:
    async with host_env.run_host(keep_containers=True) as flow:
        await flow.wire()
        await host_env.fake.person_writes("one")
        await host_env.fake.wait_for_sent(1)
        [container] = await flow.containers()
    os.kill(pid_of(container), signal.SIGKILL)
    async with host_env.run_host():
        await host_env.fake.person_writes("two")
        await host_env.fake.wait_for_sent(2)
    assert flow.texts() == ["echo: one", "echo: two"]


@pytest.mark.behaviour("SE-03")
async def test_a_turn_interrupted_by_a_stopping_host_is_completed_by_the_next(host_env: HostTestEnv) -> None:
    async with host_env.run_host(should_verify_clean=False) as flow:
        await flow.wire(script=SLOW)
        await host_env.fake.person_writes("slow")
        await wait_for_claims(flow)
    assert flow.texts() == []
    flow.resume_script()
    async with host_env.run_host() as flow:
        assert await host_env.fake.wait_for_sent(1)
    assert flow.texts() == ["done with slow"]


@pytest.mark.behaviour("SE-04")
async def test_with_one_container_slot_four_sessions_are_all_answered(host_env: HostTestEnv) -> None:
    runtime = host_env.make_runtime()
    async with host_env.run_host({"max_containers": 1}, runtime=runtime) as flow:
        for chat in "abcd":
            await flow.wire(chat)
            await host_env.fake.person_writes("hi", chat=chat)
        await host_env.fake.wait_for_sent(4)
        assert len(flow.host.container_manager.containers()) <= 1
    assert [spec.session_id for spec in runtime.started] == list(dict.fromkeys(s.session_id for s in runtime.started))


@pytest.mark.behaviour("SE-04")
async def test_a_message_waiting_for_a_retry_takes_no_container_from_others(
    host_env_with_events: HostTestEnv,
) -> None:
    limited = [{"match": "", "actions": [{"error": "rate_limited", "retry_in_s": 60}]}]
    async with host_env_with_events.run_host({"max_containers": 1}, should_verify_clean=False) as flow:
        await flow.wire("c1", "one", script=limited)
        await flow.wire("c2", "two")
        await host_env_with_events.fake.person_writes("hi", chat="c1")
        await host_env_with_events.fake.wait_for_sent(1)
        await host_env_with_events.fake.person_writes("hi", chat="c2")
        await host_env_with_events.fake.wait_for_sent(2)
    assert flow.texts("c2") == ["echo: hi"]


@pytest.mark.behaviour("SE-05")
async def test_an_idle_container_is_stopped_and_a_new_one_answers_the_next_message(host_env: HostTestEnv) -> None:
    runtime = host_env.make_runtime()
    async with host_env.run_host({"idle_timeout_s": 0.3, "sweep_interval_s": 0.1}, runtime=runtime) as flow:
        await flow.wire()
        await host_env.fake.person_writes("one")
        await host_env.fake.wait_for_sent(1)
        await wait_until(lambda: not flow.host.container_manager.containers())
        assert list(await flow.containers()) == []
        await host_env.fake.person_writes("two")
        await host_env.fake.wait_for_sent(2)
    assert len(runtime.started) == 2


@pytest.mark.behaviour("SE-05")
async def test_a_container_is_not_idle_while_its_turn_runs(host_env_with_events: HostTestEnv) -> None:
    runtime = host_env_with_events.make_runtime()
    async with host_env_with_events.run_host({"idle_timeout_s": 0.2, "sweep_interval_s": 0.1}, runtime=runtime) as flow:
        await flow.wire(script=[{"match": "slow", "actions": [{"sleep_s": 0.6}, {"answer": "done"}]}])
        await host_env_with_events.fake.person_writes("slow")
        await host_env_with_events.fake.wait_for_sent(1)
    assert len(runtime.started) == 1


@pytest.mark.behaviour("SE-09")
async def test_a_failed_container_start_is_notified_once_and_the_message_answered_later(
    host_env_with_events: HostTestEnv,
) -> None:
    async with host_env_with_events.run_host(
        runtime=host_env_with_events.make_runtime(failures=2), clock=AcceleratedClock()
    ) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hi")
        [notice, answer] = await host_env_with_events.fake.wait_for_sent(2)
    assert "the engine has no room" in notice.text
    assert "make room" in notice.text
    assert answer.text == "echo: hi"


@pytest.mark.behaviour("SE-09", "RU-04")
async def test_a_person_notified_of_a_delay_is_also_notified_of_the_failure(host_env_with_events: HostTestEnv) -> None:
    refuses = [{"match": "", "actions": [{"error": "permanent"}]}]
    async with host_env_with_events.run_host(runtime=host_env_with_events.make_runtime(failures=1)) as flow:
        await flow.wire(script=refuses)
        await host_env_with_events.fake.person_writes("hi")
        [wait, end] = await host_env_with_events.fake.wait_for_sent(2)
    assert "the engine has no room" in wait.text
    assert "refuses this request" in end.text


@pytest.mark.behaviour("SE-09", "OP-01")
async def test_status_gives_the_reason_why_a_session_has_no_container(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host(
        runtime=host_env_with_events.make_runtime(failures=99), should_verify_clean=False
    ) as flow:
        await flow.wire()
        await host_env_with_events.fake.person_writes("hi")
        await host_env_with_events.fake.wait_for_sent(1)
        shown = await flow.status()
    assert "Sessions whose containers fail" in shown
    assert "no container: the engine has no room" in shown


@pytest.mark.behaviour("SE-09")
async def test_a_session_whose_container_does_not_start_delays_no_other(host_env_with_events: HostTestEnv) -> None:
    async with host_env_with_events.run_host(
        {"max_containers": 1}, runtime=host_env_with_events.make_runtime(failures=3), should_verify_clean=False
    ) as flow:
        for chat in ("c1", "c2"):
            await flow.wire(chat)
            await host_env_with_events.fake.person_writes("hi", chat=chat)
        await wait_until(lambda: any(text.startswith("echo") for text in flow.texts()))


async def containers_of(flow: RunningHost) -> list[int]:
    return [pid_of(container) for container in await flow.containers()]


@pytest.mark.behaviour("SE-01", "SE-07")
async def test_an_idle_container_that_is_killed_is_replaced_for_the_next_message(host_env: HostTestEnv) -> None:
    async with host_env.run_host() as flow:
        await flow.wire()
        await host_env.fake.person_writes("one")
        await host_env.fake.wait_for_sent(1)
        [pid] = await containers_of(flow)
        await wait_until(lambda: not any(slot.is_busy for slot in flow.host.container_manager.containers()))
        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: not flow.host.container_manager.containers())
        await host_env.fake.person_writes("two")
        await host_env.fake.wait_for_sent(2)
        assert pid not in await containers_of(flow)

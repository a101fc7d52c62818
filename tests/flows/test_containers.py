"""Containers under a host: one a session, adopted after a restart, limited in number, stopped when idle."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from nanohost.home import HomeBusy
from nanohost.keeper.space import space_of
from nanohost.mailbox import queries
from nanohost.runtimes.port import Container
from tests.flows.stage import Stage
from tests.support.flow import Flow
from tests.support.hasty_clock import HastyClock
from tests.support.invariants import claimed, until
from tests.support.small_disk import small_disk

SLOW = [{"match": "slow", "actions": [{"until_file": "go"}, {"answer": "done with {text}"}]}]


def pid_of(container: Container) -> int:
    return int(container.state["pid"])


@pytest.mark.behaviour("SE-02")
async def test_a_second_host_on_the_same_folder_is_refused_and_the_first_goes_on(watched: Stage) -> None:
    async with watched.host() as flow:
        await flow.wire()
        with pytest.raises(HomeBusy, match=f"pid {os.getpid()}"):
            async with watched.host():
                pass
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for(1)


@pytest.mark.behaviour("SE-03", "SE-01")
async def test_a_container_outlives_its_host_and_goes_on_with_the_next(stage: Stage) -> None:
    runtime = stage.runtime()
    async with stage.host(runtime=runtime, keep_containers=True) as flow:
        await flow.wire()
        await stage.fake.person_writes("one")
        await stage.fake.wait_for(1)
        [before] = await flow.containers()
    async with stage.host(runtime=stage.runtime()) as flow:
        assert list(await flow.containers()) == [before]
        assert (await flow.session()).lease == before.lease
        await stage.fake.person_writes("two")
        await stage.fake.wait_for(2)
        assert list(await flow.containers()) == [before]
        turns = await flow.host.mailboxes.outbound(await flow.session(), queries.turns())
    assert turns is not None
    assert {turn.attempt for turn in turns} == {1}
    assert flow.texts() == ["echo: one", "echo: two"]


@pytest.mark.behaviour("SE-06")
async def test_who_fills_the_disk_in_the_first_seconds_of_a_host_is_named(tmp_path: Path) -> None:
    """What an adopted container writes at once is known from what was there before."""
    with small_disk(tmp_path / "home", 40):
        stage = Stage(tmp_path / "home")
        async with stage.host(keep_containers=True) as flow:
            await flow.wire()
            await stage.fake.person_writes("one")
            await stage.fake.wait_for(1)
        async with stage.host() as flow:
            hoard = flow.home.groups / "main" / "hoard"
            hoard.write_bytes(b"\1" * (space_of(flow.home.root).free - 2**20))
            await until(lambda: any(short.grew for short in flow.host.disk.shorts()))
            [short] = flow.host.disk.shorts()
            assert short.grew.startswith("the workspace folder of the agent main grew by")
            hoard.unlink()
            await until(lambda: not flow.host.disk.short)
        await stage.clear()


@pytest.mark.behaviour("SE-03")
async def test_an_answer_that_was_made_while_no_host_ran_is_delivered_once(stage: Stage) -> None:
    async with stage.host(clean=False, keep_containers=True) as flow:
        await flow.wire(script=SLOW)
        await stage.fake.person_writes("slow")
        await claimed(flow)
    flow.goes_on()
    async with stage.host():
        await stage.fake.wait_for(1)
    assert flow.texts() == ["done with slow"]


@pytest.mark.behaviour("SE-03")
async def test_a_container_that_died_while_no_host_ran_is_replaced(stage: Stage) -> None:
    async with stage.host(keep_containers=True) as flow:
        await flow.wire()
        await stage.fake.person_writes("one")
        await stage.fake.wait_for(1)
        [container] = await flow.containers()
    os.kill(pid_of(container), signal.SIGKILL)
    async with stage.host():
        await stage.fake.person_writes("two")
        await stage.fake.wait_for(2)
    assert flow.texts() == ["echo: one", "echo: two"]


@pytest.mark.behaviour("SE-03")
async def test_a_turn_that_is_stopped_with_its_host_is_done_by_the_next(stage: Stage) -> None:
    async with stage.host(clean=False) as flow:
        await flow.wire(script=SLOW)
        await stage.fake.person_writes("slow")
        await claimed(flow)
    assert flow.texts() == []
    flow.goes_on()
    async with stage.host() as flow:
        assert await stage.fake.wait_for(1)
    assert flow.texts() == ["done with slow"]


@pytest.mark.behaviour("SE-04")
async def test_with_room_for_one_container_four_sessions_are_all_answered(stage: Stage) -> None:
    runtime = stage.runtime()
    async with stage.host({"max_containers": 1}, runtime=runtime) as flow:
        for chat in "abcd":
            await flow.wire(chat)
            await stage.fake.person_writes("hi", chat=chat)
        await stage.fake.wait_for(4)
        assert len(flow.host.keeper.containers()) <= 1
    assert [spec.session_id for spec in runtime.started] == list(dict.fromkeys(s.session_id for s in runtime.started))


@pytest.mark.behaviour("SE-04")
async def test_a_message_that_is_to_be_tried_in_a_minute_keeps_no_container_from_others(watched: Stage) -> None:
    limited = [{"match": "", "actions": [{"error": "rate_limited", "retry_in_s": 60}]}]
    async with watched.host({"max_containers": 1}, clean=False) as flow:
        await flow.wire("c1", "one", script=limited)
        await flow.wire("c2", "two")
        await watched.fake.person_writes("hi", chat="c1")
        await watched.fake.wait_for(1)
        await watched.fake.person_writes("hi", chat="c2")
        await watched.fake.wait_for(2)
    assert flow.texts("c2") == ["echo: hi"]


@pytest.mark.behaviour("SE-05")
async def test_an_idle_container_is_stopped_and_a_new_one_answers_the_next_message(stage: Stage) -> None:
    runtime = stage.runtime()
    async with stage.host({"idle_timeout_s": 0.3, "sweep_interval_s": 0.1}, runtime=runtime) as flow:
        await flow.wire()
        await stage.fake.person_writes("one")
        await stage.fake.wait_for(1)
        await until(lambda: not flow.host.keeper.containers())
        assert list(await flow.containers()) == []
        await stage.fake.person_writes("two")
        await stage.fake.wait_for(2)
    assert len(runtime.started) == 2


@pytest.mark.behaviour("SE-05")
async def test_a_container_is_not_idle_while_its_turn_runs(watched: Stage) -> None:
    runtime = watched.runtime()
    async with watched.host({"idle_timeout_s": 0.2, "sweep_interval_s": 0.1}, runtime=runtime) as flow:
        await flow.wire(script=[{"match": "slow", "actions": [{"sleep_s": 0.6}, {"answer": "done"}]}])
        await watched.fake.person_writes("slow")
        await watched.fake.wait_for(1)
    assert len(runtime.started) == 1


@pytest.mark.behaviour("SE-09")
async def test_when_no_container_can_be_started_the_person_is_told_once_and_answered_later(watched: Stage) -> None:
    async with watched.host(runtime=watched.runtime(failures=2), clock=HastyClock()) as flow:
        await flow.wire()
        await watched.fake.person_writes("hi")
        [notice, answer] = await watched.fake.wait_for(2)
    assert "the engine has no room" in notice.text
    assert "make room" in notice.text
    assert answer.text == "echo: hi"


@pytest.mark.behaviour("SE-09", "RU-04")
async def test_a_person_who_was_told_to_wait_is_told_how_it_ended_too(watched: Stage) -> None:
    refuses = [{"match": "", "actions": [{"error": "permanent"}]}]
    async with watched.host(runtime=watched.runtime(failures=1)) as flow:
        await flow.wire(script=refuses)
        await watched.fake.person_writes("hi")
        [wait, end] = await watched.fake.wait_for(2)
    assert "the engine has no room" in wait.text
    assert "refuses this request" in end.text


@pytest.mark.behaviour("SE-09", "OP-01")
async def test_status_says_of_each_session_why_it_has_no_container(watched: Stage) -> None:
    async with watched.host(runtime=watched.runtime(failures=99), clean=False) as flow:
        await flow.wire()
        await watched.fake.person_writes("hi")
        await watched.fake.wait_for(1)
        shown = await flow.status()
    assert "Sessions whose containers fail" in shown
    assert "no container: the engine has no room" in shown


@pytest.mark.behaviour("SE-09")
async def test_one_session_without_a_container_keeps_no_other_waiting(watched: Stage) -> None:
    async with watched.host({"max_containers": 1}, runtime=watched.runtime(failures=3), clean=False) as flow:
        for chat in ("c1", "c2"):
            await flow.wire(chat)
            await watched.fake.person_writes("hi", chat=chat)
        await until(lambda: any(text.startswith("echo") for text in flow.texts()))


async def containers_of(flow: Flow) -> list[int]:
    return [pid_of(container) for container in await flow.containers()]


@pytest.mark.behaviour("SE-01", "SE-07")
async def test_a_container_that_is_killed_when_idle_is_replaced_for_the_next_message(stage: Stage) -> None:
    async with stage.host() as flow:
        await flow.wire()
        await stage.fake.person_writes("one")
        await stage.fake.wait_for(1)
        [pid] = await containers_of(flow)
        await until(lambda: not any(slot.busy for slot in flow.host.keeper.containers()))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not flow.host.keeper.containers())
        await stage.fake.person_writes("two")
        await stage.fake.wait_for(2)
        assert pid not in await containers_of(flow)

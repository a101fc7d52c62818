"""The keeper's promises, with containers on paper and a clock that stands still."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from nanohost.errors import StoreError
from nanohost.keeper.acks import Standing
from nanohost.keeper.adoption import Found, look_around
from nanohost.keeper.health import LOOK_EVERY_S
from nanohost.keeper.keeper import Keeper
from nanohost.model import LeaseId, Role, Session, SessionId
from nanohost.runtimes.port import Container, Running, RunState, Runtime
from nanohost.store import roles, sessions, users
from nanohost.store.database import Queries, Store
from nanohost.store.domain_events import SessionHasWork
from nanohost.testing.fake_runtime import FailingRuntime
from nanohost_protocol.outbound import OutboundWriter, TurnEnd
from nanohost_protocol.rows import Origin, Usage
from tests.keeper.bench import Bench, PaperRuntime, keeping
from tests.support.hostile import junk, link
from tests.support.invariants import until


@asynccontextmanager
async def sweeping(bench: Bench) -> AsyncIterator[None]:
    task = asyncio.create_task(bench.keeper.sweep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def has_started(bench: Bench, count: int) -> bool:
    """So many containers were started, and the last one is known to the keeper."""
    slots = bench.keeper.containers()
    return len(bench.runtime.started) == count and bool(slots) and slots[0].container is not None


def has_died(bench: Bench, session: SessionId, count: int) -> bool:
    return bench.keeper._pauses.in_a_row(session) == count


@pytest.mark.behaviour("SE-01")
async def test_wakes_of_one_session_join(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench:
        session = await bench.session("a")
        for _ in range(20):
            bench.keeper.wake(session.id)
        await until(partial(has_started, bench, 1))
        for _ in range(20):
            bench.keeper.wake(session.id)
        assert bench.keeper.waiting() == ()
        assert len(bench.runtime.started) == 1


@pytest.mark.behaviour("SE-05")
async def test_work_that_its_runner_was_done_with_before_it_was_on_record_is_not_waited_for(tmp_path: Path) -> None:
    """A message is in the mailbox before the database says that it is due; a fast runner ends it in between."""
    async with keeping(tmp_path, PaperRuntime()) as bench:
        session = await bench.session("a")
        bench.keeper.wake(session.id)
        await until(partial(has_started, bench, 1))
        with closing(runs(bench, session)) as runner:
            await takes(bench, session, runner)
            runner.finish(TurnEnd(turn_id="t", messages=(), usage=Usage()), floor=0, now=bench.clock.now())
            bench.keeper.on_change(session.id)
            await until(lambda: not bench.keeper.containers()[0].busy)
            async with bench.store.transaction() as tx:
                await sessions.make_due(tx, session.id, at=bench.clock.now(), now=bench.clock.now())
            bench.keeper.wake(session.id)
            await until(lambda: not bench.keeper.containers()[0].busy)
        assert (await sessions.get(bench.store, session.id)).due_at is None


@pytest.mark.behaviour("SE-07")
async def test_what_another_container_of_the_session_claims_is_freed_whoever_lives_now(tmp_path: Path) -> None:
    """The claim of a dead one would be kept for as long as there is a container, and its message never answered."""
    async with keeping(tmp_path, PaperRuntime()) as bench:
        session = await bench.session("a")
        bench.keeper.wake(session.id)
        await until(partial(has_started, bench, 1))
        await until(lambda: not bench.keeper._starts.busy())
        path = bench.mailboxes.layout(session).outbound_db
        with closing(OutboundWriter(path, container_id="l-gone", durable=False)) as gone:
            await takes(bench, session, gone)
        message = await bench.mailboxes.inbound(session, lambda box: box.find("m-a"))
        assert message is not None
        assert (message.status, message.tries) == ("pending", 1)
        assert len(bench.runtime.living) == 1


@pytest.mark.behaviour("SE-01")
async def test_a_container_that_was_stopped_is_buried_once_though_two_bring_the_news(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench:
        session = await bench.session("a")
        bench.keeper.wake(session.id)
        await until(lambda: bool(bench.runtime.living))
        await bench.keeper.stop_all()
        assert bench.services.detached == [session.id]
        assert (await sessions.get(bench.store, session.id)).lease is None


@pytest.mark.behaviour("SE-04")
async def test_who_waits_for_a_place_gets_none_from_a_host_that_ends(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime(), max_containers=1) as bench:
        first, second, third = [await bench.session(name) for name in ("a", "b", "c")]
        bench.keeper.wake(first.id)
        bench.keeper.wake(second.id)
        await until(partial(has_started, bench, 1))
        await bench.keeper.stop_all()
        bench.keeper.wake(third.id)
        assert bench.keeper.containers() == []
        assert [container.session_id for container in bench.runtime.started] == [first.id]


@pytest.mark.behaviour("SE-01")
async def test_a_death_that_is_told_late_does_not_touch_the_next_container(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench, sweeping(bench):
        await bench.session("a")
        bench.keeper._kick.set()
        await until(partial(has_started, bench, 1))
        first = bench.runtime.started[0]
        bench.runtime.die(first)
        await until(partial(has_started, bench, 2))
        bench.keeper.on_death(first)
        await until(lambda: not bench.keeper._deaths.busy())
        [slot] = bench.keeper.containers()
        assert slot.lease == bench.runtime.started[1].lease


@pytest.mark.behaviour("SE-08")
async def test_a_container_that_dies_again_and_again_is_started_ever_later_and_the_person_is_told(
    tmp_path: Path,
) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench, sweeping(bench):
        session = await bench.session("a")
        bench.keeper._kick.set()
        for count, pause_s in enumerate((0, 5, 10, 20), 1):
            await until(partial(has_started, bench, count))
            bench.runtime.die(bench.runtime.living[0])
            await until(partial(has_died, bench, session.id, count))
            await until(lambda: not bench.keeper._deaths.busy())
            if pause_s:
                await bench.clock.somebody_sleeps()
                await bench.clock.advance(pause_s - 0.1)
                assert len(bench.runtime.started) == count
                await bench.clock.somebody_sleeps()
                await bench.clock.advance(0.2)
        assert len(bench.notices) == 1


@pytest.mark.behaviour("SE-09")
async def test_who_is_woken_while_a_container_is_buried_waits_for_the_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench:
        session = await bench.session("a")
        bench.keeper.wake(session.id)
        take = bench.keeper._taker.take

        async def woken(session: SessionId) -> Standing | None:
            if not bench.keeper.containers():
                bench.keeper.wake(session)
            return await take(session)

        await until(partial(has_started, bench, 1))
        bench.runtime.die(bench.runtime.living[0])
        await until(lambda: not bench.keeper._deaths.busy())
        bench.keeper.wake(session.id)
        await until(partial(has_started, bench, 2))
        monkeypatch.setattr(bench.keeper._taker, "take", woken)
        bench.runtime.die(bench.runtime.living[0])
        await until(lambda: not bench.keeper._deaths.busy())
        assert bench.keeper.waiting() == ()
        assert len(bench.runtime.started) == 2


@pytest.mark.behaviour("SE-04")
async def test_what_falls_due_while_the_sweep_looks_does_not_wait_for_the_next_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench:
        session = await bench.session("a")
        soon = bench.clock.now() + timedelta(seconds=1)
        async with bench.store.transaction() as tx:
            await sessions.replace_due(tx, session.id, seen=session.due_at, due=soon)
        look = sessions.due

        async def takes_its_time(db: Queries, now: datetime) -> list[Session]:
            found = await look(db, now)
            if bench.clock.now() < soon:
                await bench.clock.advance(2)
            return found

        monkeypatch.setattr(sessions, "due", takes_its_time)
        async with sweeping(bench):
            await until(partial(has_started, bench, 1))


@pytest.mark.behaviour("SE-03")
async def test_at_the_start_the_dead_are_freed_the_living_adopted_and_strangers_stopped(tmp_path: Path) -> None:
    runtime = PaperRuntime()
    async with keeping(tmp_path, runtime) as bench:
        alive, dead = [await bench.session(name) for name in ("alive", "dead")]
        for session in (alive, dead):
            bench.keeper.wake(session.id)
        await until(lambda: len(runtime.living) == 2 and all(s.container for s in bench.keeper.containers()))
        [kept] = [one for one in runtime.living if one.session_id == alive.id]
    stranger = Container(session_id=alive.id, lease=LeaseId("of another time"), state={})
    runtime.living = [kept, stranger]
    junk(bench.mailboxes.layout(dead))
    async with keeping(tmp_path, runtime) as bench:
        assert runtime.living == [kept]
        assert [slot.lease for slot in bench.keeper.containers()] == [kept.lease]
        assert [session.id for session in await sessions.leased(bench.store)] == [alive.id]


@pytest.mark.behaviour("SE-01", "SE-03")
async def test_who_has_work_while_containers_are_adopted_gets_no_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = PaperRuntime()
    async with keeping(tmp_path, runtime) as bench:
        session = await bench.session("a")
        bench.keeper.wake(session.id)
        await until(lambda: bool(bench.keeper.containers()) and bench.keeper.containers()[0].container is not None)

    async def looks_while_work_comes(db: Store, _: Runtime) -> Found:
        found = await look_around(db, runtime)
        db.bus.publish(SessionHasWork(session.id))
        keeper: Keeper = runtime.on_death.__self__  # type: ignore[attr-defined]
        await until(lambda: not keeper._starts.busy())
        return found

    monkeypatch.setattr("nanohost.keeper.keeper.look_around", looks_while_work_comes)
    async with keeping(tmp_path, runtime) as bench, sweeping(bench):
        await bench.clock.somebody_sleeps()
        await until(lambda: not bench.keeper._starts.busy())
        assert runtime.started == runtime.living
        assert len(runtime.started) == 1


class DiesAsItStarts(PaperRuntime):
    """The second container is dead and buried before its start is through."""

    async def poll(self, container: Container) -> RunState:
        if len(self.started) == 2 and container in self.living:
            keeper: Keeper = self.on_death.__self__  # type: ignore[attr-defined]
            self.die(container)
            await until(lambda: not keeper.containers() and not keeper._deaths.busy())
            return Running()  # as it was when the engine was asked
        return await super().poll(container)


@pytest.mark.behaviour("SE-04")
async def test_a_container_that_dies_while_it_starts_is_paused_for_like_any_other(tmp_path: Path) -> None:
    runtime = DiesAsItStarts()
    async with keeping(tmp_path, runtime) as bench:
        session = await bench.session("a")
        bench.keeper.wake(session.id)
        await until(partial(has_started, bench, 1))
        await until(lambda: not bench.keeper._starts.busy())
        runtime.die(runtime.living[0])
        await until(partial(has_died, bench, session.id, 1))
        await until(lambda: not bench.keeper._deaths.busy())
        bench.keeper.wake(session.id)
        await until(lambda: len(runtime.started) == 2 and not runtime.living)
        await until(lambda: not bench.keeper._starts.busy() and not bench.keeper._holds.busy())
        assert has_died(bench, session.id, 2)
        bench.keeper.wake(session.id)
        assert len(runtime.started) == 2, "not before its pause is over"
        assert bench.keeper.waiting() == ()


@pytest.mark.behaviour("SE-03")
async def test_a_container_that_cannot_be_adopted_is_stopped_and_the_others_are_adopted(tmp_path: Path) -> None:
    runtime = PaperRuntime()
    async with keeping(tmp_path, runtime) as bench:
        bad, good = [await bench.session(name) for name in ("bad", "good")]
        for session in (bad, good):
            bench.keeper.wake(session.id)
        await until(lambda: len(runtime.living) == 2 and all(s.container for s in bench.keeper.containers()))
    async with keeping(tmp_path, runtime, refuses=bad.id) as bench:
        await until(lambda: [slot.session_id for slot in bench.keeper.containers()] == [good.id])
        assert [container.session_id for container in runtime.living] == [good.id]
        assert [session.id for session in await sessions.leased(bench.store)] == [good.id]


async def test_the_sweep_looks_into_every_container_for_what_news_missed(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench, sweeping(bench):
        session = await bench.session("a")
        bench.keeper.wake(session.id)
        await until(partial(has_started, bench, 1))
        await until(lambda: not bench.keeper._starts.busy())
        await bench.clock.somebody_sleeps()
        bench.news.clear()
        await bench.clock.advance(61)
        await until(lambda: session.id in bench.news)


@pytest.mark.behaviour("SE-04")
async def test_no_more_than_the_most_run_and_the_rest_waits_in_order(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime(), max_containers=1) as bench:
        ids = [(await bench.session(name)).id for name in "abc"]
        for id in ids:
            bench.keeper.wake(id)
        assert bench.keeper.waiting() == tuple(ids[1:])
        for count in (1, 2, 3):
            await until(partial(has_started, bench, count))
            assert [one.session_id for one in bench.runtime.started] == ids[:count]
            bench.runtime.die(bench.runtime.living[0])


# --- stuck


def runs(bench: Bench, session: Session) -> OutboundWriter:
    """The runner's half of the session's mailbox, as its latest container would open it."""
    lease = bench.runtime.started[-1].lease
    return OutboundWriter(bench.mailboxes.layout(session).outbound_db, container_id=lease, durable=False)


async def takes(bench: Bench, session: Session, runner: OutboundWriter) -> None:
    """The runner claims what waits."""
    rows = await bench.mailboxes.inbound(session, lambda box: list(box.due(bench.clock.now())))
    runner.claim("t", rows, bench.clock.now())
    bench.keeper.on_change(session.id)
    await until(lambda: not bench.keeper._acks.busy())


async def pass_looks(bench: Bench, session: Session, seconds: float, *, beating: bool) -> None:
    """Time goes on, look by look, with a heart that beats or does not."""
    for _ in range(round(seconds / 10)):
        if beating:
            beat(bench, session)
        await bench.clock.advance(10)
        await bench.keeper._sweep_once(bench.clock.now())


def beat(bench: Bench, session: Session) -> None:
    heartbeat = bench.mailboxes.layout(session).heartbeat
    heartbeat.touch()
    os.utime(heartbeat, ns=(0, heartbeat.lstat().st_mtime_ns + 1))


@asynccontextmanager
async def at_work(root: Path) -> AsyncIterator[tuple[Bench, Session, OutboundWriter]]:
    """A session whose container has begun to beat and took its message."""
    async with keeping(root, PaperRuntime()) as bench:
        session = await bench.session("a")
        bench.keeper.wake(session.id)
        await until(partial(has_started, bench, 1))
        await until(lambda: not bench.keeper._starts.busy())
        with closing(runs(bench, session)) as runner:
            await takes(bench, session, runner)
            await pass_looks(bench, session, 20, beating=True)
            yield bench, session, runner


@pytest.mark.behaviour("SE-06", "SE-07")
async def test_a_container_whose_heart_stops_is_stopped_and_its_message_tried_again_after_a_pause(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path) as (bench, session, _):
        await pass_looks(bench, session, 30, beating=False)
        assert len(bench.runtime.living) == 1
        await pass_looks(bench, session, 10, beating=False)
        await until(lambda: not bench.runtime.living)
        await until(lambda: session.id in bench.keeper.troubles())
        assert "its heartbeat stopped 40 s ago" in bench.keeper.troubles()[session.id].reason
        await until(lambda: not bench.keeper._deaths.busy())
        message = await bench.mailboxes.inbound(session, lambda box: box.find("m-a"))
        assert message is not None
        assert message.tries == 1
        assert message.process_after is not None
        assert message.process_after > bench.clock.now()


@pytest.mark.behaviour("SE-06")
async def test_a_container_that_beats_is_stopped_only_when_its_turn_shows_nothing_for_long(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (bench, session, runner):
        await pass_looks(bench, session, 1700, beating=True)
        runner.set_progress({"state": "turn", "tool": "Bash", "tool_since": "now", "tool_timeout_s": "2000"})
        await pass_looks(bench, session, 2000, beating=True)
        assert len(bench.runtime.living) == 1
        await pass_looks(bench, session, 20, beating=True)
        await until(lambda: not bench.runtime.living)
        await until(lambda: session.id in bench.keeper.troubles())
        assert "in the tool Bash" in bench.keeper.troubles()[session.id].reason


HERS = Origin(channel_type="fake", instance="default", platform_id="boss")


async def test_a_conversation_that_is_not_kept_is_known_until_a_turn_is_kept_again_and_told_when_it_is_seen(
    tmp_path: Path,
) -> None:
    async with at_work(tmp_path) as (bench, session, runner):
        async with bench.store.transaction() as tx:
            await users.seen(tx, "fake:boss", name="Boss", now=bench.clock.now())
            await users.learn_dm(tx, "fake:boss", HERS, bench.clock.now())
            await roles.grant(tx, user_id="fake:boss", role=Role.OWNER, agent_group=None, now=bench.clock.now())
        for _ in range(2):
            runner.set_progress({"state": "turn", "not_kept": "what a container says of the time is not asked for"})
            await pass_looks(bench, session, 30, beating=True)
            assert list(bench.keeper.unkept()) == [session.id]
            assert [lane.platform_id for lane in bench.notices] == [HERS.platform_id], "told once"
        runner.set_progress({"state": "turn"})
        await pass_looks(bench, session, 10, beating=True)
        assert bench.keeper.unkept() == {}
        assert len(bench.runtime.living) == 1


@pytest.mark.behaviour("SE-06")
async def test_a_container_is_not_stopped_for_what_is_on_record_of_another_one(tmp_path: Path) -> None:
    """What is read of a session may be of the container before: its heart stopped, and this one's did not."""
    async with at_work(tmp_path) as (bench, session, _):
        async with bench.store.transaction() as tx:
            await sessions.lease(tx, session.id, LeaseId("l-before"), "paper")
        await pass_looks(bench, session, 60, beating=False)
        assert len(bench.runtime.living) == 1


@pytest.mark.behaviour("SE-06")
async def test_a_container_that_beats_and_takes_nothing_is_stopped(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench:
        session = await bench.session("a")
        bench.keeper.wake(session.id)
        await until(partial(has_started, bench, 1))
        runs(bench, session).close()
        await until(lambda: not bench.keeper._starts.busy())
        await pass_looks(bench, session, 60, beating=True)
        assert len(bench.runtime.started) == 1
        await pass_looks(bench, session, 20, beating=True)
        await until(lambda: session.id in bench.keeper.troubles())
        assert "it takes none" in bench.keeper.troubles()[session.id].reason


@pytest.mark.behaviour("SE-06")
async def test_a_container_is_looked_at_from_its_start_on_and_not_from_the_next_sweep_on(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench, sweeping(bench):
        await bench.clock.somebody_sleeps()
        await bench.clock.advance(1)
        session = await bench.session("a")
        bench.keeper.wake(session.id)
        await until(partial(has_started, bench, 1))
        await until(lambda: min(bench.clock.sleeping(), default=60.0) <= LOOK_EVERY_S)


@pytest.mark.behaviour("SE-06")
async def test_a_container_that_spoils_its_file_is_stopped_and_others_go_on(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (bench, session, runner):
        runner.close()
        link(bench.mailboxes.layout(session))
        for _ in range(20):
            await pass_looks(bench, session, 10, beating=True)
            if session.id in bench.keeper.troubles():
                break
        assert "is not a plain file" in bench.keeper.troubles()[session.id].reason


@pytest.mark.behaviour("SE-08")
async def test_a_death_is_told_to_the_operator_with_the_last_words(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench, sweeping(bench):
        session = await bench.session("a")
        bench.keeper._kick.set()
        await until(partial(has_started, bench, 1))
        log = bench.mailboxes.layout(session).log_dir / "container.log"
        log.write_bytes(b"starting\n2026-01-01T12:00:00Z \x1b[31mno module named x\xff\n\n")
        bench.runtime.die(bench.runtime.living[0])
        await until(partial(has_died, bench, session.id, 1))
        assert bench.keeper.troubles()[session.id].reason == (
            "its container died; it last wrote: [31mno module named x\N{REPLACEMENT CHARACTER}"
        )


@pytest.mark.behaviour("SE-09")
async def test_a_start_that_fails_is_known_with_its_reason_until_something_is_done(tmp_path: Path) -> None:
    runtime = FailingRuntime(PaperRuntime(), failures=1)
    async with keeping(tmp_path, runtime) as bench, sweeping(bench):  # type: ignore[arg-type]
        session = await bench.session("a")
        bench.keeper._kick.set()
        await until(lambda: session.id in bench.keeper.troubles())
        assert "the engine has no room" in bench.keeper.troubles()[session.id].reason
        await until(lambda: len(runtime.started) == 1 and bench.keeper.containers()[0].container is not None)
        lease = bench.keeper.containers()[0].lease
        path = bench.mailboxes.layout(session).outbound_db
        with closing(OutboundWriter(path, container_id=lease, durable=False)) as runner:
            await takes(bench, session, runner)
        await until(lambda: not bench.keeper.troubles())


# --- the store fails


@pytest.mark.behaviour("SE-07", "SE-08")
async def test_a_store_that_fails_while_a_container_is_buried_only_delays_what_follows_its_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with at_work(tmp_path) as (bench, session, _):
        take, failures = bench.keeper._taker.take, [StoreError("the disk is full")]

        async def taking(session: SessionId) -> Standing | None:
            if failures and not bench.keeper.containers():
                raise failures.pop()
            return await take(session)

        monkeypatch.setattr(bench.keeper._taker, "take", taking)
        bench.runtime.die(bench.runtime.living[0])
        await until(lambda: not failures)
        await bench.clock.somebody_sleeps()
        await bench.clock.advance(1)
        await until(partial(has_died, bench, session.id, 1))
        await until(lambda: not bench.keeper._deaths.busy())
        message = await bench.mailboxes.inbound(session, lambda box: box.find("m-a"))
        assert message is not None
        assert message.tries == 1

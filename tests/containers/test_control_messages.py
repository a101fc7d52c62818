"""How long a control message may take, with a responsive runner and an unresponsive one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from nanohost.containers.control_messages import CONTROL_TIMEOUT_S, UNRESPONSIVE_GRACE_S
from nanohost.work.keyed_workers import INITIAL_BACKOFF_S
from nanohost_protocol.payloads import STOP, ControlIn, encode
from nanohost_protocol.rows import InKind, NewMessageIn
from tests.containers.harness import ContainerManagerHarness, FakeRuntime, run_manager
from tests.containers.test_manager import has_started
from tests.support.invariants import wait_until


@pytest.mark.behaviour("SE-12")
def test_an_unresponsive_runner_is_stopped_within_two_seconds() -> None:
    assert CONTROL_TIMEOUT_S + UNRESPONSIVE_GRACE_S < 2, "so long to obey, then so long until SIGKILL"


@pytest.mark.behaviour("SE-12")
async def test_a_stop_is_not_delayed_by_an_unreadable_mailbox(tmp_path: Path) -> None:
    async with run_manager(tmp_path, FakeRuntime()) as bench:
        session = await bench.add_session("c1")
        bench.manager.wake(session.id)
        await wait_until(partial(has_started, bench, 1))
        mailbox = bench.mailboxes.layout(session).inbound_db
        sound = mailbox.read_bytes()
        mailbox.write_bytes(b"garbage" * 1000)
        bench.manager.on_control_messages(session.id)
        pause_s = INITIAL_BACKOFF_S
        await wait_until(partial(_sleeps, bench, pause_s))
        while pause_s < 2 * CONTROL_TIMEOUT_S:
            await bench.clock.advance(pause_s)
            pause_s *= 2
            await wait_until(partial(_sleeps, bench, pause_s))
        mailbox.write_bytes(sound)
        stop = NewMessageIn(
            id="stop", kind=InKind.CONTROL, timestamp=bench.clock.now(), content=encode(ControlIn(command=STOP))
        )
        await bench.mailboxes.put(session, [stop])
        bench.manager.on_control_messages(session.id)
        await wait_until(partial(_sleeps, bench, CONTROL_TIMEOUT_S))
        await bench.clock.advance(CONTROL_TIMEOUT_S + 0.01)
        await wait_until(lambda: not bench.runtime.living)


def _sleeps(bench: ContainerManagerHarness, seconds: float) -> bool:
    return pytest.approx(seconds) in bench.clock.remaining_sleeps_s()

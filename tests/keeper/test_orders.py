"""What a runner was told to do: in how much time it is done, whether it listens or not."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from nanohost.keeper.orders import DISOBEDIENT_GRACE_S, OBEY_WITHIN_S
from nanohost.lanes import FIRST_PAUSE_S
from nanohost_protocol.payloads import STOP, ControlIn, encode
from nanohost_protocol.rows import InKind, NewMessageIn
from tests.keeper.bench import Bench, PaperRuntime, keeping
from tests.keeper.test_keeper import has_started
from tests.support.invariants import until


@pytest.mark.behaviour("SE-12")
def test_a_turn_is_stopped_within_two_seconds_however_deaf_its_runner_is() -> None:
    assert OBEY_WITHIN_S + DISOBEDIENT_GRACE_S < 2, "so long to obey, then so long until SIGKILL"


@pytest.mark.behaviour("SE-12")
async def test_a_stop_is_not_kept_waiting_because_the_mailbox_could_not_be_read_before_it(tmp_path: Path) -> None:
    async with keeping(tmp_path, PaperRuntime()) as bench:
        session = await bench.session("c1")
        bench.keeper.wake(session.id)
        await until(partial(has_started, bench, 1))
        mailbox = bench.mailboxes.layout(session).inbound_db
        sound = mailbox.read_bytes()
        mailbox.write_bytes(b"garbage" * 1000)
        bench.keeper.obey(session.id)
        pause_s = FIRST_PAUSE_S
        await until(partial(_sleeps, bench, pause_s))
        while pause_s < 2 * OBEY_WITHIN_S:
            await bench.clock.advance(pause_s)
            pause_s *= 2
            await until(partial(_sleeps, bench, pause_s))
        mailbox.write_bytes(sound)
        stop = NewMessageIn(
            id="stop", kind=InKind.CONTROL, timestamp=bench.clock.now(), content=encode(ControlIn(command=STOP))
        )
        await bench.mailboxes.put(session, [stop])
        bench.keeper.obey(session.id)
        await until(partial(_sleeps, bench, OBEY_WITHIN_S))
        await bench.clock.advance(OBEY_WITHIN_S + 0.01)
        await until(lambda: not bench.runtime.living)


def _sleeps(bench: Bench, seconds: float) -> bool:
    return pytest.approx(seconds) in bench.clock.sleeping()

"""WhatsApp accepts a message and reports its failure later: through a whole host, and a restart."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nanohost.config.home import Home
from nanohost.db import deliveries, sessions, status_counts
from nanohost.db.deliveries import Delivery, DeliveryStatus
from nanohost.host import Host
from nanohost.testing.simulator import ADA
from nanohost.testing.simulators.whatsapp import WhatsAppSimulator
from nanohost.testing.time_limits import HANG_TIMEOUT_S, scaled_timeout
from nanohost.verify.checks import verify
from nanohost_protocol.payloads import SystemIn, decode_in

from .test_flow import hosted


@pytest.mark.behaviour("DL-16", "DL-03")
@pytest.mark.case("refused after it was taken (outside the window)")
async def test_a_late_failure_is_recorded_with_its_reason_also_across_a_restart(
    tmp_path: Path, meta: WhatsAppSimulator
) -> None:
    meta.keeps_statuses = False
    async with hosted(tmp_path, meta) as host:
        await meta.write(ADA.id, "remind me at noon")
        [shown] = await meta.wait_for_messages(1, ADA.id)
        await _answer_is(host, DeliveryStatus.SENT)
    meta.give_up(shown)
    meta.give_up(shown)  # Meta may say it twice
    async with hosted(tmp_path, meta) as host:
        failed = await _answer_is(host, DeliveryStatus.DEAD)
        assert failed.reason is not None
        assert "(code 131047); more than 24 hours have passed since they last wrote" in failed.reason
        [listed] = (await status_counts.lists(host.store.reports, host.clock.now()))["deliveries_dead"]
        assert listed["reason"] == failed.reason, "status says so"
        [told] = await _notes_to_agent(host)
        assert "remind me at noon" in told
        assert "more than 24 hours" in told
        await host.overdue_monitor.check()
        await meta.write(ADA.id, "I am back")
        await meta.wait_for_messages(2, ADA.id)
        assert await verify(host.store, Home(tmp_path), clock=host.clock, is_host_running=True) == []
    assert meta.texts(ADA.id) == ["echo: remind me at noon", "echo: I am back"], "nothing else into a closed window"


@pytest.mark.behaviour("DL-16", "DL-03")
async def test_a_refusal_outside_the_24_hour_window_is_reported_to_operator_and_agent(
    tmp_path: Path, meta: WhatsAppSimulator
) -> None:
    meta.keeps_windows_closed = True
    async with hosted(tmp_path, meta) as host:
        await meta.write(ADA.id, "remind me at noon")
        failed = await _answer_is(host, DeliveryStatus.DEAD)
        assert "more than 24 hours have passed since they last wrote" in (failed.reason or "")
        [listed] = (await status_counts.lists(host.store.reports, host.clock.now()))["deliveries_dead"]
        assert listed["reason"] == failed.reason, "status says so"
        [told] = await _until_told(host)
        assert "remind me at noon" in told
        assert "more than 24 hours" in told
        await host.overdue_monitor.check()
        meta.keeps_windows_closed = False
        await meta.write(ADA.id, "I am back")
        await meta.wait_for_messages(1, ADA.id)
        assert await verify(host.store, Home(tmp_path), clock=host.clock, is_host_running=True) == []
    assert meta.texts(ADA.id) == ["echo: I am back"], "nothing else into a closed window"


async def _answer_is(host: Host, status: DeliveryStatus) -> Delivery:
    """The first answer, once it has this status."""
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            found = await deliveries.latest(host.store.reports, status=status, session=None, limit=1)
            if found:
                return found[0]
            await asyncio.sleep(0.02)


async def _until_told(host: Host) -> list[str]:
    async with asyncio.timeout(scaled_timeout(HANG_TIMEOUT_S)):
        while True:
            if told := await _notes_to_agent(host):
                return told
            await asyncio.sleep(0.02)


async def _notes_to_agent(host: Host) -> list[str]:
    """The host's messages to the agent."""
    [session] = [one async for one in sessions.iter_all(host.store.reports)]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    rows = await host.mailboxes.read_inbound(session, lambda box: list(box.due(tomorrow)))
    notes = [decode_in(row.kind, row.content) for row in rows]
    return [note.text for note in notes if isinstance(note, SystemIn)]

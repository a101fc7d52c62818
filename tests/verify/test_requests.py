"""What agents ask for is accounted for as what they say is."""

from __future__ import annotations

import pytest

from tests.verify.healthy import Bench

REQUEST = """
INSERT INTO actions (session_id, seq, out_id, name, arguments, asked_at, status, notice_id, told, created_at)
VALUES ('{session}', {seq}, '{out_id}', 'tasks.pause', '{{}}', '2026', 'refused', '{notice}', {told}, '2026');
"""


async def found(bench: Bench) -> list[str]:
    return [finding.check for finding in await bench.verify()]


@pytest.mark.parametrize(("out_id", "checks"), [("o2", []), ("o3", ["taken over rows are in the ledger"])])
async def test_a_row_that_became_an_action_is_on_record(bench: Bench, out_id: str, checks: list[str]) -> None:
    bench.outbound(
        bench.rest,
        "INSERT INTO messages_out (seq, id, turn_id, timestamp, kind, content)"
        " SELECT 91, 'o2', turn_id, timestamp, 'system', content FROM messages_out",
    )
    bench.central(f"UPDATE sessions SET out_cursor = 91 WHERE id = '{bench.rest.id}'")
    bench.central(REQUEST.format(session=bench.rest.id, seq=91, out_id=out_id, notice="a1", told=1))
    assert await found(bench) == checks


@pytest.mark.parametrize(("told", "checks"), [(0, []), (1, ["pending work is due"])])
async def test_what_is_being_told_when_the_host_dies_is_told_by_the_next(
    bench: Bench, told: int, checks: list[str]
) -> None:
    bench.inbound(
        bench.rest,
        "INSERT INTO messages_in (seq, id, kind, timestamp, content)"
        " SELECT 90, 'a1', 'system', timestamp, content FROM messages_in",
    )
    bench.central(REQUEST.format(session=bench.rest.id, seq=91, out_id="o2", notice="a1", told=told))
    assert await found(bench) == checks

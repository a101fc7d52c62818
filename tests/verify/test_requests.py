"""Requests of agents are checked as messages are."""

from __future__ import annotations

import pytest

from tests.verify.healthy import HealthyHome

REQUEST = """
INSERT INTO actions (session_id, seq, out_id, name, arguments, requested_at, status, notice_id, notified, created_at)
VALUES ('{session}', {seq}, '{out_id}', 'tasks.pause', '{{}}', '2026', 'refused', '{notice}', {told}, '2026');
"""


async def failed_checks(bench: HealthyHome) -> list[str]:
    return [finding.check for finding in await bench.verify()]


@pytest.mark.parametrize(("out_id", "checks"), [("o2", []), ("o3", ["collected rows are in the ledger"])])
async def test_a_request_row_is_checked_against_its_recorded_action(
    home_fixture: HealthyHome, out_id: str, checks: list[str]
) -> None:
    home_fixture.run_outbound_sql(
        home_fixture.idle_session,
        "INSERT INTO messages_out (seq, id, turn_id, timestamp, kind, content)"
        " SELECT 91, 'o2', turn_id, timestamp, 'system', content FROM messages_out",
    )
    home_fixture.run_central_sql(f"UPDATE sessions SET out_cursor = 91 WHERE id = '{home_fixture.idle_session.id}'")
    home_fixture.run_central_sql(
        REQUEST.format(session=home_fixture.idle_session.id, seq=91, out_id=out_id, notice="a1", told=1)
    )
    assert await failed_checks(home_fixture) == checks


@pytest.mark.parametrize(("told", "checks"), [(0, []), (1, ["pending work is due"])])
async def test_an_unrecorded_report_is_no_finding_and_a_recorded_one_must_be_due(
    home_fixture: HealthyHome, told: int, checks: list[str]
) -> None:
    home_fixture.run_inbound_sql(
        home_fixture.idle_session,
        "INSERT INTO messages_in (seq, id, kind, timestamp, content)"
        " SELECT 90, 'a1', 'system', timestamp, content FROM messages_in",
    )
    home_fixture.run_central_sql(
        REQUEST.format(session=home_fixture.idle_session.id, seq=91, out_id="o2", notice="a1", told=told)
    )
    assert await failed_checks(home_fixture) == checks

"""Each check finds its own kind of damage, and no other check does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from nanohost.approvals.card import compute_digest
from nanohost.verify.checks import CHECKS
from nanohost_protocol.layout import SessionLayout
from tests.support import corrupt_files
from tests.verify.healthy import HealthyHome

Breaker = Callable[[HealthyHome], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of damage, the check that finds it, and words of the finding."""

    check: str
    name: str
    cut: Breaker
    says: str


def central(sql: str) -> Breaker:
    return lambda bench: bench.run_central_sql(sql)


def inbound(sql: str) -> Breaker:
    """Run on the idle session; REST in the text is its id."""
    return lambda bench: bench.run_inbound_sql(bench.idle_session, sql)


def outbound(sql: str) -> Breaker:
    return lambda bench: bench.run_outbound_sql(bench.idle_session, sql)


def spoiled(spoiler: Callable[[SessionLayout], None]) -> Breaker:
    return lambda bench: spoiler(bench.layout(bench.idle_session))


def _claim_of_nobody(bench: HealthyHome) -> None:
    """A claim on later context by a container without a lease: no work of this session is due."""
    bench.run_inbound_sql(
        bench.idle_session,
        'INSERT INTO messages_in (seq, id, kind, timestamp, "trigger", content) '
        "SELECT 90, 'm-context', kind, timestamp, 0, content FROM messages_in",
    )
    bench.run_outbound_sql(
        bench.idle_session,
        "INSERT INTO processing_ack (message_id, change, status, container_id, turn_id, tries, changed_at) "
        "SELECT 'm-context', 90, 'processing', 'l-lost', turn_id, 0, changed_at FROM processing_ack",
    )


def _completed_under_way(bench: HealthyHome) -> None:
    bench.run_inbound_sql(bench.busy_session, "UPDATE messages_in SET status = 'completed'")
    bench.run_central_sql("UPDATE sessions SET due_at = NULL")


def _skipped_migration(bench: HealthyHome) -> None:
    folder = bench.home.migrations / "notes"
    folder.mkdir(parents=True)
    (folder / "0001_notes.sql").write_text("CREATE TABLE notes (text TEXT);")


def _old_mailbox(bench: HealthyHome) -> None:
    bench.run_inbound_sql(bench.idle_session, "PRAGMA user_version = 99")


def _lost_mailbox(bench: HealthyHome) -> None:
    bench.layout(bench.idle_session).inbound_db.unlink()


def _lost_folder(bench: HealthyHome) -> None:
    shutil.rmtree(bench.layout(bench.idle_session).root)


def _stray_folder(bench: HealthyHome) -> None:
    (bench.home.sessions / "rest" / bench.busy_session.id).mkdir()


TASK = """
INSERT INTO tasks (id, session_id, kind, content, timezone, next_due, misfire, created_by, created_at, changed_at)
VALUES ('j1', 's-rest', 'agent', 'look', 'UTC', '2026-01-01', 'latest', 'test', '2026-01-01', '2026-01-01');
"""
RUN = """
INSERT INTO task_runs (task_id, session_id, due, message_id, decided_at, started_at)
VALUES ('j1', '{session}', '2026-01-01', 'k1', '2026-01-01', {started});
"""
APPROVAL = """
INSERT INTO approvals (id, kind, subject, rendered_text, options, payload, requested_by, session_id, seq, created_at,
    expires_at, status, decided_at, digest)
VALUES ('k3f7qd', 'sender', 'fake:eve rest', 'Eve', '[]', '{{}}', 'fake:eve', {session}, {seq}, '2026-01-01',
    '2027-01-01', '{status}', {decided}, '{digest}');
"""


def approval(status: str, *, decided: str = "NULL", session: str = "NULL", seq: str = "NULL", digest: str = "") -> str:
    return APPROVAL.format(
        status=status, decided=decided, session=session, seq=seq, digest=digest or compute_digest("Eve", "{}")
    )


CASES = (
    Case(
        check="central database integrity",
        name="a value that its column forbids",
        cut=central("UPDATE messaging_groups SET is_group = 7 WHERE platform_id = 'rest'"),
        says="CHECK constraint failed in messaging_groups",
    ),
    Case(
        check="foreign keys are valid",
        name="a role in a group that is gone",
        cut=central("INSERT INTO roles VALUES ('fake:ann', 'member', 99, '2026-01-01')"),
        says="of roles refers to a row of agent_groups",
    ),
    Case(
        check="migrations match their files",
        name="changed",
        cut=central("UPDATE schema_migrations SET checksum = 'x' WHERE name = '0001_initial'"),
        says="core/0001_initial was changed",
    ),
    Case(
        check="migrations match their files",
        name="gone",
        cut=central("INSERT INTO schema_migrations VALUES ('notes', '0001_notes', 'x', '2026-01-01')"),
        says="notes/0001_notes was applied, and its file is gone",
    ),
    Case(
        check="migrations match their files",
        name="not applied",
        cut=_skipped_migration,
        says="notes/0001_notes has a file, and was not applied",
    ),
    Case(
        check="sending deliveries have an open attempt",
        name="nobody sends it",
        cut=central("UPDATE deliveries SET status = 'sending'"),
        says="is being sent, and no attempt is under way",
    ),
    Case(
        check="sent deliveries have a sent attempt",
        name="none does",
        cut=central("UPDATE delivery_attempts SET outcome = 'down'"),
        says="is sent, and no attempt says so",
    ),
    Case(
        check="held items have an open approval",
        name="a message whose approval is gone",
        cut=central("UPDATE routes SET outcome = 'held', approval_id = 'abc' WHERE event_id = 1"),
        says="is held, and approval abc is not open",
    ),
    Case(
        check="held items have an open approval",
        name="an event whose approval is gone",
        cut=central("UPDATE inbound_events SET status = 'held', approval_id = 'abc' WHERE platform_id = 'rest'"),
        says="is held, and approval abc is not open",
    ),
    Case(
        check="held items have an open approval",
        name="a request whose approval is gone",
        cut=lambda bench: bench.run_central_sql(
            "INSERT INTO actions (session_id, seq, out_id, name, arguments, requested_at, status, created_at,"
            f" approval_id) VALUES ('{bench.idle_session.id}', 99, 'o9', 'tasks.create', '{{}}', '', 'held', '', 'abc')"
        ),
        says="is held, and approval abc is not open",
    ),
    Case(
        check="context routes do not trigger",
        name="written, and no trigger",
        cut=central("UPDATE routes SET trigger = 0 WHERE event_id = 1"),
        says="is written, and its message wakes nobody",
    ),
    Case(
        check="routes name their message",
        name="no message",
        cut=lambda bench: bench.run_central_sql(
            f"UPDATE routes SET message_id = NULL WHERE session_id = '{bench.idle_session.id}'"
        ),
        says="is written, and names no message",
    ),
    Case(
        check="only collected rows are deleted",
        name="ahead of the cursor",
        cut=lambda bench: bench.run_central_sql(
            f"INSERT INTO retention_watermarks VALUES ('{bench.idle_session.id}', 999)"
        ),
        says="has forgotten rows up to 999",
    ),
    Case(
        check="leases are unique",
        name="two sessions in one container",
        cut=lambda bench: bench.run_central_sql(
            f"UPDATE sessions SET lease = 'l-busy', runtime = 'paper' WHERE id = '{bench.idle_session.id}'"
        ),
        says="have the lease l-busy, all of them",
    ),
    Case(
        check="attempt counts match",
        name="one too many",
        cut=central("UPDATE deliveries SET attempts = 2"),
        says="counts 2 attempts, and 1 are on record",
    ),
    Case(
        check="ended deliveries have no open attempt",
        name="sent without an end",
        cut=central("UPDATE delivery_attempts SET ended_at = NULL"),
        says="has no end, and the delivery is sent",
    ),
    Case(
        check="routed events have routes",
        name="nothing on record",
        cut=central(
            "INSERT INTO inbound_events SELECT 90, channel_type, instance, platform_id, 'p90', event_kind, thread_id,"
            " is_group, mentions_bot, sender_handle, sender_name, sender_is_bot, chat_name, text, refers_to, sent_at,"
            " received_at, status, reason, attempts, value, attachments, approval_id, parts, album FROM inbound_events"
            " WHERE platform_id = 'rest'"
        ),
        says="event 90 (p90 of fake:rest)",
    ),
    Case(
        check="leases name their runtime",
        name="a lease alone",
        cut=central("UPDATE sessions SET runtime = NULL WHERE lease = 'l-busy'"),
        says="has lease l-busy and runtime none",
    ),
    Case(
        check="session folders are not orphaned",
        name="in another group's folder",
        cut=_stray_folder,
        says="the folder sessions/rest/s",
    ),
    Case(check="session has its folder", name="no folder", cut=_lost_folder, says="has messages and no folder"),
    Case(check="session has its folder", name="no out", cut=spoiled(corrupt_files.gone), says="has no folder out/"),
    Case(check="inbound opens", name="gone", cut=_lost_mailbox, says="has messages and no inbound.db"),
    Case(check="inbound opens", name="of another version", cut=_old_mailbox, says="has mailbox version 99"),
    Case(check="outbound opens", name="junk", cut=spoiled(corrupt_files.junk), says="outbound.db"),
    Case(check="outbound opens", name="a link", cut=spoiled(corrupt_files.link), says="is not a plain file"),
    Case(check="outbound opens", name="a pipe", cut=spoiled(corrupt_files.fifo), says="is not a plain file"),
    Case(
        check="outbound opens",
        name="gone",
        cut=lambda bench: bench.layout(bench.idle_session).outbound_db.unlink(),
        says="has messages and no outbound.db",
    ),
    Case(
        check="open claims belong to the lease",
        name="of a container that nobody knows",
        cut=_claim_of_nobody,
        says="m-context is claimed by container l-lost",
    ),
    Case(
        check="inbound numbers are even",
        name="odd",
        cut=inbound("UPDATE messages_in SET seq = 91"),
        says="row 91 of inbound.db",
    ),
    Case(
        check="outbound numbers are odd",
        name="even",
        cut=spoiled(lambda layout: corrupt_files.insert_row(layout, 90)),
        says="row 90 of outbound.db",
    ),
    Case(
        check="collected rows are in the ledger",
        name="passed over",
        cut=lambda bench: corrupt_files.insert_row(bench.layout(bench.idle_session), 1),
        says="row 1 (o-1) of outbound.db was passed over",
    ),
    Case(
        check="collected rows are in the ledger",
        name="changed afterwards",
        cut=outbound("UPDATE messages_out SET id = 'o-other'"),
        says="is o-other, and in the ledger it is o1",
    ),
    Case(
        check="written routes have arrived",
        name="lost",
        cut=inbound("DELETE FROM messages_in"),
        says="was routed to it and is not in its inbound.db",
    ),
    Case(
        check="waiting routes have not arrived",
        name="there",
        cut=lambda bench: bench.run_central_sql(
            f"UPDATE routes SET outcome = 'waiting', reason = 'busy' WHERE session_id = '{bench.idle_session.id}'"
        ),
        says="waits for its mailbox and is in it",
    ),
    Case(
        check="pending work is due",
        name="nobody would wake it",
        cut=inbound("UPDATE messages_in SET status = 'pending'"),
        says="waits, and the session is not due",
    ),
    Case(
        check="due sessions have work",
        name="due for nothing",
        cut=lambda bench: bench.run_central_sql(
            f"UPDATE sessions SET due_at = created_at WHERE id = '{bench.idle_session.id}'"
        ),
        says="is due, and nothing waits in its mailbox",
    ),
    Case(
        check="completed messages are not claimed",
        name="both",
        cut=_completed_under_way,
        says="is completed, and its runner still works on it",
    ),
    Case(
        check="central database integrity",
        name="an active task without a time",
        cut=central(TASK + "UPDATE tasks SET next_due = NULL"),
        says="CHECK constraint failed in tasks",
    ),
    Case(
        check="linked identities share a person number",
        name="of somebody who is not there",
        cut=central("INSERT INTO users VALUES (7, 'fake:bob', 'Bob', 3, '2026-01-01', '2026-01-01')"),
        says="user fake:bob is counted as person 3, whose first identity is number 7",
    ),
    Case(
        check="approvals match their digest",
        name="a card that was changed",
        cut=central(approval("pending", digest="d-else")),
        says="approval k3f7qd: its card or what it would do was changed",
    ),
    Case(
        check="closed items have an end time",
        name="an approval",
        cut=central(approval("denied")),
        says="approval k3f7qd is denied, and does not say since when",
    ),
    Case(
        check="closed items have an end time",
        name="a code",
        cut=central(
            "INSERT INTO codes (hash, purpose, created_by, created_at, expires_at, closed_at)"
            " VALUES ('x', 'owner', 'local:ann', '2026-01-01', '2026-01-01', '2026-01-01')"
        ),
        says="code 1 is open, and says since when",
    ),
    Case(
        check="open approvals have their request",
        name="nothing waits",
        cut=central(approval("pending", session="'s-rest'", seq="9")),
        says="approval k3f7qd is open, and request 9 of session s-rest does not wait for it",
    ),
    Case(
        check="cards have their message",
        name="nothing was said",
        cut=central(
            approval("pending") + "INSERT INTO approval_cards VALUES ('k3f7qd', 1, 'fake:ann', 12, '2026-01-01', NULL)"
        ),
        says="card 1 of approval k3f7qd, to fake:ann, has no message",
    ),
    Case(
        check="open questions have their message",
        name="nothing was asked",
        cut=central(
            "INSERT INTO questions (session_id, seq, out_id, channel_type, instance, platform_id, asked_at)"
            " VALUES ('s-rest', 9, 'o9', 'fake', 'default', 'rest', '2026-01-01')"
        ),
        says="question 9 of session s-rest is open, and its message is not there",
    ),
    Case(
        check="runs belong to a task",
        name="of another session",
        cut=lambda bench: bench.run_central_sql(TASK + RUN.format(session="s-other", started="NULL")),
        says="run 1 of task j1 in session s-other",
    ),
    Case(
        check="reported tokens match gateway",
        name="a runner that overstates",
        cut=central(
            "INSERT INTO turn_costs (session_id, turn_id, agent_group, ended_at, tokens_in, tokens_out, tokens_cached,"
            " cost_usd, gateway_calls, gateway_tokens) VALUES ('s-rest', 't1', 'rest', '2026-01-01', 90000, 0, 10000,"
            " 0, 1, 60000), ('s-rest', 't2', 'rest', '2026-01-01', 500000, 0, 0, 0, NULL, NULL)"
        ),
        says="the runner of session s-rest tells of 100000 tokens, the gateway saw 60000",
    ),
    Case(
        check="running runs are in the mailbox",
        name="nothing there",
        cut=lambda bench: bench.run_central_sql(
            TASK
            + f"UPDATE tasks SET session_id = '{bench.idle_session.id}';"
            + RUN.format(session=bench.idle_session.id, started="'2026-01-01'")
        ),
        says="a run of task j1 is under way, and k1 is not in inbound.db",
    ),
)


@pytest.mark.behaviour("OP-02")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.check}: {case.name}")
async def test_a_broken_invariant_is_found_by_its_check_only(home_fixture: HealthyHome, case: Case) -> None:
    case.cut(home_fixture)
    [found] = await home_fixture.verify()
    assert found.check == case.check
    [row] = found.rows
    assert case.says in row


@pytest.mark.behaviour("OP-02")
@pytest.mark.parametrize("host_running", [False, True])
async def test_an_intact_home_has_no_findings(home_fixture: HealthyHome, host_running: bool) -> None:
    assert await home_fixture.verify(host_running=host_running) == []


@pytest.mark.behaviour("OP-02", "RT-15")
async def test_an_unrecorded_edit_of_an_album_part_after_a_kill_is_no_finding(
    home_fixture: HealthyHome,
) -> None:
    copied = (
        "channel_type, instance, platform_id, is_group, mentions_bot, sender_handle, sender_name, sender_is_bot,"
        " chat_name, text, sent_at, received_at"
    )
    for values in ("'p2', 'message', NULL, 'dropped'", "'e1', 'edit', 'p2', 'new'"):
        home_fixture.run_central_sql(
            f"INSERT INTO inbound_events ({copied}, platform_message_id, event_kind, refers_to, status)"
            f" SELECT {copied}, {values} FROM inbound_events WHERE platform_id = 'rest' AND platform_message_id = 'p1'"
        )
    home_fixture.run_inbound_sql(home_fixture.idle_session, "UPDATE messages_in SET status = 'pending'")
    assert [one.check for one in await home_fixture.verify()] == ["pending work is due"]
    home_fixture.run_central_sql(
        "INSERT INTO album_pieces (event_id, joined_into, content) SELECT piece.id, whole.id, '{}'"
        " FROM inbound_events piece JOIN inbound_events whole USING (platform_id)"
        " WHERE piece.platform_message_id = 'p2' AND whole.platform_message_id = 'p1'"
    )
    assert await home_fixture.verify() == []


def test_every_check_is_broken_by_a_test_and_described() -> None:
    assert {case.check for case in CASES} == set(CHECKS)
    assert all("." in sentence for sentence in CHECKS.values())

"""Checks that nothing is lost between a session's two files and the central database."""

from __future__ import annotations

from collections.abc import Iterator

from nanohost.verify.session_view import PendingMessage, SessionView
from nanohost.verify.sessions import session_label

COLLECTED_ROW = """
SELECT out_id FROM deliveries WHERE session_id = :session AND seq = :seq
UNION ALL SELECT out_id FROM actions WHERE session_id = :session AND seq = :seq
"""
IS_DELETED = "SELECT 1 FROM retention_watermarks WHERE session_id = :session AND up_to_seq >= :seq"
NOTICE_PENDING = "SELECT 1 FROM actions WHERE session_id = ? AND notice_id = ? AND notified = 0"
RUN_PENDING = "SELECT 1 FROM task_runs WHERE message_id = ? AND started_at IS NULL AND ended_at IS NULL"
ROUTE_PENDING = "SELECT 1 FROM routes WHERE message_id = ? AND outcome = 'waiting'"
EVENT_PENDING = """
SELECT 1 FROM inbound_events e
WHERE status IN ('new', 'set_aside')
    AND channel_type IS ? AND instance IS ? AND platform_id IS ? AND ? IN (platform_message_id, refers_to, (
        SELECT whole.platform_message_id
        FROM inbound_events piece JOIN album_pieces p ON p.event_id = piece.id
            JOIN inbound_events whole ON whole.id = p.joined_into
        WHERE piece.channel_type = e.channel_type AND piece.instance = e.instance AND piece.platform_id = e.platform_id
            AND piece.platform_message_id = e.refers_to AND piece.event_kind = 'message'))
"""


def inbound_numbers_are_even(view: SessionView) -> Iterator[str]:
    """The host numbers its rows with even numbers."""
    for seq in view.inbound.odd_seqs if view.inbound else ():
        yield f"{session_label(view)}: row {seq} of inbound.db has an odd number"


def outbound_numbers_are_odd(view: SessionView) -> Iterator[str]:
    """The runner numbers its rows with odd numbers."""
    for seq, _ in view.outbound.rows if view.outbound else ():
        if seq % 2 == 0:
            yield f"{session_label(view)}: row {seq} of outbound.db has an even number"


def collected_rows_are_in_the_ledger(view: SessionView) -> Iterator[str]:
    """Every outbound row that the cursor has passed is recorded as a delivery or an action, with the same id."""
    for seq, out_id in view.outbound.rows if view.outbound else ():
        if seq > view.row.out_cursor:
            return
        key = {"session": view.row.id, "seq": seq}
        entry = view.central.execute(COLLECTED_ROW, key).fetchone()
        if entry is None and view.central.execute(IS_DELETED, key).fetchone() is None:
            yield f"{session_label(view)}: row {seq} ({out_id}) of outbound.db was passed over and is not in the ledger"
        elif entry is not None and entry["out_id"] != out_id:
            yield (
                f"{session_label(view)}: row {seq} of outbound.db is {out_id}, and in the "
                f"ledger it is {entry['out_id']}"
            )


def written_routes_have_arrived(view: SessionView) -> Iterator[str]:
    """A message that routing wrote is in the session's inbound.db."""
    for message in view.arrivals.missing:
        yield f"{session_label(view)}: message {message} was routed to it and is not in its inbound.db"


def waiting_routes_have_not_arrived(view: SessionView) -> Iterator[str]:
    """A message that waits for its mailbox is not in it, except until the next start after a kill in between."""
    for message in view.arrivals.premature:
        yield f"{session_label(view)}: message {message} waits for its mailbox and is in it"


def pending_work_is_due(view: SessionView) -> Iterator[str]:
    """A session with a message that waits for its agent has a due time, or it would never be woken."""
    if view.inbound is None or view.row.is_due:
        return
    for message in view.inbound.pending_messages:
        if not _is_record_pending(view, message):
            yield f"{session_label(view)}: message {message.id} waits, and the session is not due"


def _is_record_pending(view: SessionView, message: PendingMessage) -> bool:
    """Whether the row is written but not recorded yet: after a kill in between the host records it at its next
    start."""
    pending: tuple[tuple[str, tuple[str | None, ...]], ...] = (
        (ROUTE_PENDING, (message.id,)),
        (EVENT_PENDING, message.origin),
        (RUN_PENDING, (message.id,)),
        (NOTICE_PENDING, (view.row.id, message.id)),
    )
    return any(view.central.execute(query, values).fetchone() for query, values in pending)


def due_sessions_have_work(view: SessionView) -> Iterator[str]:
    """While no host runs, a session that is due has a waiting message, or an ack to process."""
    if view.is_host_running or not view.row.is_due or view.inbound is None or view.outbound is None:
        return
    if not view.inbound.pending_messages and not view.outbound.has_acks:
        yield f"{session_label(view)} is due, and nothing waits in its mailbox"


def completed_messages_are_not_claimed(view: SessionView) -> Iterator[str]:
    """A message that is completed in inbound.db has no open claim in outbound.db."""
    for message, claimed in view.inbound.claimed_messages.items() if view.inbound else ():
        if claimed.status == "completed":
            yield f"{session_label(view)}: message {message} is completed, and its runner still works on it"

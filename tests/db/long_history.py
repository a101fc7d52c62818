"""A central database with 100,000 rows in every table that grows: what was settled, in all the ways in which it can be,
and of what is open a few."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping

ROWS = 100_000
SMALL_TABLE_ROWS = 1_000
"""More are open only for a moment, or are a problem."""
BIG = "sBig"
"""The session with all of the history."""
EARLY, MIDDLE, LATE = "2000-01-01T00:00:00.000Z", "2023-11-15T12:06:40.000Z", "2099-01-01T00:00:00.000Z"
"""Before, amid and after the recorded times."""
ALL_TIME = "all time"
"""In place of a moment: since the first of these, until the last."""
AN_HOUR, HOUR_LATER = "an hour", "2023-11-15T13:06:40.000Z"
"""The same: since MIDDLE, until this."""

_NUMBERS = f"""
CREATE TEMP TABLE n AS WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers LIMIT {ROWS})
SELECT i, strftime('%Y-%m-%dT%H:%M:%fZ', 1700000000 + i, 'unixepoch') AS t FROM numbers
"""
"""Computed once: a time is written fifty times for each of them."""
_TIME = "n.t"
_PLACE = "'fake', 'default', 'c1'"
_SEQ = "iif(i % 10, 2 * i + 1, -2 * i - 1)"
"""The number of messages. Every tenth is a notice."""

_FIRST = """
INSERT INTO agent_groups (id, folder, name, created_at) VALUES (1, 'main', 'Main', :t), (2, 'other', 'Other', :t);
INSERT INTO messaging_groups (id, channel_type, instance, platform_id, is_group, name, unknown_sender, created_at)
VALUES (1, 'fake', 'default', 'c1', 1, '', 'public', :t), (2, 'fake', 'default', 'c2', 1, '', 'public', :t),
    (3, 'fake', 'default', 'c3', 1, '', 'public', :t);
INSERT INTO wirings
    (id, messaging_group_id, agent_group_id, engage_mode, engage_pattern, session_mode, priority, created_at)
VALUES (1, 1, 1, 'pattern', '.', 'shared', 0, :t), (3, 2, 1, 'pattern', '.', 'shared', 0, :t);
INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, created_at, last_active_at)
VALUES ('sBig', 1, 1, NULL, :t, :t), ('host', 2, NULL, NULL, :t, :t);
"""
# Open rows are the last: a walk from the beginning finds them after all others.
_MANY = (
    f"""INSERT INTO sessions (id, agent_group_id, messaging_group_id, thread_id, created_at, last_active_at, due_at,
        lease, runtime)
    SELECT 's' || i, 2, 2, 't' || i, {_TIME}, {_TIME}, iif(i > 99990, {_TIME}, NULL), iif(i > 99995, 'l' || i, NULL),
        iif(i > 99995, 'process', NULL) FROM n""",
    f"""INSERT INTO inbound_events (id, channel_type, instance, platform_id, platform_message_id, event_kind, thread_id,
        is_group, mentions_bot, sender_handle, sender_name, sender_is_bot, chat_name, text, sent_at, received_at,
        status, approval_id)
    SELECT i, {_PLACE}, 'm' || i, 'message', 't1', 1, 1, 'u' || i, 'Ada', 0, 'chat', 'hello', {_TIME}, {_TIME},
        CASE WHEN i > 99995 THEN 'new' WHEN i > 99990 THEN 'held' WHEN i % 4 < 2 THEN 'routed'
            WHEN i % 4 = 2 THEN 'dropped' ELSE 'set_aside' END,
        iif(i BETWEEN 99991 AND 99995, 'p' || i, NULL) FROM n""",
    "INSERT INTO album_pieces (event_id, joined_into, content) SELECT i, max(1, i - i % 10), '{}' FROM n",
    """INSERT INTO routes
        (event_id, wiring_id, outcome, reason, session_id, message_id, approval_id, trigger, thread_id)
    SELECT i, 1, CASE WHEN i > 99995 THEN 'waiting' WHEN i > 99990 THEN 'held' WHEN i % 5 = 1 THEN 'context'
            WHEN i % 5 = 2 THEN 'denied' WHEN i % 5 = 3 THEN 'not_engaged' ELSE 'written' END,
        '', 'sBig', 'i' || i, iif(i BETWEEN 99991 AND 99995, 'p' || i, NULL), i % 5 != 1, 't1' FROM n""",
    f"""INSERT INTO deliveries (session_id, seq, out_id, kind, channel_type, instance, platform_id, content, status,
        attempts, created_at, changed_at, card_key, turn_id)
    SELECT 'sBig', {_SEQ}, 'o' || i, iif(i % 9, 'chat', 'edit'), {_PLACE}, json_object('message', i),
        CASE WHEN i > 99995 THEN 'sending' WHEN i > 99990 THEN 'pending' WHEN i % 8 = 1 THEN 'dropped'
            WHEN i % 8 = 2 THEN 'dead' WHEN i % 8 = 3 THEN 'unknown' ELSE 'sent' END,
        1, {_TIME}, {_TIME}, 'c' || i, 't' || i FROM n""",
    f"""INSERT INTO deliveries (session_id, seq, out_id, kind, channel_type, instance, platform_id, content, status,
        attempts, created_at, changed_at)
    SELECT 'host', 2 * i + 1, 'h' || i, 'chat', {_PLACE}, '{{}}', 'sent', 1, {_TIME}, {_TIME} FROM n""",
    f"""INSERT INTO delivery_attempts (session_id, seq, number, started_at, ended_at, outcome)
    SELECT 'sBig', {_SEQ}, 1, {_TIME}, {_TIME}, 'sent' FROM n""",
    f"""INSERT INTO idempotency_keys (session_id, seq, key) SELECT 'sBig', {_SEQ}, 'k' || i FROM n""",
    f"""INSERT INTO late_failures (session_id, seq, platform_message_id, reason, failed_at, notified)
    SELECT 'sBig', {_SEQ}, 'p' || i, 'x', {_TIME}, 1 FROM n""",
    f"""INSERT INTO actions (session_id, seq, out_id, name, arguments, requested_at, status, notified, created_at,
        done_at, approval_id)
    SELECT 'sBig', 2 * i, 'a' || i, 'tasks.list', '{{}}', {_TIME},
        CASE WHEN i > 99995 THEN 'pending' WHEN i > 99990 THEN 'held' WHEN i % 4 = 1 THEN 'refused'
            WHEN i % 4 = 2 THEN 'failed' ELSE 'done' END,
        i <= 99990, {_TIME}, iif(i <= 99990, {_TIME}, NULL), iif(i % 4 = 1 OR i > 99990, 'p' || i, NULL) FROM n""",
    f"""INSERT INTO model_calls (session_id, started_at, duration_ms, status, tokens_in, tokens_out, tokens_cached,
        tokens_cache_written, turn_id)
    SELECT 'sBig', {_TIME}, 1, 200, 1, 1, 1, 1, CASE WHEN i <= 60000 THEN '' WHEN i <= 99990 THEN 't' || i END
    FROM n""",
    f"""INSERT INTO message_turns (session_id, message_id, turn_id, began_at, ended_at, outcome, changed_at)
    SELECT 'sBig', 'i' || i, 't' || i, {_TIME}, iif(i > 99995, NULL, {_TIME}),
        CASE WHEN i > 99995 THEN NULL WHEN i % 3 = 1 THEN 'failed' WHEN i % 3 = 2 THEN 'interrupted'
            ELSE 'completed' END, {_TIME} FROM n""",
    f"""INSERT INTO turn_costs (session_id, turn_id, agent_group, ended_at, tokens_in, tokens_out, tokens_cached,
        cost_usd) SELECT 'sBig', 't' || i, 'main', {_TIME}, 1, 1, 1, 0.1 FROM n""",
    f"""INSERT INTO turn_failures (session_id, error_class, sentence, since, latest_at, failures, held_until)
    SELECT 's' || i, 'model', '', {_TIME}, {_TIME}, 1, iif(i > 99990, {_TIME}, NULL) FROM n""",
    f"""INSERT INTO tasks (id, session_id, kind, content, timezone, next_due, status, misfire, created_by, created_at,
        changed_at, run_requested_at)
    SELECT 't' || i, 'sBig', 'agent', 'x', 'UTC', {_TIME},
        CASE WHEN i = 1 OR i > 99995 THEN 'active' WHEN i > 99990 THEN 'paused' WHEN i % 2 THEN 'done'
            ELSE 'cancelled' END, 'latest', 'x', {_TIME}, {_TIME}, iif(i = 99995, {_TIME}, NULL) FROM n""",
    # First those that were to run once, then the one that runs again and again.
    f"""INSERT INTO task_runs (task_id, session_id, due, message_id, decided_at, started_at, ended_at, outcome)
    SELECT iif(i <= 50000, 't' || (i + 1), 't1'), 'sBig', {_TIME}, 'r' || i, {_TIME}, iif(i <= 99995, {_TIME}, NULL),
        iif(i <= 99990, {_TIME}, NULL),
        CASE WHEN i > 99990 THEN NULL WHEN i % 3 = 1 THEN 'failed' WHEN i % 3 = 2 THEN 'skipped'
            ELSE 'completed' END FROM n""",
    f"""INSERT INTO users (user_id, name, person, first_seen_at, last_seen_at)
    SELECT 'fake:u' || i, 'Ada', i, {_TIME}, {_TIME} FROM n""",
    f"INSERT INTO dms SELECT 'fake:u' || i, {_PLACE}, NULL, {_TIME} FROM n",
    f"INSERT INTO dropped_messages SELECT {_PLACE}, 'fake:u' || i, 'x', '', 1, {_TIME}, {_TIME} FROM n",
    f"""INSERT INTO codes (hash, purpose, created_by, created_at, expires_at, status, closed_at)
    SELECT 'h' || i, iif(i % 2, 'link', 'owner'), 'x', {_TIME}, {_TIME},
        CASE WHEN i > 99990 THEN 'open' WHEN i % 3 = 1 THEN 'used' WHEN i % 3 = 2 THEN 'burned' ELSE 'expired' END,
        iif(i > 99990, NULL, {_TIME}) FROM n""",
    f"INSERT INTO code_guesses SELECT 'fake:u' || i, 1, {_TIME} FROM n",
    f"""INSERT INTO approvals (id, kind, subject, rendered_text, options, payload, requested_by, session_id, seq,
        created_at, expires_at, status, decided_at, digest)
    SELECT 'p' || i, 'sender', iif(i > 99990, 'x' || i, 'x'), '', '[]', '{{}}', 'x', 'sBig', i, {_TIME}, {_TIME},
        CASE WHEN i > 99990 THEN 'pending' WHEN i % 5 = 1 THEN 'denied' WHEN i % 5 = 2 THEN 'expired'
            WHEN i % 5 = 3 THEN 'failed' WHEN i % 5 = 4 THEN 'withdrawn' ELSE 'approved' END,
        iif(i > 99990, NULL, {_TIME}), '' FROM n""",
    f"INSERT INTO approval_cards SELECT 'p' || i, 1, 'fake:u1', 1000000 + i, {_TIME}, NULL FROM n",
    "INSERT INTO unauthorized_decisions SELECT 'p' || i, 'fake:u1', 1 FROM n",
    f"""INSERT INTO rules (kind, effect, subject, created_by, created_at, expires_at, ended_at)
    SELECT 'sender', iif(i % 4 < 2, 'allow', 'deny'), 's' || i, 'x', {_TIME}, iif(i > 99990, {_TIME}, NULL),
        iif(i % 2, {_TIME}, NULL) FROM n""",
    f"""INSERT INTO questions (session_id, seq, out_id, channel_type, instance, platform_id, asked_at, status, event_id)
    SELECT 'sBig', {_SEQ}, 'o' || i, {_PLACE}, {_TIME},
        CASE WHEN i > 99990 THEN 'open' WHEN i % 2 THEN 'answered' ELSE 'closed' END,
        iif(i <= 99990 AND i % 2, i, NULL) FROM n""",
    f"""INSERT INTO audit_log (at, actor, action, target, origin, outcome, details)
    SELECT {_TIME}, 'host', 'x', 'x', '', 'done', '{{}}' FROM n""",
    "INSERT INTO retention_watermarks SELECT 's' || i, 1 FROM n",
)


def fill_history(db: sqlite3.Connection) -> None:
    """Create the history. Foreign keys are off meanwhile: tables are filled in any order."""
    db.execute("PRAGMA synchronous = OFF")
    db.execute(_NUMBERS)
    db.execute("BEGIN")
    for statement in _FIRST.split(";")[:-1]:
        db.execute(statement, {"t": EARLY})
    for statement in _MANY:
        db.execute(statement)
    db.execute("COMMIT")
    db.execute("DROP TABLE temp.n")


_NAMED: Mapping[str, object] = {
    "session_id": BIG, "session": BIG, "chat": 1, "host": "host", "channel_type": "fake", "instance": "default",
    "platform_id": "c1", "thread_id": "t2", "channel": "fake", "kind": "sender", "subject": "x", "group": 1,
    "agent_group_id": 1, "messaging_group_id": 1, "wiring_id": 1, "event_id": 1, "folder": "main", "name": "x",
    "seq": 3, "number": 1, "out_id": "none", "card_key": "none", "message": 0, "message_id": "none",
    "approval_id": "none", "task_id": "t1", "hash": "none", "user_id": "fake:u1", "user": "fake:u1", "by": "x",
    "one": "fake:u1", "other": "fake:u2", "person": 1, "status": "done", "purpose": "link", "lease": "none",
    "limit": 200, "most": 50, "after": 0, "after_id": 0, "below": ROWS, "rest": 1, "id": 3, "ids": "[1, 2, 3]",
    "json": "[1, 2, 3]", "start": "t1", "turn_id": "t1", "event_kind": "message", "platform_message_id": "none",
    "notice_id": "none", "event": 1, "role": "member", "trigger": 1, "up_to_seq": 1, "attempt": 1, "singleton": 1,
    "again": 1, "reason": "x", "ended_by": "x", "thread": "t2", "wiring": 1, "agent_group": "main", "content": 20_000,
    "turns": "", "model": None, "choice": None, "provider": None, "outcome": "x", "problem": None, "actor": "x",
    "used_by": None, "receipt": "[]", "unknown_sender": "public", "is_group": 1, "answer": "x", "ended": 0,
    "out_cursor": 1, "ack_cursor": 1, "runtime": "x", "runtime_state": "{}", "all": 0, "is_relative": 0,
    "engage_mode": "pattern", "engage_pattern": ".", "session_mode": "shared", "priority": 0, "sender_scope": "all",
    "ignored": "drop", "bots": 0, "cron": None, "timezone": "UTC", "failures_in_a_row": 0, "error": None, "cost_usd": 0,
    "tokens_in": 0, "tokens_out": 0, "tokens_cached": 0, "target": None, "actions": None, "misfire": "latest",
    "notified_chats": "[]", "kinds": '["sender"]', "rowid": 1, "cards": 0, "key": "none", "joined_into": 10,
    "text": "x", "mentions_bot": 0, "refers_to": None, "attachments": "[]", "parts": "[]", "old": "c1", "new": "c9",
    "old_name": "x", "new_name": "y", "moved_to": "c1", "reply_to": None, "a_destination": "destinations.add",
    "first": -(2**62), "end": 0, "of": 64, "has_failures": 0, "attempts_before_resend": 0,
}  # fmt: skip
_NUMBERED = re.compile(r"\?(\d+)")
_TEXT_IDS = {"sessions": BIG, "tasks": "t1", "approvals": "p1"}
_TIMES = re.compile(r"(now|before|since|until|lately|over|overdue|soon|seen|at|due|[a-z_]*_(at|due|until|before))")
_QUOTED = re.compile(r"'[^']*'")
_BEFORE = re.compile(r"([a-z_.]+)\)?\s*(?:=|<=|>=|<|>|!=|IS NOT|IS)\s*(?:ifnull\()?$")


def null_values(sql: str) -> dict[str, None] | list[None]:
    """NULL for every parameter: a plan is the same for all values."""
    sql = _QUOTED.sub("''", sql)
    names = re.findall(r"(?<!\w):(\w+)", sql)
    return dict.fromkeys(names) if names else [None] * len(_marks(sql))


class UnknownPlaceholder(Exception):
    """A placeholder without a known value."""


def values(sql: str, moment: str) -> dict[str, object] | list[object]:
    """What to run a statement with: the big session, its chat, and this moment wherever a time is asked for. With
    ALL_TIME, or AN_HOUR, a time after which something has to be is the first, and any other the last.

    Raises Unknown for a name that is new: give it a value in `_NAMED`.
    """
    table = re.search(r"\b(?:FROM|INTO|UPDATE)\s+(\w+)", sql)
    ids = {"id": _TEXT_IDS.get(table[1] if table else "", 3)}
    sql = _QUOTED.sub("''", sql)
    names = re.findall(r"(?<!\w):(\w+)", sql)
    if names:
        return {name: _value(name, ids, _bound(moment, sql[: sql.index(f":{name}")])) for name in names}
    return [_value(_column(sql[:at]), ids, _bound(moment, sql[:at])) for at in _marks(sql)]


def _bound(moment: str, before: str) -> str:
    spans = {ALL_TIME: (EARLY, LATE), AN_HOUR: (MIDDLE, HOUR_LATER)}
    if moment not in spans:
        return moment
    since, until = spans[moment]
    return since if re.search(r">=? \(?$", before) else until


def _marks(sql: str) -> list[int]:
    """Where each value is asked for: by its number, or in order."""
    numbered = {int(mark[1]): mark.start() for mark in reversed(list(_NUMBERED.finditer(sql)))}
    return [numbered[number] for number in sorted(numbered)] or [mark.start() for mark in re.finditer(r"\?", sql)]


def _column(before: str) -> str:
    """The column of a placeholder, by the text before it."""
    if before.endswith("json_each("):
        return "json"
    if re.search(r"\bLIMIT $", before):
        return "limit"
    if re.search(r"\b(?:AND|OR|NOT|WHEN) $", before) and not re.search(r"BETWEEN \? AND $", before):
        return "again"
    if between := re.search(r"(\w+) (?:NOT )?BETWEEN (?:\? AND )?$", before):
        return between[1]
    if coalesced := re.search(r"ifnull\((?:\w+\.)?(\w+),[^)]*\)\s*=\s*ifnull\($", before):
        return coalesced[1]
    if aggregate := re.search(r"(?:max|min|ifnull|nullif)\((\w+), $", before):
        return aggregate[1]
    if inside := re.search(r"([a-z_.]+) (?:NOT )?IN \([?, ]*$", before):
        return inside[1]
    found = _BEFORE.search(before)
    name = found[1] if found else before[-40:]
    return name if name in _NAMED else name.split(".")[-1]


def _value(name: str, ids: Mapping[str, object], moment: str) -> object:
    if name in ids:
        return ids[name]
    if name in _NAMED:
        return _NAMED[name]
    if _TIMES.fullmatch(name):
        return moment
    raise UnknownPlaceholder(name)
